"""The loop, its hooks and its checkpoints, on a linear regression."""

from __future__ import annotations

import json
import os
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sopose.core.engine.checkpoint import load_weights, model_weights, read_checkpoint, save_weights
from sopose.core.engine.checkpointer import Checkpointer, last_checkpoint
from sopose.core.engine.distributed import select_device
from sopose.core.engine.guard import Guard
from sopose.core.engine.hooks import Evaluate, SaveCheckpoint, UpdateAverage
from sopose.core.engine.integrity import checksum_path
from sopose.core.engine.logs import ConsoleLog, JsonLog, TensorBoardLog, read_metrics
from sopose.core.engine.random_state import seed_everything
from sopose.core.engine.step import StepOptions
from sopose.core.engine.trainer import Hook, Trainer
from sopose.core.utils.errors import LostWorkerError, UserError


class Line:
    """A run that fits y = 2 x + 1; batch i is the same in every run."""

    def __init__(self, folder: Path, max_iter: int = 20, nan_at: int | None = None, start: int = 0) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - i / 40)
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
        parts = {"optimizer": optimizer, "schedule": schedule, "ema_model": self.ema}
        self.checkpointer = Checkpointer(folder, self.model, parts, {"objects": ["a"]}, keep=2)
        self.evaluations: list[int] = []
        self.trainer = Trainer(
            self.model,
            self.losses,
            (self.batch(i, nan_at) for i in count(start)),
            optimizer,
            schedule,
            max_iter,
            hooks=[
                UpdateAverage(self.ema),
                ConsoleLog(5, iterations_per_epoch=10),
                JsonLog(5, folder / "metrics.json"),
                TensorBoardLog(5, folder / "tensorboard"),
                SaveCheckpoint(5, self.checkpointer),
                Evaluate(10, self.evaluate),
            ],
            guard=Guard(limit=1, describe=lambda batch: f"x from {float(batch[0]):.1f}"),
        )

    def evaluate(self, iteration: int) -> None:
        self.evaluations.append(iteration)
        self.model.eval()

    def losses(self, batch: torch.Tensor, iteration: int) -> dict[str, torch.Tensor]:
        return {"loss_fit": (self.model(batch) - 2 * batch - 1).square().mean()}

    @staticmethod
    def batch(index: int, nan_at: int | None) -> torch.Tensor:
        x = torch.randn(8, 1, generator=torch.Generator().manual_seed(index))
        return x * torch.nan if index == nan_at else x


def test_the_average_follows_the_weights_of_every_step(tmp_path):
    """Decay 0.5: after the first step the average is the weight, then halfway between itself and the next."""
    run, expected = Line(tmp_path, max_iter=4), []

    class Follow(Hook):
        def after_step(self) -> None:
            weight = run.model.weight.detach().clone()
            expected.append(weight if not expected else (expected[-1] + weight) / 2)

    run.trainer.hooks.append(Follow())
    run.trainer.train()
    assert len(expected) == 4 and not torch.equal(expected[-1], run.model.weight)
    torch.testing.assert_close(run.ema.module.weight, expected[-1])


def test_the_loop_learns_and_its_hooks_act_in_their_periods(tmp_path, capsys):
    run = Line(tmp_path)
    run.trainer.train()
    rows = read_metrics(tmp_path / "metrics.json")
    assert [row["iteration"] for row in rows] == [5, 10, 15, 20]
    assert rows[-1]["loss_fit"] < rows[0]["loss_fit"]
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["model_0000015.pth", "model_0000020.pth"]
    assert last_checkpoint(tmp_path).name == "model_0000020.pth"
    assert run.evaluations == [10]  # the end of the run is its caller's
    assert run.model.training
    assert list((tmp_path / "tensorboard").iterdir())
    lines = capsys.readouterr().out.splitlines()
    assert "iter 20/20" in lines[-1] and "ETA 0:00:00" in lines[-1] and "fit" in lines[-1]


