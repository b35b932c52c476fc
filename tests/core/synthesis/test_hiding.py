"""Shapes before crops: as many as asked for, the same at every resolution, and never all of the object."""

from __future__ import annotations

import numpy as np
import pytest

from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.hiding import HidingRange, HidingShape, covered, paint
from sopose.core.utils.errors import UserError

ALL = np.ones((32, 32), bool)
SQUARE = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.5], [0.25, 0.5]])


def drawn(hiding: HidingRange, visible: np.ndarray, count: int) -> list[tuple[HidingShape, ...]]:
    return [hiding.draw(visible, np.random.default_rng(seed)) for seed in range(count)]


def test_without_hiding_no_number_is_drawn():
    rng = np.random.default_rng(0)
    assert HidingRange().draw(ALL, rng) == ()
    assert rng.random() == np.random.default_rng(0).random()


def test_crops_are_hidden_as_often_as_asked_for_and_by_no_more_shapes():
    found = drawn(HidingRange(prob=0.75, most=3), ALL, 600)
    assert np.mean([bool(shapes) for shapes in found]) == pytest.approx(0.75, abs=0.05)
    assert {len(shapes) for shapes in found} == {0, 1, 2, 3}


@pytest.mark.parametrize("radius", [(0.08, 0.3), (0.6, 1.0)])
def test_enough_of_the_object_is_left(radius):
    visible = np.zeros((32, 32), bool)
    visible[10:20, 8:24] = True
    hiding = HidingRange(prob=1.0, radius=radius, leaves=0.4)
    left = [(visible & ~covered(shapes, 32)).sum() / visible.sum() for shapes in drawn(hiding, visible, 200)]
    assert min(left) >= 0.4 and np.mean(left) < 0.97


def test_a_shape_covers_the_same_part_at_every_resolution():
    for side in (16, 64, 128):
        mask = covered([HidingShape(SQUARE, None)], side)
        rows, columns = np.nonzero(mask)
        assert (columns.min(), columns.max()) == (side // 4, 3 * side // 4)
        assert (rows.min(), rows.max()) == (side // 4, side // 2)
    for shapes in drawn(HidingRange(prob=1.0), ALL, 50):
        assert covered(shapes, 32).mean() == pytest.approx(covered(shapes, 256).mean(), abs=0.06)


def test_bars_go_from_side_to_side():
    for (shape,) in drawn(HidingRange(prob=1.0, most=1, bar_prob=1.0, leaves=0.0), ALL, 40):
        mask = covered([shape], 64)
        edges = [mask[0].any(), mask[-1].any(), mask[:, 0].any(), mask[:, -1].any()]
        assert sum(edges) >= 2 and mask.mean() < 0.3


def test_paint_changes_the_covered_pixels_alone():
    image = np.full((64, 64, 3), 90, np.uint8)
    backgrounds = Backgrounds()
    assert paint(image, (), backgrounds, np.random.default_rng(0)) is image
    for color in ((1, 2, 3), None):
        shape = HidingShape(SQUARE, color)
        seen = paint(image, [shape], backgrounds, np.random.default_rng(0))
        mask = covered([shape], 64)
        assert (seen[~mask] == 90).all() and (image == 90).all()
        assert (seen[mask] == color).all() if color else (seen[mask] != 90).any()
    front = paint(image, [HidingShape(SQUARE, (9, 9, 9)), HidingShape(SQUARE, (5, 5, 5))], backgrounds, None)
    assert (front[mask] == 5).all(), "the last is in front"


def test_an_impossible_share_is_refused():
    with pytest.raises(UserError, match=r"CAD\.HIDE_PROB must be in \[0, 1\], got 1.5"):
        HidingRange(prob=1.5)
