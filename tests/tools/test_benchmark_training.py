"""How fast training is: rates, processor time and its shares, and several cases in turns."""

from __future__ import annotations

import json

import pytest

from sopose.core.utils.errors import UserError
from tools.benchmarks import compare_training
from tools.benchmarks.compare_training import Case, checked_out, table
from tools.benchmarks.compare_training import main as compare
from tools.benchmarks.train import main as benchmark

QUICK = ["--rounds", "1", "--steps", "1"]
CAD = ["DATASETS.TRAIN=[toy_cad]", "DATASETS.TRAIN2=[]", "CAD.REUSE=2", "CAD.POOL=8", "CAD.EPOCH_LENGTH=64"]


@pytest.fixture
def config(tmp_path, write_tiny_config) -> str:
    return str(write_tiny_config(tmp_path, "DATASETS = dict(TEST=())"))


@pytest.mark.parametrize("reuse", [1, 2])
def test_a_crop_s_processor_time_is_that_of_its_parts(config, tmp_path, capsys, one_thread, reuse):
    words = ["--shares", "--json", str(tmp_path / "a.json"), "--opts", *CAD, f"CAD.REUSE={reuse}"]
    benchmark(["--config-file", config, *QUICK, *words])
    (found,) = json.loads((tmp_path / "a.json").read_text())
    assert found["windows"] == pytest.approx(found["training"] / reuse)
    assert {"draw", "shade", "cast", "sensor", "collate", *(["crop"] if reuse > 1 else [])} <= found["loader_ms"].keys()
    assert {"trunk", "heads", "Patch-PnP", "losses", "optimizer"} <= found["network_ms"].keys()
    assert min(*found["loader_ms"].values(), *found["network_ms"].values(), found["cpu_ms_per_roi"]) >= 0
    assert "ms of processor time a ROI" in capsys.readouterr().out


def test_cases_take_turns_and_are_compared_with_the_first(config, tmp_path, capsys, monkeypatch):
    asked = []

    def timed(case: Case, tree, args, folder) -> dict[str, float]:
        asked.append((case.name, tree, case.opts))
        return {"training": {"before": 10.0, "now": 40.0}[case.name], "loader": 100.0}

    monkeypatch.setattr(compare_training, "timed", timed)
    cases = ["--case", "before", ".", config, "SEED=1", "--case", "now", ".", config]
    compare([*cases, "--turns", "2", "--json", str(tmp_path / "turns.json")])
    assert [name for name, _, _ in asked] == ["before", "now"] * 2
    assert asked[0][2] == ("SEED=1",)
    assert "4.00 (4.00-4.00)" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "turns.json").read_text())["now"]) == 2


def test_factors_are_taken_within_a_turn():
    turns = {"a": [{"training": 10.0}, {"training": 20.0}], "b": [{"training": 20.0}, {"training": 60.0}]}
    assert "2.50 (2.00-3.00)" in table(turns)


@pytest.mark.slow
def test_a_case_runs_the_files_of_its_revision(config, tmp_path, capsys):
    compare(["--case", "here", ".", config, "--turns", "1", *QUICK])
    assert "1.00 (1.00-1.00)" in capsys.readouterr().out


def test_what_git_does_not_know_is_reported(tmp_path):
    with pytest.raises(UserError, match="git knows no revision 'nowhere'"):
        checked_out("nowhere", tmp_path)


@pytest.mark.parametrize("wrong", [["--case", "a", "."], ["--case", "a", ".", "c.py", "--turns", "0"], []])
def test_wrong_usage_leaves_with_2(wrong):
    with pytest.raises(SystemExit) as left:
        compare(wrong)
    assert left.value.code == 2
