"""Groups of keys as dataclasses and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from sopose.core.config.typed import AtLeast, AtMost, AtMostEntries, field_keys, plain, typed
from sopose.core.utils.errors import UserError


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, AtLeast(1)]
    ratio: float
    span: tuple[float, float]


@dataclass(frozen=True)
class Outer:
    name: str
    on: bool
    files: tuple[str, ...]
    indices: tuple[int, ...]
    any: Mapping[str, Any]
    inner: Inner


VALUES = {
    "NAME": "x",
    "OLD": 3,
    "ON": True,
    "FILES": ["a"],
    "INDICES": (1, 2),
    "ANY": {"type": "SGD", "lr": 1},
    "INNER": {"size": 2, "RATIO": 1, "SPAN": [0, 0.5], "GONE": None},
    "DEAD": {"A": 1},
}


def changed(name: str, value: object) -> dict[str, Any]:
    if name.startswith("INNER."):
        return {**VALUES, "INNER": {**VALUES["INNER"], name.partition(".")[2]: value}}
    return {**VALUES, name: value}


def test_values_become_fields_lists_become_tuples_and_whole_numbers_serve_as_numbers():
    outer = typed(Outer, VALUES)
    assert outer == Outer("x", True, ("a",), (1, 2), {"type": "SGD", "lr": 1}, Inner(2, 1.0, (0.0, 0.5)))
    assert isinstance(outer.inner.ratio, float) and isinstance(outer.inner.span[0], float)


def test_plain_values_have_the_keys_and_the_order_of_the_schema():
    values = plain(typed(Outer, changed("NAME", "y")), VALUES)
    assert list(values) == list(VALUES) and list(values["INNER"]) == list(VALUES["INNER"])
    assert values == {
        **VALUES,
        "NAME": "y",
        "FILES": ("a",),
        "INNER": {"size": 2, "RATIO": 1.0, "SPAN": (0.0, 0.5), "GONE": None},
    }
    assert typed(Outer, values) == typed(Outer, changed("NAME", "y"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NAME", 3, "NAME must be text, got 3"),
        ("ON", 1, "ON must be True or False, got 1"),
        ("INNER.size", 2.0, r"INNER\.size must be a whole number, got 2\.0"),
        ("INNER.size", True, r"INNER\.size must be a whole number, got True"),
        ("INNER.size", 0, r"INNER\.size must be at least 1, got 0"),
        ("INNER.RATIO", "a", r"INNER\.RATIO must be a number, got 'a'"),
        ("INNER.RATIO", 10**400, r"INNER\.RATIO must be a number"),
        ("INNER.SPAN", [1], r"INNER\.SPAN must have 2 entries, got \[1\]"),
        ("INNER.SPAN", [1, None], r"INNER\.SPAN must be a list of numbers"),
        ("FILES", [3], r"FILES must be a list of names, got \[3\]"),
        ("FILES", "a", "FILES must be a list of names, got 'a'"),
        ("INDICES", [0.5], r"INDICES must be a list of whole numbers, got \[0\.5\]"),
        ("INNER", 3, "INNER must be a group of keys, got 3"),
        ("ANY", [], r"ANY must be a group of keys, got \[\]"),
    ],
)
def test_a_value_of_another_type_is_named_by_its_key(name, value, message):
    with pytest.raises(UserError, match=f"^{message}"):
        typed(Outer, changed(name, value))


def test_fields_name_their_keys():
    assert field_keys(Outer, VALUES) == [
        *("NAME", "ON", "FILES", "INDICES", "ANY", "INNER.size", "INNER.RATIO", "INNER.SPAN")
    ]
    assert field_keys(Inner, {}) == ["size", "ratio", "span"]


@dataclass(frozen=True)
class Bounded:
    share: Annotated[float, AtLeast(0), AtMost(1)]
    angles: Annotated[tuple[float, ...], AtLeast(-180), AtMost(180), AtMostEntries(2)]


@pytest.mark.parametrize(
    ("share", "angles", "message"),
    [
        (1.1, [], "SHARE must be at most 1, got 1.1"),
        (float("nan"), [], "SHARE must be at least 0, got nan"),
        (0.5, [0, 181], "ANGLES must be at most 180"),
        (0.5, [-181], "ANGLES must be at least -180"),
        (0.5, [float("nan")], "ANGLES must be at least -180"),
        (0.5, [1, 2, 3], "ANGLES may have 2 entries at most, got 3"),
    ],
)
def test_bounds_hold_for_numbers_and_for_each_entry_of_a_list(share, angles, message):
    assert typed(Bounded, {"SHARE": 0, "ANGLES": [-180, 180]}) == Bounded(0.0, (-180.0, 180.0))
    with pytest.raises(UserError, match=message):
        typed(Bounded, {"SHARE": share, "ANGLES": angles})
