"""Each colour operation on an image where its result is known; the parser; the truncating cut; the camera."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from sopose.core.data.augment import draw_cut, parse_augmentation
from sopose.core.data.color_ops import AUGMENTERS
from sopose.core.synthesis.sensor import Sensor
from sopose.core.utils.errors import UserError

# The text of GDR-Net's and SO-Pose's LM-O and YCB-V configurations.
LMO_CODE = (
    "Sequential([Sometimes(0.5, CoarseDropout( p=0.2, size_percent=0.05) ),"
    "Sometimes(0.5, GaussianBlur(1.2*np.random.rand())),Sometimes(0.5, Add((-25, 25), per_channel=0.3)),"
    "Sometimes(0.3, Invert(0.2, per_channel=True)),Sometimes(0.5, Multiply((0.6, 1.4), per_channel=0.5)),"
    "Sometimes(0.5, Multiply((0.6, 1.4))),Sometimes(0.5, LinearContrast((0.5, 2.2), per_channel=0.3))], "
    "random_order = False)"
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def apply(code: str, image: np.ndarray, seed: int = 0) -> np.ndarray:
    return parse_augmentation(code)(image, np.random.default_rng(seed))


def test_add_multiply_invert_and_contrast_are_their_formulas(image):
    levels = image.astype(float)
    for code, expected in (
        ("Add(10)", levels + 10),
        ("Add(-10)", levels - 10),
        ("Multiply(1.5)", levels * 1.5),
        ("Invert(1.0)", 255 - levels),
        ("Invert(0.0)", levels),
        ("LinearContrast(2)", 128 + 2 * (levels - 128)),
        ("GammaContrast(2.0)", levels**2 / 255),
    ):
        result = apply(code, image)
        assert result.dtype == np.uint8
        np.testing.assert_array_equal(result, np.clip(np.rint(expected), 0, 255), err_msg=code)


def test_per_channel_draws_one_value_for_each_channel():
    gray = np.full((8, 8, 3), 100, np.uint8)
    assert len(set(apply("Add((-50, 50), per_channel=True)", gray)[0, 0])) == 3
    assert len(set(apply("Add((-50, 50))", gray)[0, 0])) == 1


GREY = np.array([0.114, 0.587, 0.299])  # ITU-R BT.601, blue, green, red


def test_contrast_about_the_mean_keeps_it():
    image = np.random.default_rng(1).integers(60, 190, (40, 48, 3), dtype=np.uint8)
    mean = (image @ GREY).mean()
    result = apply("MeanContrast(1.3)", image).astype(float)
    np.testing.assert_allclose(result - mean, 1.3 * (image - mean), rtol=0, atol=0.501)  # half a level
    assert (result @ GREY).mean() == pytest.approx(mean, abs=0.1)
    np.testing.assert_array_equal(apply("MeanContrast(1.0)", image), image)
    flat = apply("MeanContrast(0.0)", image)
    assert (flat == round(mean)).all()


def test_saturation_leaves_grey_alone_and_moves_colours_from_it():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for code in ("Grayscale(-0.5)", "Grayscale(0.05)"):
        np.testing.assert_array_equal(apply(code, grey), grey)
    image = np.random.default_rng(1).integers(80, 176, (40, 48, 3), dtype=np.uint8)
    distance = image - (image @ GREY)[..., None]
    more = apply("Grayscale(-0.5)", image)
    np.testing.assert_allclose(more - (image @ GREY)[..., None], 1.5 * distance, rtol=0, atol=1.0)  # levels


def test_pca_lighting_has_the_spread_of_natural_colours():
    grey = np.full((1, 1, 3), 128, np.uint8)
    augment = parse_augmentation("PCALighting(0.3)")
    shifts = np.array([augment(grey, np.random.default_rng(seed))[0, 0] for seed in range(3000)]) - 128.0
    assert np.abs(shifts.mean(axis=0)).max() < 1
    rgb = shifts[:, ::-1]
    directions = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    spread = (rgb @ directions).std(axis=0)
    rounding = np.sqrt(1 / 12)
    expected = np.hypot(255 * 0.3 * np.array([0.2175, 0.0188, 0.0045]), rounding)
    np.testing.assert_allclose(spread, expected, rtol=0.06)
    np.testing.assert_array_equal(apply("PCALighting(0)", grey), grey)


def test_coarse_dropout_blackens_about_p_of_whole_cells():
    white = np.full((200, 200, 3), 255, np.uint8)
    result = apply("CoarseDropout(p=0.2, size_percent=0.1)", white)
    cells = result.reshape(20, 10, 20, 10, 3)
    assert (cells == cells[:, :1, :, :1, :1]).all()
    assert (result == 0).mean() == pytest.approx(0.2, abs=0.06)


def test_blurs_keep_the_mean_and_lower_the_contrast(image):
    for code in ("GaussianBlur(2.0)", "MotionBlur(k=7)"):
        result = apply(code, image)
        assert result.mean() == pytest.approx(image.mean(), abs=3)
        assert result.std() < 0.7 * image.std()
    np.testing.assert_array_equal(apply("GaussianBlur(0)", image), image)
    np.testing.assert_array_equal(apply("MotionBlur(k=1)", image), image)


def test_noise_has_its_standard_deviation():
    gray = np.full((100, 100, 3), 128, np.uint8)
    result = apply("AdditiveGaussianNoise(scale=8, per_channel=True)", gray).astype(float)
    assert result.std() == pytest.approx(8, rel=0.03)
    same = apply("AdditiveGaussianNoise(scale=8)", gray)
    assert (same == same[..., :1]).all()


def test_grayscale_and_jpeg(image):
    gray = apply("Grayscale(1.0)", image)
    assert (gray == gray[..., :1]).all()
    np.testing.assert_array_equal(apply("Grayscale(0.0)", image), image)
    smooth = np.tile(np.arange(48, dtype=np.uint8)[None, :, None] * 5, (40, 1, 3))
    assert np.abs(apply("JpegCompression(10)", smooth).astype(int) - smooth).max() < 12


def test_sometimes_applies_with_its_probability(rng):
    augment = parse_augmentation("Sometimes(0.3, Invert(1.0))")
    black = np.zeros((2, 2, 3), np.uint8)
    assert np.mean([augment(black, rng)[0, 0, 0] == 255 for _ in range(2000)]) == pytest.approx(0.3, abs=0.04)


def test_sequential_keeps_or_shuffles_the_order():
    gray = np.full((2, 2, 3), 10, np.uint8)
    assert apply("Sequential([Add(20), Multiply(2)])", gray)[0, 0, 0] == 60
    code = "Sequential([Add(20), Multiply(2)], random_order=True)"
    assert {int(apply(code, gray, seed)[0, 0, 0]) for seed in range(20)} == {40, 60}


def test_the_released_text_parses_and_varies_with_its_seed_only(image):
    augment = parse_augmentation(LMO_CODE)
    for seed in range(50):
        first, second = (augment(image, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.shape == image.shape and first.dtype == np.uint8
    assert len({augment(image, np.random.default_rng(seed)).tobytes() for seed in range(50)}) > 40


def test_an_expression_is_drawn_at_each_application(rng):
    augment = parse_augmentation("Add(100 * np.random.rand() - 20)")
    black = np.zeros((1, 1, 3), np.uint8)
    levels = [int(augment(black, rng)[0, 0, 0]) for _ in range(200)]
    assert len(set(levels)) > 30 and max(levels) <= 80


def test_prefixes_and_lists_of_choices_are_read():
    gray = np.full((1, 1, 3), 100, np.uint8)
    assert {int(apply("iaa.Add([-50, 7])", gray, seed)[0, 0, 0]) for seed in range(20)} == {50, 107}


def test_an_augmenter_can_be_sent_to_a_worker(image):
    augment = parse_augmentation(LMO_CODE)
    copy = pickle.loads(pickle.dumps(augment))
    np.testing.assert_array_equal(copy(image, np.random.default_rng(4)), augment(image, np.random.default_rng(4)))


@pytest.mark.parametrize("name", sorted(set(AUGMENTERS) - {"Sequential", "Sometimes"}))
def test_every_operation_runs_with_its_defaults(name, image):
    assert apply(f"{name}()", image).shape == image.shape


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("Sequental([])", "did you mean 'Sequential'"),
        ("Add(valu=3)", "did you mean 'value'"),
        ("Add(1, True, 3)", "too many"),
        ("Add('x')", "cannot hold"),
        ("Add((1, 2, 3))", "cannot hold"),
        ("Add([])", "wants a number"),
        ("Add(Invert(1))", "wants a number"),
        ("Sequential([3])", "list of operations"),
        ("Sometimes(0.5, 3)", "list of operations"),
        ("Add(1 / 0)", "divides by zero"),
        ("Add(Add(1) * 2)", "not arithmetic"),
        ("__import__('os').system('true')", "COLOR_AUG_CODE"),
        ("(lambda: 1)()", "cannot be called"),
        ("Add(", "is not a call"),
        ("1 + 2", "must be one operation"),
        ("Add(*x)", "starred"),
    ],
)
def test_what_the_text_may_not_hold_is_reported(code, message):
    with pytest.raises(UserError, match=message):
        parse_augmentation(code)


def test_a_cut_takes_one_side_of_a_mask_up_to_its_middle(rng):
    positions = np.stack(np.meshgrid(np.arange(60.0), np.arange(40.0)), axis=-1)
    mask = np.zeros((40, 60), bool)
    mask[10:31, 20:41] = True
    seen = set()
    for _ in range(200):
        cut = draw_cut(mask, positions, rng)
        kept = mask & cut.keeps(positions)
        assert 11 * 21 <= kept.sum() <= mask.sum()
        rows, columns = np.nonzero(kept)
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        seen.add((cut.axis, cut.keep_above))
    assert len(seen) == 4


def test_an_empty_mask_is_not_cut(rng):
    assert draw_cut(np.zeros((4, 4), bool), np.zeros((4, 4, 2)), rng) is None


def test_a_perfect_camera_changes_nothing(image, rng):
    perfect = Sensor(blur=(0, 0), gain=0, tint=0, gamma=0, noise=(0, 0), jpeg_prob=0)
    np.testing.assert_array_equal(perfect(image, 1.0, rng), image)


def test_a_camera_repeats_with_its_seed_and_keeps_the_shape(image):
    first, second = (Sensor(jpeg_prob=0.5)(image, 0.8, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == image.shape and first.dtype == np.uint8


def test_the_camera_noise_has_the_drawn_deviation(rng):
    gray = np.full((200, 200, 3), 128, np.uint8)
    noisy = Sensor(blur=(0, 0), gain=0, tint=0, gamma=0, noise=(5, 5), jpeg_prob=0)(gray, 1.0, rng)
    assert noisy.astype(float).std() == pytest.approx(5, rel=0.05)


def test_sharpening_steepens_edges_and_leaves_what_is_even(rng):
    edge = np.full((20, 40, 3), 100, np.uint8)
    edge[:, 20:] = 140
    perfect = Sensor(blur=(0, 0), gain=0, tint=0, gamma=0, noise=(0, 0), jpeg_prob=0)
    sharp = replace(perfect, sharpen=(0.5, 0.5))(edge, 1.0, rng).astype(int)
    assert sharp[:, 19].max() < 95 and sharp[:, 20].min() > 145
    np.testing.assert_array_equal(sharp[:, :14], 100)
    np.testing.assert_array_equal(sharp[:, 26:], 140)


def test_a_camera_with_an_impossible_range_is_refused():
    with pytest.raises(UserError, match="noise"):
        Sensor(noise=(3, 1))
