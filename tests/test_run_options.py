"""What a run offers beside training: a rehearsal, a profile, pictures, a record of where it comes from, the best."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import BEST, find_damage, last_checkpoint
from sopose.core.utils.errors import UserError
from sopose.main_gdrn import main


def test_a_rehearsal_does_everything_and_leaves_nothing(toy_run, tmp_path, capsys, caplog):
    with caplog.at_level("INFO"):
        main(["--config-file", str(toy_run["config"]), "--dry-run", "--opts", f"OUTPUT_DIR={tmp_path / 'out'}"])
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().out
    assert "iter 2/2" in said and "AR (VSD, MSSD, MSPD)" in said
    assert "dry run: data, network, 2 steps" in caplog.text


def test_a_rehearsal_beside_a_finished_run_is_none_of_its_business(toy_run):
    before = {path: path.stat().st_mtime_ns for path in toy_run["output"].rglob("*")}
    main(["--config-file", str(toy_run["config"]), "--dry-run"])
    assert before == {path: path.stat().st_mtime_ns for path in toy_run["output"].rglob("*")}


def test_a_rehearsal_finds_what_is_wrong(toy_run, tmp_path):
    with pytest.raises(UserError, match="toy_tset"):
        main(["--config-file", str(toy_run["config"]), "--dry-run", "--opts", "DATASETS.TEST=[toy_tset]"])


def test_the_profile_has_a_trace_and_a_table(toy_run):
    folder = toy_run["output"] / "profile"
    assert (folder / "trace.json.gz").stat().st_size > 1000
    assert "aten::" in (folder / "operations.txt").read_text()


def test_tensorboard_has_curves_and_pictures(toy_run):
    events = EventAccumulator(str(toy_run["output"] / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"overlay", "masks", "P", "Q"} <= set(tags["images"])
    assert {"losses/total_loss", "run/lr", "run/data_share", "run/time"} <= set(tags["scalars"])
    steps = [event.step for event in events.Images("overlay")]
    assert steps == list(range(5, steps[-1] + 1, 5))
    assert events.Images("overlay")[0].width > 300


def test_the_same_seed_gives_the_same_weights(toy_run, tmp_path):
    """Pictures, evaluations and profiles don't change the run."""
    opts = ["VIS_PERIOD=0", "DATASETS.TEST=", f"OUTPUT_DIR={tmp_path}"]
    main(["--config-file", str(toy_run["config"]), "--opts", *opts])
    one, other = (read_checkpoint(last_checkpoint(folder))["model"] for folder in (toy_run["output"], tmp_path))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=0)


def test_the_record_says_where_it_comes_from(toy_run):
    (start,) = json.loads((toy_run["output"] / "run.json").read_text())
    assert start["seed"] == 1 and start["iteration"] == 0 and start["iterations"] > 0
    assert start["packages"]["timm"] and start["python"]


def test_the_best_checkpoint_is_the_best_of_the_evaluations(toy_run):
    best, score = toy_run["output"] / BEST, json.loads((toy_run["output"] / "best.json").read_text())
    assert find_damage(best) is None
    assert score["metric"] == "AR_MSPD" and read_checkpoint(best)["iteration"] == score["iteration"]
    final = json.loads((toy_run["output"] / "inference" / "toy_test" / "scores.json").read_text())
    assert score["value"] >= final["overall"]["AR_MSPD"]


def test_a_metric_that_is_not_measured_is_reported(toy_run, tmp_path, caplog):
    opts = [f"OUTPUT_DIR={tmp_path}", "SOLVER.BEST_METRIC=AR_MPSD", "VAL.REPORT_CASES=0", "SOLVER.TOTAL_EPOCHS=1"]
    main(["--config-file", str(toy_run["config"]), "--opts", *opts])
    assert "SOLVER.BEST_METRIC=AR_MPSD was not measured" in caplog.text
    assert not (tmp_path / BEST).exists()


def test_the_last_weights_are_there_alone(toy_run, tmp_path):
    alone = read_checkpoint(toy_run["output"] / "model_final.safetensors")
    whole = read_checkpoint(last_checkpoint(toy_run["output"]))
    average = {name.removeprefix("module."): value for name, value in whole["ema_model"].items()}
    assert average.keys() - alone["model"].keys() == {"n_averaged"}
    for name, value in alone["model"].items():
        torch.testing.assert_close(average[name], value, rtol=0, atol=0)
    assert alone["facts"]["objects"] == whole["facts"]["objects"]


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(toy_run, tmp_path, monkeypatch):
    """With the graph that torch.compile takes, run as it is: code for a CPU needs a compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    opts = ["SOLVER.TOTAL_EPOCHS=1", "DATASETS.TEST="]
    for compiled in (False, True):
        more = [f"MODEL.COMPILE={compiled}", f"OUTPUT_DIR={tmp_path / str(compiled)}"]
        main(["--config-file", str(toy_run["config"]), "--opts", *opts, *more])
    states = [read_checkpoint(last_checkpoint(tmp_path / str(compiled)))["model"] for compiled in (False, True)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=1e-5)


def test_bfloat16_on_a_cpu_trains_nearly_the_same(toy_run, tmp_path):
    opts = ["SOLVER.TOTAL_EPOCHS=1", "SOLVER.IMS_PER_BATCH=4", "DATASETS.TEST="]
    for enabled in (False, True):
        more = [f"SOLVER.AMP.ENABLED={enabled}", f"OUTPUT_DIR={tmp_path / str(enabled)}"]
        main(["--config-file", str(toy_run["config"]), "--opts", *opts, *more])
    lines = [(tmp_path / str(enabled) / "metrics.json").read_text().splitlines() for enabled in (False, True)]
    exact, half = (json.loads(first) for first, *_ in lines)
    # In pixels, and the untrained network's depths are near zero: loss_ct_pro shows rounding, and the sum with it.
    names = [name for name in exact if name.startswith("loss_") and name != "loss_ct_pro"]
    assert half["total_loss"] != exact["total_loss"]
    assert sum(half[name] for name in names) == pytest.approx(sum(exact[name] for name in names), rel=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SOLVER.AMP.DTYPE=bfloat"], "did you mean 'bfloat16'"),
        (["TRAIN.MAX_SKIPPED=0"], "TRAIN.MAX_SKIPPED must be at least 1"),
    ],
)
def test_options_that_mean_nothing_are_reported(toy_run, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        main(["--config-file", str(toy_run["config"]), "--opts", f"OUTPUT_DIR={tmp_path / 'out'}", *words])
    assert not (tmp_path / "out").exists()


def test_words_that_do_not_go_together_are_usage_errors(toy_run):
    for words in (
        ["--eval-only", "--dry-run"],
        ["--eval-only", "--profile"],
        ["--dry-run", "--resume"],
        ["--dry-run", "--profile"],
    ):
        with pytest.raises(SystemExit) as left:
            main(["--config-file", str(toy_run["config"]), *words])
        assert left.value.code == 2
