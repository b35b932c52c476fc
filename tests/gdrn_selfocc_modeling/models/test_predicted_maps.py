"""Maps mean the same whatever form a network gives them in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sopose.layers import bin_labels
from sopose.models.map_forms import PnPInput
from sopose.models.predicted_maps import read_maps


@pytest.fixture
def batch(make_ellipsoids, predict_truth):
    """Two ROIs, their truth, and the prediction of a network that is never wrong."""
    rois, targets = make_ellipsoids(2)
    return rois, targets, predict_truth(targets)


def test_a_right_prediction_reads_as_the_truth(batch):
    _, targets, prediction = batch
    maps = read_maps(prediction, PnPInput())
    inside = targets.mask_obj > 0
    torch.testing.assert_close(maps.P, targets.P, rtol=0, atol=0)
    torch.testing.assert_close(maps.Q, targets.Q, rtol=0, atol=0)
    torch.testing.assert_close(maps.mask, targets.mask_trunc, rtol=0, atol=1e-6)
    assert (maps.region[inside] == targets.region[inside]).all() and maps.region.dtype is torch.int16
    assert (maps.region_probability[inside] > 0.999).all()


def test_classified_coordinates_and_mask_logits_are_read(batch):
    _, targets, prediction = batch
    bins = 64
    present = targets.mask_obj[:, None].expand_as(targets.P)
    logits = torch.nn.functional.one_hot(bin_labels(targets.P, present, bins), bins + 1).movedim(-1, 2).flatten(1, 2)
    sides = torch.stack([1 - targets.mask_obj, targets.mask_obj], dim=1)
    classified = replace(prediction, xyz=40 * logits.float(), mask=40 * sides, q=None)
    maps = read_maps(classified, PnPInput(mask_type="CE", bins=bins))
    off = ((maps.P - targets.P).abs() * present).max()
    assert 0 < off <= 1 / (2 * bins) + 1e-6 and maps.Q is None  # half a bin
    np.testing.assert_array_equal(maps.mask > 0.5, targets.mask_obj > 0)


def test_the_background_s_logit_does_not_dim_a_region(batch):
    _, _, prediction = batch
    loud = prediction.region.clone()
    loud[:, 0] += 1000
    plain, other = (read_maps(replace(prediction, region=region), PnPInput()) for region in (prediction.region, loud))
    torch.testing.assert_close(plain.region_probability, other.region_probability, rtol=0, atol=1e-6)
    assert torch.equal(plain.region, other.region)


def test_a_network_without_regions_has_none(batch):
    maps = read_maps(replace(batch[2], region=None), PnPInput())
    assert maps.region is None and maps.region_probability is None
