"""What files of anyone may say of objects: names, ids, and how many of everything."""

from __future__ import annotations

from collections.abc import Sequence

MOST_OBJECTS = 10_000
MOST_NAME = 200  # letters of an object's name
LARGEST_ID = 2**31
# The icosahedron's group has 120 members, and each may be combined with every turn about each axis.
MOST_SYMMETRIES = {"symmetries_discrete": 500, "symmetries_continuous": 6}


def objects_fault(names: Sequence[str], obj_ids: Sequence[int]) -> str:
    """What is wrong with a network's objects, one name and one BOP id for each class; empty where nothing is."""
    if not 0 < len(names) <= MOST_OBJECTS:
        return f"there must be 1 to {MOST_OBJECTS} objects, and there are {len(names)}"
    if len(set(names)) != len(names):
        return "two objects have one name, each needs a name of its own"
    if not all(0 < len(name) <= MOST_NAME and name.isprintable() for name in names):
        return f"objects must be names of at most {MOST_NAME} letters"
    if not all(0 <= obj_id < LARGEST_ID for obj_id in obj_ids):
        return "ids of objects must be BOP's ids"
    return ""
