"""Pictures of a training batch: drawn where the geometry says, alike where prediction and truth are, and always."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sopose.batch import Prediction, RoiBatch, RoiTargets
from sopose.core.data.roi import Roi, crop_positions, roi_positions
from sopose.core.vis.maps import BACKGROUND
from sopose.data.roi_input import RoiFormat
from sopose.layers import bin_labels
from sopose.models.map_forms import PnPInput
from sopose.models.predicted_maps import read_maps
from sopose.vis.batches import TILE, batch_pictures

PLAIN = PnPInput()
FORMAT = RoiFormat(input_res=64, output_res=32, pixel_format="RGB", pixel_mean=(0, 0, 0), pixel_std=(255, 255, 255))
BAR, GAP = 22, 4  # above and beside every picture, pixels
LEGEND = 20  # pixels of the overlay's upper edge that the legend may take
FAINT = 16  # levels, of which smoothed edges leave fewer


def draw(
    rois: RoiBatch,
    targets: RoiTargets,
    prediction: Prediction,
    roi_format: RoiFormat,
    form: PnPInput = PLAIN,
    count: int = 4,
) -> dict[str, np.ndarray]:
    """The pictures of a prediction."""
    return batch_pictures(rois, targets, read_maps(prediction, form), prediction.pose, roi_format, count)


def tiles(picture: np.ndarray) -> np.ndarray:
    """(row, column, TILE, TILE, 3) of a picture, its titles and gaps left out."""
    height, width = TILE + BAR + GAP, TILE + GAP
    rows, columns = picture.shape[0] // height, picture.shape[1] // width
    assert picture.shape == (rows * height, columns * width, 3) and picture.dtype == np.uint8
    cells = picture.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return cells[:, :, BAR : BAR + TILE, :TILE]


def drawn_on(picture: np.ndarray) -> np.ndarray:
    """(row, TILE - LEGEND, TILE) bool: where something is drawn on the crops of the overlay, below the legend."""
    plain, drawn = tiles(picture).astype(int).swapaxes(0, 1)
    return (abs(drawn - plain) > FAINT).any(-1)[:, LEGEND:]


@pytest.fixture
def batch(make_ellipsoids, predict_truth):
    """Three ROIs, their truth, and the prediction of a network that is never wrong."""
    rois, targets = make_ellipsoids(3)
    return rois, targets, predict_truth(targets)


def test_a_topic_is_a_picture_with_a_row_for_each_of_the_first_rois(batch):
    for count, rows in ((2, 2), (9, 3)):
        pictures = draw(*batch, FORMAT, count=count)
        shapes = {topic: tiles(picture).shape[:2] for topic, picture in pictures.items()}
        assert shapes == {"overlay": (rows, 2), "masks": (rows, 4), "P": (rows, 2), "Q": (rows, 6)}
    single_layer = replace(batch[2], q=None)
    assert list(draw(*batch[:2], single_layer, FORMAT)) == ["overlay", "masks", "P"]


def test_the_crop_is_shown_in_its_colours(batch):
    rois, _, _ = batch
    normalised = RoiFormat(64, 32, "BGR", pixel_mean=(10, 20, 30), pixel_std=(50, 60, 70))
    levels = np.array([200, 100, 50], np.uint8)  # red, green, blue
    image = torch.from_numpy(normalised.network_image(np.tile(levels[::-1], (64, 64, 1)))).expand(3, 3, 64, 64)
    pictures = draw(replace(rois, image=image), *batch[1:], normalised)
    assert (tiles(pictures["overlay"])[:, 0] == levels).all()


def test_truth_as_prediction_looks_like_the_truth(batch):
    pictures = draw(*batch, FORMAT)
    predicted, true = tiles(pictures["P"]).swapaxes(0, 1)
    np.testing.assert_array_equal(predicted, true)
    mask, *masks = tiles(pictures["masks"]).swapaxes(0, 1)
    for known in masks:
        np.testing.assert_array_equal(mask, known)
    maps = tiles(pictures["Q"])
    predicted, true = maps[:, 0::2], maps[:, 1::2]
    present = (true != BACKGROUND).any(-1)  # the network says something of Q where there is none, too
    assert present.any((0, 2, 3)).all()
    np.testing.assert_array_equal(predicted[present], true[present])


def test_classified_coordinates_and_logits_are_read(batch):
    rois, targets, truth = batch
    bins = 64
    present = targets.mask_obj[:, None].expand_as(targets.P)
    labels = bin_labels(targets.P, present, bins)
    logits = torch.nn.functional.one_hot(labels, bins + 1).movedim(-1, 2).flatten(1, 2).float()
    sides = torch.stack([1 - targets.mask_obj, targets.mask_obj], dim=1)
    prediction = replace(truth, xyz=40 * logits, mask=40 * sides, q=None)
    pictures = draw(rois, targets, prediction, FORMAT, PnPInput(mask_type="CE", bins=bins))
    predicted, true = tiles(pictures["P"]).swapaxes(0, 1).astype(int)
    assert abs(predicted - true).max() <= 255 / (2 * bins) + 1  # levels: half a bin, and rounding
    np.testing.assert_array_equal(*tiles(pictures["masks"])[:, :2].swapaxes(0, 1))


def test_positions_in_the_crop_invert_those_of_the_roi(batch):
    rois, targets, _ = batch
    roi = Roi(np.array([301.37, 122.81]), 173.9, np.array([90.0, 110.0]))
    cells = np.stack(np.meshgrid(np.arange(256), np.arange(256)), axis=-1)
    back = crop_positions(roi_positions(roi, 256), roi.center, roi.size, 256)
    assert abs(back - cells).max() < 1e-9
    for b in range(len(rois)):  # a batch has the same window, in float32
        side = 32 / rois.resize_ratio[b].item()
        pixel = targets.pixel[b].permute(1, 2, 0).double().numpy()
        found = crop_positions(pixel, rois.box_center[b].double().numpy(), side, 64)
        assert abs(found - 2 * cells[:32, :32]).max() < 0.01  # crop pixels; two of them make a cell


def test_a_point_is_drawn_where_it_is_seen(batch):
    rois, targets, truth = batch
    cell = np.array([20, 11])  # column and row of the map
    ray = torch.linalg.inv(rois.K.double()) @ torch.cat(
        [targets.pixel[:, :, cell[1], cell[0]].double(), torch.ones(3, 1, dtype=torch.float64)], dim=1
    ).unsqueeze(-1)
    point_cam = 0.7 * ray[..., 0]
    points = (targets.cam_R_obj.double().mT @ (point_cam - targets.cam_t_obj.double())[..., None])[..., 0]
    targets = replace(targets, model_points=points[:, None].float().expand(3, 5, 3))
    unseen = replace(truth, cam_t_obj=-truth.cam_t_obj)
    picture = draw(rois, targets, unseen, FORMAT)["overlay"]
    plain, drawn = tiles(picture).swapaxes(0, 1).astype(float)
    strength = abs(drawn - plain).sum(-1)
    strength[:, :LEGEND] = 0
    grid = np.stack(np.meshgrid(np.arange(TILE), np.arange(TILE)), axis=-1)
    middle = np.einsum("bhw,hwc->bc", strength, grid) / strength.sum((1, 2))[:, None]
    in_crop = (middle + 0.5) * 64 / TILE - 0.5
    assert abs(in_crop - 2 * cell).max() < 0.1  # crop pixels, of which one is three on the tile


def test_both_poses_are_drawn_by_one_law(batch):
    rois, targets, truth = batch
    rois = replace(rois, image=torch.zeros_like(rois.image))  # on which either colour stands out
    both = drawn_on(draw(rois, targets, truth, FORMAT)["overlay"])
    behind = replace(truth, cam_t_obj=-truth.cam_t_obj)
    alone = drawn_on(draw(rois, targets, behind, FORMAT)["overlay"])
    assert alone.any((1, 2)).all()
    np.testing.assert_array_equal(both, alone)  # the estimate's thinner lines lie within those of the truth
    moved = replace(truth, cam_t_obj=truth.cam_t_obj + torch.tensor([0.01, 0, 0]))
    apart = drawn_on(draw(rois, targets, moved, FORMAT)["overlay"])
    assert (apart & ~alone).any((1, 2)).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e38, 0.0])
@pytest.mark.parametrize("mask_type", ["L1", "BCE", "CE"])
def test_no_number_is_too_bad_to_be_drawn(batch, number, mask_type):
    rois, targets, truth = batch
    bad = truth.map(lambda tensor: torch.full_like(tensor, number))
    if mask_type == "CE":
        bad.mask = bad.mask.repeat(1, 2, 1, 1)
    pictures = draw(rois, targets, bad, FORMAT, PnPInput(mask_type=mask_type))
    assert list(pictures) == ["overlay", "masks", "P", "Q"]
    only_translation = replace(truth, cam_t_obj=bad.cam_t_obj)
    draw(rois, targets, only_translation, FORMAT)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_image_that_is_not_finite_is_drawn(batch, number):
    rois, targets, truth = batch
    ruined = replace(rois, image=torch.full_like(rois.image, number))
    picture = draw(ruined, targets, truth, FORMAT)["overlay"]
    assert (tiles(picture)[:, 0] == 0).all()


def test_half_precision_in_a_graph_is_read_and_left_as_it_is(batch):
    rois, targets, truth = batch
    prediction = truth.map(lambda tensor: tensor.bfloat16().requires_grad_())
    state = torch.random.get_rng_state()
    pictures = draw(rois, targets, prediction, FORMAT)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(isinstance(picture, np.ndarray) for picture in pictures.values())
    assert prediction.xyz.requires_grad and prediction.xyz.grad is None and prediction.xyz.dtype is torch.bfloat16
