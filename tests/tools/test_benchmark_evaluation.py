"""The benchmark of the evaluation runs, and its reference computes what ours does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sopose.core.bop.models import load_models
from sopose.core.bop.results import Estimate, write_results
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.evaluation.error_model import ErrorModel
from sopose.core.evaluation.pairs import PosePairs
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from tools.benchmarks import evaluation as benchmark_evaluation


@pytest.fixture
def shifted(toy_root, tmp_path):
    """A csv of the truth, a little beside it."""
    records = load_split(resolve_split("toy_test", toy_root.parent))
    rows = [
        Estimate(r.scene_id, r.im_id, i.obj_id, 1.0, Pose(i.pose.cam_R_obj, i.pose.cam_t_obj + 0.01), 0.1)
        for r in records
        for i in r.instances
    ]
    write_results(tmp_path / "s_toy-test.csv", rows)
    return tmp_path / "s_toy-test.csv", records


def run(toy_root, csv, *words: str) -> None:
    benchmark_evaluation.main([str(csv), "--dataset", "toy", "--datasets-root", str(toy_root.parent), *words])


def test_times_and_ratios_are_measured(toy_root, shifted, tmp_path):
    run(toy_root, shifted[0], "--pairs", "2", "--repeats", "1", "--json", str(tmp_path / "b.json"))
    numbers = json.loads((tmp_path / "b.json").read_text())
    assert numbers["pairs"] >= numbers["targets"] > 0
    for clock in ("wall", "cpu"):
        ratio = numbers[f"all_{clock}_s"] / numbers[f"ours_{clock}_s"]
        assert numbers[f"ratio_all_{clock}"] == pytest.approx(ratio) and ratio > 0


def test_the_reference_has_the_same_errors(toy_root, shifted):
    record = shifted[1][0]
    item = record.instances[0]
    model = load_models(toy_root / "models_eval")[item.obj_id]
    est = Pose(item.pose.cam_R_obj, item.pose.cam_t_obj + 0.01)
    ours = ErrorModel(model, True).errors(PosePairs.of([(est, item.pose, record.K)]), ("add", "adi", "mssd", "mspd"))
    reference = {
        "add": benchmark_evaluation._add(est, item.pose, model.vertices),
        "adi": benchmark_evaluation._adi(est, item.pose, model.vertices),
        "mssd": benchmark_evaluation._mssd(est, item.pose, model),
        "mspd": benchmark_evaluation._mspd(est, item.pose, record.K, model),
    }
    assert {name: values[0] for name, values in ours.items()} == pytest.approx(reference, rel=1e-6)
    assert reference["add"] == pytest.approx(0.01 * np.sqrt(3))


def test_a_file_without_a_target_is_refused(toy_root, tmp_path):
    write_results(tmp_path / "none.csv", [])
    with pytest.raises(UserError, match="no estimate of a target"):
        run(toy_root, tmp_path / "none.csv")
