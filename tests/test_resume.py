"""A run that is killed, stopped or spoilt on its way: it ends with the same bits, or says what was wrong."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from sopose.batch import collate_samples
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.trainer import Trainer
from sopose.core.utils.errors import UserError
from sopose.main_gdrn import main
from sopose.training import run as training
from tests.support.command import verb
from tests.support.programs import finish, start_run
from tests.support.shared import shared_folder

replay_batch = verb("replay")

# Everything that has a state: Lookahead, accumulation, average, dropout, learned loss weights, a worker, two sources,
# rendered windows that are used again.
EVERYTHING = """
CAD = dict(REUSE=3, POOL=8)
SOLVER = dict(IMS_PER_BATCH=2, REFERENCE_BS=4, TOTAL_EPOCHS=2, CHECKPOINT_PERIOD=1, CHECKPOINT_BY_EPOCH=False)
DATALOADER = dict(NUM_WORKERS=1)
DATASETS = dict(TEST=())
MODEL = dict(
    EMA=dict(ENABLED=True, INIT_CFG=dict(decay=0.9)),
    POSE_NET=dict(USE_MTL=True, PNP_NET=dict(INIT_CFG=dict(drop_prob=0.3))),
)
"""


def assert_same_state(one: Path, other: Path) -> None:
    """Weights, average, optimizer with slow weights, schedule, loss weights, random states: all bits alike."""
    states = [read_checkpoint(last_checkpoint(folder)) for folder in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert states[0].keys() >= {"model", "ema_model", "optimizer", "schedule", "criterion", "random"}
    flat = [dict(flatten(state)) for state in states]
    assert flat[0].keys() == flat[1].keys()
    for name, value in flat[0].items():
        if torch.is_tensor(value):
            torch.testing.assert_close(flat[1][name], value, rtol=0, atol=0, msg=name)
        elif not name.startswith("facts/settings"):
            assert value == flat[1][name], name


def flatten(value, path: str = ""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(item, f"{path}/{key}".lstrip("/"))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from flatten(item, f"{path}/{place}")
    else:
        yield path, value


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, write_tiny_config) -> tuple[Path, Path]:
    """The configuration and the output of a run that was left alone."""

    def make(folder: Path) -> None:
        finish([start_run(folder / "said", write_tiny_config(folder, EVERYTHING), folder / "out")])

    folder = shared_folder(tmp_path_factory, "undisturbed", make)
    return folder / "tiny.py", folder / "out"


@pytest.mark.parametrize("most", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_again_and_again_a_run_ends_with_the_same_bits(undisturbed, tmp_path, most):
    config, expected = undisturbed
    draw, kills = random.Random(4), 0
    while kills < most:
        program = start_run(tmp_path / f"said{kills}", config, tmp_path / "out", "--resume")
        # At any moment: while it loads, before the first step, in a step, in a checkpoint.
        if kills % 3 == 0:
            time.sleep(draw.uniform(0.0, 3.0))
        else:
            program.read_until("iter ")
            time.sleep(draw.uniform(0.0, 0.2))
        program.kill()
        kills += 1
        last = last_checkpoint(tmp_path / "out")
        if last is not None and last.name == last_checkpoint(expected).name:
            break  # it was quicker than its killers
    finish([start_run(tmp_path / "said", config, tmp_path / "out", "--resume")])
    assert kills > most // 2
    assert_same_state(expected, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == list(range(1, len(rows) + 1))
    assert not [path for path in (tmp_path / "out").rglob("*") if ".part" in path.name]


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 0)]
)
def test_stopped_by_a_signal_it_goes_on_with_the_same_bits(undisturbed, tmp_path, number, code):
    config, expected = undisturbed
    sparse = tmp_path / "sparse.py"  # no checkpoint but the one that the signal asks for
    sparse.write_text(f'_base_ = ["{config}"]\nSOLVER = dict(CHECKPOINT_PERIOD=1000)\n')
    program = start_run(tmp_path / "said", sparse, tmp_path / "out")
    program.read_until("iter 2/")
    program.send_signal(number)
    assert program.wait(60) == code and "continue with --resume" in program.said.read_text()
    assert len(list((tmp_path / "out").glob("model_*.pth"))) == 1
    finish([start_run(tmp_path / "said2", config, tmp_path / "out", "--resume")])
    assert_same_state(expected, tmp_path / "out")


@pytest.fixture
def tiny(tmp_path, write_tiny_config) -> list[str]:
    """Arguments of a short run without a test."""
    config = write_tiny_config(tmp_path, "DATASETS = dict(TEST=())\nSOLVER = dict(TOTAL_EPOCHS=2)\n")
    return ["--config-file", str(config), "--opts", "TRAIN.MAX_SKIPPED=3"]


def spoil_image(monkeypatch: pytest.MonkeyPatch, which) -> None:
    """NaN in one pixel of the batches whose number `which` says."""
    made = []

    def collate(samples):
        rois, targets, infos = collate_samples(samples)
        made.append(1)
        if which(len(made)):
            rois.image[1, 0, 3, 3] = torch.nan
        return rois, targets, infos

    monkeypatch.setattr(training, "collate_samples", collate)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(last_checkpoint(folder))["model"]


def test_a_spoilt_image_is_skipped_and_counted(tiny, tmp_path, monkeypatch, caplog):
    spoil_image(monkeypatch, lambda number: number == 3)
    main(tiny)
    assert "iteration 3:" in caplog.text and "step skipped (1 so far)" in caplog.text
    assert all(bool(torch.isfinite(value).all()) for value in weights_of(tmp_path / "out").values())
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    assert rows[-1]["skipped_steps"] == 1 and rows[-1]["total_loss"] is not None


def test_spoilt_images_in_a_row_end_the_run_and_are_replayed(tiny, tmp_path, monkeypatch, capsys):
    spoil_image(monkeypatch, lambda number: number >= 2)
    with pytest.raises(UserError, match=r"iteration 4: loss_.* as in the 2 steps before .*failed_step\.pth") as caught:
        main([*tiny, "DATALOADER.NUM_WORKERS=1"])
    assert "\n" not in str(caught.value)
    step = tmp_path / "out" / "failed_step.pth"
    replay_batch([str(step), "--picture", str(tmp_path / "failed.png")])
    said = capsys.readouterr().out
    assert "input image of ROI [1]" in said and "weights    finite" in said
    assert "look at these images" in said
    assert (tmp_path / "failed.png").stat().st_size > 10_000


def test_a_spoilt_weight_ends_the_run_and_is_named(tiny, tmp_path, monkeypatch, capsys):
    run_step = Trainer.run_step

    def spoil_weight(self: Trainer, batches) -> None:
        if self.iteration == 1:
            with torch.no_grad():
                next(self.model.geo_head_net.parameters())[0] = torch.nan
        run_step(self, batches)

    monkeypatch.setattr(Trainer, "run_step", spoil_weight)
    with pytest.raises(UserError, match=r"iteration 4: .* not finite"):
        main(tiny)
    replay_batch([str(tmp_path / "out" / "failed_step.pth")])
    said = capsys.readouterr().out
    assert "weights    NOT FINITE: geo_head_net" in said and "continue from an earlier checkpoint" in said


def test_a_spoilt_loss_ends_the_run_and_does_not_come_back(tiny, tmp_path, monkeypatch, capsys):
    compute = training.Learner.compute_losses

    def spoil_loss(self, batch, iteration):
        losses = compute(self, batch, iteration)
        return losses | {"loss_mask": losses["loss_mask"] * torch.inf}

    monkeypatch.setattr(training.Learner, "compute_losses", spoil_loss)
    with pytest.raises(UserError, match=r"iteration 3: loss_mask not finite, as in the 2 steps before"):
        main(tiny)
    replay_batch([str(tmp_path / "out" / "failed_step.pth")])
    assert "All is finite here" in capsys.readouterr().out


def test_a_file_that_holds_no_step_is_reported(tmp_path, tiny, repository):
    torch.save({"model": {}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth holds no step"):
        replay_batch([str(tmp_path / "a.pth"), "--config-file", tiny[1]])


def test_a_resumed_run_takes_another_learning_rate_and_no_other_optimizer(tiny, tmp_path, caplog):
    main([*tiny, "SOLVER.TOTAL_EPOCHS=1"])
    with pytest.raises(UserError, match=r"the optimizer was Ranger and is SGD now"):
        main([*tiny, "SOLVER.OPTIMIZER_CFG.type=SGD", "--resume"])
    main([*tiny, "SOLVER.OPTIMIZER_CFG.lr=3e-6", "--resume"])
    assert "continuing with other learning rates" in caplog.text
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    assert max(row["lr"] for row in rows[len(rows) // 2 + 3 :]) < 4e-6
