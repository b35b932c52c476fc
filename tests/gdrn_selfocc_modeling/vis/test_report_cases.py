"""Pictures of a prediction's errors and regions: right ones look so, known errors are shown, nothing is too bad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sopose.core.vis.heatmap import heat_colors
from sopose.core.vis.maps import BACKGROUND
from sopose.models.map_forms import PnPInput
from sopose.models.predicted_maps import read_maps
from sopose.vis.report_cases import error_panels, map_panels, region_panels

MAPS = ["P", "Q_x", "Q_y", "Q_z"]


@pytest.fixture
def one(make_ellipsoids, predict_truth):
    """The maps of one ROI by a network that is never wrong, their truth, and the extent in metres."""
    rois, targets = make_ellipsoids(1)
    maps = read_maps(predict_truth(targets), PnPInput())
    return *(part.map(lambda tensor: tensor[0]) for part in (maps, targets)), rois.extent[0].double().numpy()


def cells(picture: np.ndarray, count: int = 32) -> np.ndarray:
    """(count, count, 3): the middles of a heat map's cells, its colour bar left out."""
    step = picture.shape[1] // count
    return picture[: picture.shape[1]][step // 2 :: step, step // 2 :: step]


def test_a_right_prediction_is_zero_everywhere(one):
    panels = dict(error_panels(*one))
    assert list(panels) == [f"{name} error, median 0.0 mm" for name in MAPS]
    masks = [one[1].mask_obj, *one[1].q_mask]
    for picture, mask in zip(panels.values(), masks, strict=True):
        inside = mask.numpy() > 0
        assert inside.any() and (cells(picture)[inside] == heat_colors()[0]).all()
        assert (cells(picture)[~inside] == BACKGROUND).all()


def test_a_shift_in_space_is_given_in_millimetres_on_one_scale(one):
    maps, targets, extent = one
    shift = torch.tensor([0.003, 0.004, 0.012]) / torch.from_numpy(extent)  # 13 mm
    pairs = torch.tensor([1, 2, 0, 2, 0, 1])
    moved = replace(
        maps,
        P=maps.P + shift[:, None, None].float(),
        Q=maps.Q + shift[pairs][:, None, None].float(),
    )
    panels = dict(error_panels(moved, targets, extent))
    lengths = {"P": 13.0, "Q_x": np.hypot(4, 12), "Q_y": np.hypot(3, 12), "Q_z": 5.0}
    assert list(panels) == [f"{name} error, median {length:.1f} mm" for name, length in lengths.items()]
    for picture, length, mask in zip(
        panels.values(), lengths.values(), [targets.mask_obj, *targets.q_mask], strict=True
    ):
        shown = cells(picture)[mask.numpy() > 0].astype(int)
        expected = heat_colors()[round(255 * length / 20)].astype(int)  # 20 mm is the next round number
        assert abs(shown - expected).max() <= 4


def test_cells_that_the_network_does_not_see_are_white(one):
    maps, targets, extent = one
    mask = maps.mask.clone()
    mask[:16] = 0
    for _, picture in error_panels(replace(maps, mask=mask), targets, extent):
        assert (cells(picture)[:16] == BACKGROUND).all()
    _, regions = region_panels(replace(maps, mask=mask), None)[0]
    assert (regions[:16] == BACKGROUND).all() and (regions[16:] != BACKGROUND).any()


def test_sure_and_right_regions_look_like_the_truth_and_unsure_ones_are_dark(one):
    maps, targets, _ = one
    (_, predicted), (name, true) = region_panels(maps, targets)
    assert name == "regions truth"
    np.testing.assert_array_equal(predicted, true)
    inside = targets.mask_obj.numpy() > 0
    unsure = replace(maps, region_probability=torch.full_like(maps.region_probability, 1 / 64))
    (_, dark), _ = region_panels(unsure, targets)
    assert dark[inside].max() < 40 and (dark[~inside] == BACKGROUND).all()  # 1/64 of the light is level 35


def test_without_truth_or_layers_there_is_less(one):
    maps, targets, extent = one
    assert error_panels(maps, None, extent) == []
    assert [name for name, _ in region_panels(maps, None)] == ["regions, bright: sure"]
    single = replace(maps, Q=None, region=None, region_probability=None)
    assert len(error_panels(single, targets, extent)) == 1
    assert region_panels(single, targets) == []
    assert [name for name, _ in map_panels(single, targets)] == ["P", "P truth"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e38, 0.0])
def test_no_number_is_too_bad_to_be_drawn(one, number):
    maps, targets, extent = one
    bad = maps.map(lambda values: torch.full_like(values, number) if values.is_floating_point() else values)
    for prediction in (bad, replace(bad, mask=maps.mask)):
        assert len(error_panels(prediction, targets, extent)) == 4
        assert len(region_panels(prediction, targets)) == 2
