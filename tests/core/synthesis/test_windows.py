"""Shaded windows: crops of one show what a rendering of the crop itself shows."""

from __future__ import annotations

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.data.roi import DZI_TYPES, Roi, dzi_window, part_inside, roi_positions, sample_dzi
from sopose.core.render.shade import render_rgb
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions
from sopose.core.synthesis.windows import Foreground, foreground_of, shade_window

K = np.array([[572.4, 0, 325.3], [0, 573.6, 242.0], [0, 0, 1]])
SIZE = (640, 480)


@pytest.fixture(scope="module")
def drawer(toy_root) -> SceneDrawer:
    return SceneDrawer(load_models(toy_root / "models"), SceneOptions(K, SIZE), Backgrounds())


@pytest.mark.parametrize("dzi_type", DZI_TYPES)
def test_a_window_holds_every_roi(dzi_type):
    rng, box = np.random.default_rng(0), np.array([200.0, 150.0, 290.0, 270.0])
    window = dzi_window(box, dzi_type)
    for _ in range(500):
        roi = sample_dzi(box, SIZE, rng, dzi_type)
        assert (np.abs(roi.center - window.center) + roi.size / 2 <= window.size / 2 + 1e-9).all()


def test_a_crop_of_a_window_is_a_rendering_of_the_crop(drawer):
    """On the grid that the window was rendered at, pixel by pixel; light is cast at other places of the lattice."""
    differences = []
    for seed in range(6):
        scene = drawer.around(1 + seed % 4, np.random.default_rng(seed))
        roi = dzi_window(scene.box)
        side = round(roi.size)
        window = shade_window(drawer, scene, Roi(roi.center, float(side), roi.wh), side)
        crop = Roi(roi.center, float(side - 2 * (side // 8)), roi.wh)
        count = round(crop.size)
        positions = roi_positions(crop, count)
        part = part_inside(positions, SIZE)
        seen = window.foreground(crop, count).part(part)
        direct = foreground_of(render_rgb(scene.of(drawer.models), positions[part]), positions[part].shape[:2])
        np.testing.assert_array_equal(seen.opacity, direct.opacity)
        np.testing.assert_array_equal(seen.target, direct.target)
        differences.append(np.abs(seen.bgr.astype(int) - direct.bgr)[direct.opacity > 0].mean())
    assert np.median(differences) < 4  # of 255 levels


def test_nothing_is_shown_off_the_image(drawer):
    scene = drawer.around(1, np.random.default_rng(3))
    window = shade_window(drawer, scene, Roi(np.zeros(2), 80.0, np.full(2, 40.0)), 80)
    # Samples lie at -40, -39, … 39; those from 0 on are pixels of the image.
    assert not window.layers[:40].any() and not window.layers[:, :40].any()


def test_a_finer_window_than_asked_is_not_rendered(drawer):
    scene = drawer.around(1, np.random.default_rng(0))
    assert shade_window(drawer, scene, Roi(np.full(2, 200.0), 300.0, np.ones(2)), 64).target.shape == (64, 64)
    assert shade_window(drawer, scene, Roi(np.full(2, 200.0), 20.4, np.ones(2)), 64).target.shape == (20, 20)


def test_the_background_shows_by_the_opacity():
    opacity = np.array([[0, 51, 255]], np.uint8)
    bgr = np.repeat((np.array([[0, 40, 200]]) * 1)[..., None], 3, axis=2).astype(np.uint8)
    seen = Foreground(bgr, opacity, np.zeros_like(opacity))
    shown = seen.before(np.full((1, 3, 3), 100, np.uint8))
    np.testing.assert_array_equal(shown[0, :, 0], [100, 40 + 80, 200])


def test_a_target_taken_away_leaves_the_background_and_the_others():
    opacity, target = np.full((1, 3), 255, np.uint8), np.array([[255, 255, 0]], np.uint8)
    seen = Foreground(np.full((1, 3, 3), 9, np.uint8), opacity, target)
    left = seen.without_target(np.array([[True, False, True]]))
    np.testing.assert_array_equal(left.before(np.full((1, 3, 3), 100, np.uint8))[0, :, 0], [100, 9, 9])
