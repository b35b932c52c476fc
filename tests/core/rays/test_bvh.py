"""The hierarchy: boxes hold what is in them, every triangle is in one leaf, links lead through the tree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.rays.bvh import BOX_MARGIN, END, LEAF_FACES, Bvh, build_bvh
from tests.support.ray_cases import icosphere


def soup(count: int, seed: int) -> np.ndarray:
    """(F, 3, 3) triangles of very different sizes, all coordinates within ±1."""
    rng = np.random.default_rng(seed)
    size = 10 ** rng.uniform(-4, 0, (count, 1, 1))
    return np.clip(rng.uniform(-1, 1, (count, 1, 3)) + size * rng.uniform(-1, 1, (count, 3, 3)), -1, 1)


def visited(bvh: Bvh, octant: int, met: np.ndarray) -> list[int]:
    """The nodes of a walk for which the boxes `met` (M,) are met."""
    links, node, path = bvh.links()[octant], 0, []
    while node != END:
        path.append(node)
        node = int(links[node, 0 if met[node] else 1])
        assert len(path) <= len(met)
    return path


def below(bvh: Bvh, node: int) -> set[int]:
    """A node with all nodes under it."""
    if bvh.child[node] < 0:
        return {node}
    return {node} | below(bvh, bvh.child[node]) | below(bvh, bvh.child[node] + 1)


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_every_triangle_is_in_one_leaf_and_boxes_hold_it(count, seed):
    corners = soup(count, seed)
    bvh = build_bvh(corners)
    leaves = np.flatnonzero(bvh.child < 0)
    assert sorted(bvh.order) == list(range(count))
    in_leaves = [slot for first, number in bvh.slots[leaves] for slot in range(first, first + number)]
    assert sorted(in_leaves) == list(range(count))
    assert bvh.slots[leaves, 1].min() >= 1 and bvh.slots[leaves, 1].max() <= LEAF_FACES
    assert (bvh.slots[bvh.child >= 0] == 0).all()
    for node in range(len(bvh.child)):
        slots = [s for leaf in below(bvh, node) for s in range(bvh.slots[leaf, 0], bvh.slots[leaf].sum())]
        points = corners[bvh.order[slots]].reshape(-1, 3)
        # Half of the margin at least is left by float32.
        assert (points.min(axis=0) - bvh.boxes[node, :3] >= BOX_MARGIN / 2).all()
        assert (bvh.boxes[node, 3:] - points.max(axis=0) >= BOX_MARGIN / 2).all()


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_links_lead_through_every_node_once_and_past_those_not_met(count, seed, octant):
    bvh = build_bvh(soup(count, seed))
    everything = np.ones(len(bvh.child), bool)
    assert sorted(visited(bvh, octant, everything)) == list(range(len(bvh.child)))
    met = np.random.default_rng(seed).random(len(bvh.child)) < 0.7
    hidden = set().union(*(below(bvh, node) - {node} for node in np.flatnonzero(~met)))
    assert set(visited(bvh, octant, met)) == set(range(len(bvh.child))) - hidden


@pytest.mark.parametrize("octant", range(8))
def test_the_nearer_child_comes_first(octant):
    bvh = build_bvh(soup(200, 0))
    path = visited(bvh, octant, np.ones(len(bvh.child), bool))
    place = np.argsort(path)
    inner = np.flatnonzero(bvh.child >= 0)
    first = bvh.child[inner]
    lower_first = place[first] < place[first + 1]
    assert np.array_equal(lower_first, (octant >> bvh.axis[inner].astype(int)) & 1 == 0)


def test_triangles_on_one_spot_are_halved_by_number():
    corners = np.tile(soup(1, 0), (1000, 1, 1))
    bvh = build_bvh(corners)
    assert bvh.slots[:, 1].max() <= LEAF_FACES
    assert len(bvh.child) < 1000


def test_a_staircase_of_ever_smaller_triangles_makes_no_deep_tree():
    # Every plane of the area heuristic takes one triangle off; the limit ends that.
    size = 0.5 ** np.arange(300)[:, None, None]
    corners = size * np.array([[0.5, 0.5, 0.5], [1, 0.5, 0.5], [0.5, 1, 1]])
    bvh = build_bvh(corners)
    assert len(bvh._levels()) < 60
    assert sorted(bvh.order) == list(range(300))


def test_boxes_part_a_surface_well():
    vertices, faces = icosphere(1.0, 4)
    bvh = build_bvh(vertices[faces])
    low, high = bvh.boxes[:, :3], bvh.boxes[:, 3:]
    middle = ((low <= 0.02) & (high >= 0.02))[:, :2].all(axis=1)  # boxes that a ray along z through the sphere meets
    assert middle.sum() < 0.02 * len(middle)
