"""Finite groups of rigid motions: grown from approximate members, made exact, laid along the coordinate axes.

Motions are (S, 4, 4) with the identity first; the object's centroid is near the origin.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from sopose.core.geometry.rotation import nearest_rotations
from sopose.core.symmetry.motion_search import angle_between, through

SAME, APART = 2.5, 5.0  # degrees: members this near are one, members of a group are this far from each other
LARGEST = 120  # members: an order of 60 with half turns, or the icosahedron's twice
STRAIGHT = 0.5  # degrees by which an axis may be turned onto a coordinate axis


def grow(group: np.ndarray, more: np.ndarray, improve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
    """The group that `group` (S, 4, 4) and one more motion (4, 4) make; None where they make none that is small.

    improve: takes products (K, 4, 4) of members, whose errors add up, to the true motions nearest to them.
    """
    members = np.concatenate([group, more[None]])
    makers, fresh = members[1:], members[-1:]
    while len(fresh):
        products = np.concatenate([fresh @ maker for maker in makers] + [maker @ fresh for maker in makers])
        fresh = np.empty((0, 4, 4))
        for product in products:
            nearest = angle_between(np.concatenate([members, fresh]), product).min()
            if nearest < SAME:
                continue
            if nearest < APART or len(members) + len(fresh) >= LARGEST:
                return None
            fresh = np.concatenate([fresh, product[None]])
        fresh = improve(fresh)
        members = np.concatenate([members, fresh])
    return members


def make_exact(members: np.ndarray) -> np.ndarray | None:
    """The exact group nearest to approximate members (S, 4, 4), with one common fixed point; None if not closed."""
    rotations = members[:, :3, :3]
    products = np.einsum("aij,bjk->abik", rotations, rotations)
    traces = np.einsum("abij,cij->abc", products, rotations)
    table = traces.argmax(axis=2)  # member a after b is member table[a, b]
    if (np.sort(table, axis=1) != np.arange(len(members))).any():
        return None
    for _ in range(8):  # converges quadratically: each is replaced by what the others say that it is
        implied = np.einsum("abij,bkj->aik", rotations[table], rotations)
        rotations = nearest_rotations(implied)
    return through(common_point(members), _motions(rotations))


def common_point(members: np.ndarray) -> np.ndarray:
    """The point (3,) that motions (S, 4, 4) move least; where several do, the one nearest to the origin."""
    return np.linalg.lstsq((np.eye(3) - members[:, :3, :3]).reshape(-1, 3), members[:, :3, 3].reshape(-1), rcond=1e-3)[
        0
    ]


def straighten(group: np.ndarray) -> np.ndarray:
    """The group turned a little, so that axes of it which nearly are coordinate axes become them."""
    axes = np.array([rotation_axis(member[:3, :3]) for member in group[1:]])
    nearest = np.abs(axes).argmax(axis=1)
    towards = np.eye(3)[nearest] * np.sign(np.take_along_axis(axes, nearest[:, None], 1))
    close = np.einsum("ni,ni->n", axes, towards) >= np.cos(np.radians(STRAIGHT))
    if not close.any():
        return group
    onto = _turn_onto(axes[close], towards[close])
    rotations = onto @ group[:, :3, :3] @ onto.T
    rotations = np.where(np.abs(rotations - np.round(rotations)) < 1e-9, np.round(rotations) + 0.0, rotations)
    return through(common_point(group), _motions(rotations))


def rotation_axis(rotation: np.ndarray) -> np.ndarray:
    """(3,) unit axis of a rotation (3, 3) that is not the identity; its greatest coordinate is positive."""
    vector = Rotation.from_matrix(rotation).as_rotvec()
    axis = vector / np.linalg.norm(vector)
    return axis * np.sign(axis[np.argmax(np.abs(np.round(axis, 6)))])


def _turn_onto(axes: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """(3, 3) smallest rotation that brings unit axes (N, 3) nearest to unit vectors (N, 3)."""
    first = Rotation.align_vectors(towards[:1], axes[:1])[0]
    others = np.abs(towards @ towards[0]) < 0.5
    if not others.any():
        return first.as_matrix()
    # The axes of a group are at right angles where their coordinate axes are, so that a second turn ends it.
    moved = first.apply(axes[others][0])
    angle = np.arctan2(np.cross(moved, towards[others][0]) @ towards[0], moved @ towards[others][0])
    return (Rotation.from_rotvec(angle * towards[0]) * first).as_matrix()


def _motions(rotations: np.ndarray) -> np.ndarray:
    """Rotations (S, 3, 3) as motions (S, 4, 4) about the origin."""
    motions = np.tile(np.eye(4), (len(rotations), 1, 1))
    motions[:, :3, :3] = rotations
    return motions
