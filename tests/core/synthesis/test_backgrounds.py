"""Backgrounds from a folder and from nothing."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest

from sopose.core.synthesis.backgrounds import CACHED_IMAGES, Backgrounds, procedural_background
from sopose.core.utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Three one-colour images at different depths, and a file that is none."""
    for name, level in (("a.jpg", 40), ("sub/b.png", 120), ("sub/deeper/c.JPG", 200)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((60, 90, 3), level, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_images_of_any_depth_are_used(folder):
    backgrounds = Backgrounds(folder)
    rng = np.random.default_rng(0)
    levels = {round(backgrounds.sample((32, 24), rng).mean() / 40) for _ in range(60)}
    assert levels == {1, 3, 5}


@pytest.mark.parametrize("size", [(32, 24), (24, 64), (300, 200), (1, 1)])
@pytest.mark.parametrize("procedural", [True, False])
def test_a_background_has_the_wanted_size(folder, size, procedural):
    background = Backgrounds(None if procedural else folder).sample(size, np.random.default_rng(0))
    assert background.shape == (size[1], size[0], 3) and background.dtype == np.uint8


def test_windows_keep_the_aspect_unless_set_otherwise(tmp_path):
    image = np.zeros((100, 200, 3), np.uint8)
    cv2.circle(image, (100, 50), 40, (255, 255, 255), -1)
    cv2.imwrite(str(tmp_path / "disc.png"), image)
    wide = Backgrounds(tmp_path, keep_aspect=False).sample((64, 64), np.random.default_rng(3))
    square = Backgrounds(tmp_path).sample((64, 64), np.random.default_rng(3))
    assert not np.array_equal(wide, square)


def test_the_number_of_images_can_be_limited(folder):
    assert len(Backgrounds(folder, max_images=2).paths) == 2
    assert len(Backgrounds(folder, max_images=100).paths) == 3


@pytest.mark.parametrize("procedural", [True, False])
def test_the_seed_decides(folder, procedural):
    def sample(seed: int) -> bytes:
        backgrounds = Backgrounds(None if procedural else folder)
        return backgrounds.sample((20, 20), np.random.default_rng(seed)).tobytes()

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(10)}) > (8 if procedural else 1)


def test_procedural_backgrounds_are_neither_flat_nor_saturated():
    images = [procedural_background((64, 64), np.random.default_rng(seed)) for seed in range(40)]
    assert np.median([image.std() for image in images]) > 15
    assert 60 < np.mean(images) < 190


def test_the_cache_is_bounded_and_not_pickled(folder):
    backgrounds = Backgrounds(folder)
    for seed in range(20):
        backgrounds.sample((8, 8), np.random.default_rng(seed))
    assert 0 < len(backgrounds._cache) <= CACHED_IMAGES
    assert len(pickle.loads(pickle.dumps(backgrounds))._cache) == 0


def test_a_missing_or_empty_folder_and_a_broken_image_are_reported(tmp_path):
    with pytest.raises(UserError, match="BG_IMGS_ROOT"):
        Backgrounds(tmp_path / "absent")
    with pytest.raises(UserError, match="has no image"):
        Backgrounds(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"not a jpeg")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        Backgrounds(tmp_path).sample((8, 8), np.random.default_rng(0))
