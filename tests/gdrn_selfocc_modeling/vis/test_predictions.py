"""Pictures of a prediction's errors and regions: right ones look so, known errors are told, nothing is too bad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sopose.core.vis.heatmap import heat_colors
from sopose.core.vis.maps import BACKGROUND
from sopose.layers import bin_labels
from sopose.models.gdrn import PnPInput
from sopose.vis.predictions import error_panels, map_panels, region_panels

MAPS = ["P", "Q_x", "Q_y", "Q_z"]


@pytest.fixture
def one(make_ellipsoids, tell_truth):
    """One ROI's prediction that is never wrong, its truth, and its extent in metres."""
    rois, targets = make_ellipsoids(1)
    prediction = tell_truth(targets)
    first = (part.map(lambda tensor: tensor[0]) for part in (prediction, targets))
    return *first, rois.extent[0].double().numpy()


def cells(picture: np.ndarray, count: int = 32) -> np.ndarray:
    """(count, count, 3): the middles of a heat map's cells, its colour bar left out."""
    step = picture.shape[1] // count
    return picture[: picture.shape[1]][step // 2 :: step, step // 2 :: step]


def test_a_right_prediction_is_zero_everywhere(one):
    panels = dict(error_panels(*one, PnPInput()))
    assert list(panels) == [f"{name} error, median 0.0 mm" for name in MAPS]
    masks = [one[1].mask_obj, *one[1].q_mask]
    for picture, mask in zip(panels.values(), masks, strict=True):
        inside = mask.numpy() > 0
        assert inside.any() and (cells(picture)[inside] == heat_colors()[0]).all()
        assert (cells(picture)[~inside] == BACKGROUND).all()


def test_a_shift_in_space_is_told_in_millimetres_on_one_scale(one):
    prediction, targets, extent = one
    shift = torch.tensor([0.003, 0.004, 0.012]) / torch.from_numpy(extent)  # 13 mm
    pairs = torch.tensor([1, 2, 0, 2, 0, 1])
    moved = replace(
        prediction,
        xyz=prediction.xyz + shift[:, None, None].float(),
        q=prediction.q + shift[pairs][:, None, None].float(),
    )
    panels = dict(error_panels(moved, targets, extent, PnPInput()))
    lengths = {"P": 13.0, "Q_x": np.hypot(4, 12), "Q_y": np.hypot(3, 12), "Q_z": 5.0}
    assert list(panels) == [f"{name} error, median {length:.1f} mm" for name, length in lengths.items()]
    for picture, length, mask in zip(
        panels.values(), lengths.values(), [targets.mask_obj, *targets.q_mask], strict=True
    ):
        shown = cells(picture)[mask.numpy() > 0].astype(int)
        expected = heat_colors()[round(255 * length / 20)].astype(int)  # 20 mm is the next round number
        assert abs(shown - expected).max() <= 4


def test_cells_that_the_network_does_not_see_are_white(one):
    prediction, targets, extent = one
    mask = prediction.mask.clone()
    mask[:, :16] = 0
    for _, picture in error_panels(replace(prediction, mask=mask), targets, extent, PnPInput()):
        assert (cells(picture)[:16] == BACKGROUND).all()
    _, regions = region_panels(replace(prediction, mask=mask), None, PnPInput())[0]
    assert (regions[:16] == BACKGROUND).all() and (regions[16:] != BACKGROUND).any()


def test_sure_and_right_regions_look_like_the_truth_and_unsure_ones_are_dark(one):
    prediction, targets, _ = one
    (_, predicted), (name, true) = region_panels(prediction, targets, PnPInput())
    assert name == "regions truth"
    np.testing.assert_array_equal(predicted, true)
    inside = targets.mask_obj.numpy() > 0
    unsure = replace(prediction, region=torch.zeros_like(prediction.region))
    (_, dark), _ = region_panels(unsure, targets, PnPInput())
    assert dark[inside].max() < 40 and (dark[~inside] == BACKGROUND).all()  # 1/64 of the light is level 35


def test_the_background_s_logit_does_not_dim_a_region(one):
    prediction, targets, _ = one
    loud = prediction.region.clone()
    loud[0] += 1000
    (_, first), _ = region_panels(prediction, targets, PnPInput())
    (_, second), _ = region_panels(replace(prediction, region=loud), targets, PnPInput())
    np.testing.assert_array_equal(first, second)


def test_without_truth_or_layers_there_is_less(one):
    prediction, targets, extent = one
    assert error_panels(prediction, None, extent, PnPInput()) == []
    assert [name for name, _ in region_panels(prediction, None, PnPInput())] == ["regions, bright: sure"]
    single = replace(prediction, q=None, region=None)
    assert len(error_panels(single, targets, extent, PnPInput())) == 1
    assert region_panels(single, targets, PnPInput()) == []
    assert [name for name, _ in map_panels(single, targets, PnPInput())] == ["P", "P truth"]


def test_classified_coordinates_are_read(one):
    prediction, targets, extent = one
    bins = 64
    present = targets.mask_obj[None].expand_as(targets.P)
    labels = bin_labels(targets.P[None], present[None], bins)[0]
    logits = torch.nn.functional.one_hot(labels, bins + 1).movedim(-1, 1).flatten(0, 1).float()
    told = replace(prediction, xyz=40 * logits, q=None)
    ((name, _),) = error_panels(told, targets, extent, PnPInput(bins=bins))
    half_bin = 1000 * np.linalg.norm(extent) / (2 * bins)
    assert 0 < float(name.removeprefix("P error, median ").removesuffix(" mm")) < half_bin


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e38, 0.0])
def test_no_number_is_too_bad_to_be_drawn(one, number):
    prediction, targets, extent = one
    bad = prediction.map(lambda tensor: torch.full_like(tensor, number))
    for told in (bad, replace(bad, mask=prediction.mask)):
        assert len(error_panels(told, targets, extent, PnPInput())) == 4
        assert len(region_panels(told, targets, PnPInput())) == 2
