"""The file of predictions: what is written is read, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sopose.batch import PredictedMaps
from sopose.core.bop.results import Estimates
from sopose.core.utils.errors import UserError
from sopose.inference.predictions import Predictions, read_predictions, write_predictions


@pytest.fixture
def predictions() -> Predictions:
    """Five ROIs, two of them with maps of 4 x 4 cells."""
    rng = np.random.default_rng(0)
    maps = PredictedMaps(
        mask=torch.rand(2, 4, 4),
        P=torch.rand(2, 3, 4, 4),
        Q=torch.rand(2, 6, 4, 4),
        region=torch.randint(1, 65, (2, 4, 4)).short(),
        region_probability=torch.rand(2, 4, 4),
    )
    estimates = Estimates(
        ids=rng.integers(1, 9, (5, 3)),
        score=rng.random(5),
        cam_R_obj=rng.random((5, 3, 3)),
        cam_t_obj=rng.random((5, 3)),
        time=np.array([0.1, 0.1, -1.0, 0.2, 0.2]),
    )
    facts = {"weights": "a \u2192 b", "poses": "the network's"}
    return Predictions("toy_test", estimates, 100 * rng.random((5, 4)), np.array([1, 4]), maps, facts)


def test_what_is_written_is_read(predictions, tmp_path):
    write_predictions(tmp_path / "p.npz", predictions)
    read = read_predictions(tmp_path / "p.npz")
    assert (read.split, read.facts) == (predictions.split, predictions.facts)
    for name, column in vars(predictions.estimates).items():
        np.testing.assert_array_equal(getattr(read.estimates, name), column)
    np.testing.assert_array_equal(read.box, predictions.box)
    np.testing.assert_array_equal(read.pictured, predictions.pictured)
    for name, values in vars(predictions.maps).items():
        torch.testing.assert_close(getattr(read.maps, name).float(), values.float(), rtol=0, atol=1 / 4096)  # half bits


def test_maps_and_layers_may_be_missing(predictions, tmp_path):
    write_predictions(tmp_path / "p.npz", replace(predictions, maps=None))
    assert read_predictions(tmp_path / "p.npz").maps is None
    single = replace(predictions.maps, Q=None, region=None, region_probability=None)
    write_predictions(tmp_path / "p.npz", replace(predictions, maps=single))
    read = read_predictions(tmp_path / "p.npz").maps
    assert read.Q is None and read.region is None and read.P.shape == (2, 3, 4, 4)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_half_precision_are_kept_as_infinity(predictions, tmp_path):
    wild = replace(predictions.maps, P=torch.full((2, 3, 4, 4), 1e38))
    write_predictions(tmp_path / "p.npz", replace(predictions, maps=wild))
    assert read_predictions(tmp_path / "p.npz").maps.P.isinf().all()


@pytest.fixture
def rewritten(predictions, tmp_path) -> Callable[..., Path]:
    """`rewritten(**arrays)`: the file with some arrays in place of its own; None leaves one out."""

    def write(**arrays: np.ndarray | None) -> Path:
        path = tmp_path / "p.npz"
        write_predictions(path, predictions)
        with np.load(path, allow_pickle=False) as file:
            content = dict(file) | arrays
        np.savez(path, **{name: array for name, array in content.items() if array is not None})
        return path

    return write


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"score": None}, "lacks score"),
        ({"version": np.array("9")}, "version '9'"),
        ({"version": np.array([1, 2])}, "version ''"),
        ({"box": np.zeros((4, 4))}, r"box must be float64 \(5, 4\) and is float64 \(4, 4\)"),
        ({"cam_t_obj": np.zeros((5, 3), np.float32)}, r"cam_t_obj must be float64 \(5, 3\) and is float32"),
        ({"score": np.zeros((5, 1))}, r"score must be float64 \(5\)"),
        ({"pictured": np.array([1])}, r"mask must be float16 \(1, H, W\)"),
        ({"pictured": np.array([4, 1])}, "ascending numbers below 5"),
        ({"pictured": np.array([1, 5])}, "ascending numbers below 5"),
        ({"P": np.zeros((2, 3, 4, 5), np.float16)}, r"P must be float16 \(2, 3, 4, 4\)"),
        ({"P": None}, "maps without P"),
        ({"region": None}, "regions without their probabilities"),
        ({"facts": np.array("[1]")}, "facts are no json of words"),
        ({"facts": np.array('{"a": 1}')}, "facts are no json of words"),
        ({"facts": np.array(["{}", "{}"])}, "facts are no json of words"),
        ({"ids": np.array([object()])}, "cannot be read as arrays"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(rewritten, arrays, message):
    with pytest.raises(UserError, match=f"p.npz.*{message}.*; evaluate again"):
        read_predictions(rewritten(**arrays))


def test_a_damaged_or_missing_file_is_refused(rewritten, tmp_path):
    path = rewritten()
    path.write_bytes(path.read_bytes()[:-100])
    for place in (path, tmp_path / "none.npz"):
        with pytest.raises(UserError, match="evaluate again"):
            read_predictions(place)