def test_a_resumed_run_ends_as_an_undisturbed_one(tmp_path):
    whole = Line(tmp_path / "whole")
    whole.trainer.train()
    first = Line(tmp_path / "parts", max_iter=10)
    first.trainer.train()
    second = Line(tmp_path / "parts", start=10)
    second.trainer.iteration = second.checkpointer.resume()
    assert second.trainer.iteration == 10
    second.trainer.train()
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], value, rtol=0, atol=0)
    assert [row["iteration"] for row in read_metrics(tmp_path / "parts" / "metrics.json")] == [5, 10, 15, 20]


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(tmp_path):
    run = Line(tmp_path, nan_at=7)
    with pytest.raises(UserError, match=r"iteration 8: loss_fit not finite for the batch x from nan"):
        run.trainer.train()
    assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())


def test_the_average_is_what_a_checkpoint_is_tested_with(tmp_path):
    run = Line(tmp_path)
    run.trainer.train()
    path = last_checkpoint(tmp_path)
    weights = model_weights(read_checkpoint(path), path)
    torch.testing.assert_close(weights["weight"], run.ema.module.weight)


def test_a_missing_pointer_or_a_pointer_to_nothing_falls_back_to_the_newest_file(tmp_path):
    run = Line(tmp_path)
    run.trainer.train()
    (tmp_path / "last_checkpoint").write_text("model_9999999.pth\n")
    assert last_checkpoint(tmp_path).name == "model_0000020.pth"
    assert last_checkpoint(tmp_path / "elsewhere") is None


def test_checkpoints_of_other_networks_are_refused_in_one_line(tmp_path):
    run = Line(tmp_path)
    run.trainer.train()
    path = last_checkpoint(tmp_path)
    for other in (nn.Linear(2, 1), nn.Sequential(nn.Linear(1, 1))):
        with pytest.raises(UserError, match="another network") as caught:
            load_weights(other, model_weights(read_checkpoint(path), path), path)
        assert "\n" not in str(caught.value)


def test_damaged_and_pickled_files_are_refused(tmp_path):
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"not a checkpoint")
    pickled = tmp_path / "pickled.pth"
    torch.save({"model": os.system}, pickled)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"xx")
    for path in (damaged, pickled, broken, tmp_path / "absent.pth"):
        with pytest.raises(UserError) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)


def test_weights_survive_safetensors_with_shared_tensors(tmp_path):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.Linear(2, 2)
            self.gn = self.norm

    one, other = Twice(), Twice()
    save_weights(one.state_dict(), tmp_path / "w.safetensors", {"made by": "a test"})
    load_weights(other, read_checkpoint(tmp_path / "w.safetensors")["model"], tmp_path / "w.safetensors")
    torch.testing.assert_close(other.gn.weight, one.norm.weight)


def test_metrics_with_a_line_cut_off_are_read_up_to_it(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"iteration": 1}) + '\n{"iterat')
    assert read_metrics(path) == [{"iteration": 1}]


def test_devices_and_seeds():
    assert select_device("cpu").type == "cpu"
    assert select_device("cuda:99").type == "cpu"
    with pytest.raises(UserError, match="no device"):
        select_device("gpu")
    assert seed_everything(3) == 3
    assert seed_everything(-1) >= 0


@pytest.mark.parametrize("content", [{"model": torch.zeros(2)}, {"model": [1]}, {1: torch.zeros(2)}, {"model": {}}])
def test_files_of_another_form_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model_0000001.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"no weights|another network"):
        load_weights(nn.Linear(2, 2), model_weights(read_checkpoint(path), path), path)


@pytest.mark.parametrize("text", ["hello world\n", "", "I1\n."])
def test_a_text_is_no_checkpoint(tmp_path, text):
    (tmp_path / "a.pth").write_text(text)
    with pytest.raises(UserError, match=r"a\.pth") as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"iteration": None}, {"iteration": "a"}, {"optimizer": 5}, {"optimizer": {}}])
def test_a_state_that_is_none_cannot_be_resumed(tmp_path, change):
    model = nn.Linear(2, 2)
    checkpointer = Checkpointer(tmp_path, model, {"optimizer": torch.optim.AdamW(model.parameters())})
    path = checkpointer.save(3)
    torch.save(read_checkpoint(path) | change, path)
    checksum_path(path).unlink()
    with pytest.raises(UserError, match=path.name):
        checkpointer.resume()


def test_bytes_that_are_no_text_stop_neither_pointer_nor_metrics(tmp_path):
    checkpointer = Checkpointer(tmp_path, nn.Linear(2, 2), {})
    path = checkpointer.save(3)
    (tmp_path / "last_checkpoint").write_bytes(b"\xff\xfe")
    assert last_checkpoint(tmp_path) == path
    (tmp_path / "metrics.json").write_bytes(b'\xff\n3\n{"a": 1}\n{"iteration": 1}\n')
    assert read_metrics(tmp_path / "metrics.json") == [{"iteration": 1}]


def test_what_the_machine_cannot_do_is_reported():
    with pytest.raises(UserError, match="mps"):
        select_device("mps")
    with pytest.raises(UserError, match="SEED"):
        seed_everything(2**40)


class Fixed:
    """A run without hooks on given batches: three SGD steps of a line."""

    def __init__(self, batches: list[torch.Tensor], per_step: int, clip_norm: float = 0.0) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 / (1 + i))
        options = StepOptions(clip_norm=clip_norm, batches=per_step)
        self.trainer = Trainer(self.model, self.losses, batches, optimizer, schedule, max_iter=3, options=options)
        self.trainer.train()

    def losses(self, batch: torch.Tensor, iteration: int) -> dict[str, torch.Tensor]:
        return {"loss_fit": (self.model(batch) - 2 * batch - 1).square().mean(), "loss_one": torch.ones(())}


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
def test_accumulated_batches_are_one_batch(clip_norm):
    samples = torch.randn(24, 1, generator=torch.Generator().manual_seed(5))
    whole, parts = Fixed([*samples.split(8)], 1, clip_norm), Fixed([*samples.split(2)], 4, clip_norm)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    for name in ("loss_fit", "loss_one", "total_loss", "lr"):
        assert parts.trainer.events.latest()[name] == pytest.approx(whole.trainer.events.latest()[name], rel=1e-5), name
    assert parts.trainer.iteration == 3


def test_a_trainer_goes_on_after_the_steps_done_before():
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    seen: list[int] = []

    def losses(batch: torch.Tensor, iteration: int) -> dict[str, torch.Tensor]:
        seen.append(iteration)
        return {"loss": model(batch).square().mean()}

    trainer = Trainer(model, losses, [torch.ones(1, 1)] * 2, optimizer, schedule, max_iter=5, iteration=3)
    assert trainer.train() and seen == [3, 4] and trainer.iteration == 5


def test_a_lost_worker_leaves_a_checkpoint_to_go_on_from(tmp_path):
    """The state is that after the last whole step."""

    def batches(count: int):
        yield from range(count)
        raise LostWorkerError("a process was killed")

    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    checkpointer = Checkpointer(tmp_path, network, {"optimizer": optimizer, "schedule": schedule})
    trainer = Trainer(
        network,
        lambda batch, _: {"loss": network(torch.full((1, 1), float(batch))).sum()},
        batches(3),
        optimizer,
        schedule,
        max_iter=10,
        hooks=[SaveCheckpoint(0, checkpointer)],
    )
    with pytest.raises(UserError, match=r"^stopped after iteration 3, continue with --resume: a process was killed$"):
        trainer.train()
    state = read_checkpoint(last_checkpoint(tmp_path))
    assert state["iteration"] == 3 and torch.equal(state["model"]["weight"], network.weight)
