"""Two processes under torchrun: the losses and scores of one with their samples; a rank that dies ends all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from sopose.core.bop.results import read_results
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import Checkpointer, last_checkpoint
from sopose.core.engine.distributed import current_world, of_all_ranks, sum_over_ranks, take_buffers_of_first
from sopose.core.engine.trainer import Trainer
from sopose.losses.dense import mask_size, masked_mean
from tests.support.programs import finish, start_group, start_ranks, start_run
from tests.support.shared import shared_folder

ROOT = Path(__file__).resolve().parents[1]
# No batch statistics: the backbone is frozen, the heads have group norms.
CONFIG = """
SOLVER = dict(IMS_PER_BATCH=8, REFERENCE_BS=16, TOTAL_EPOCHS=6, CHECKPOINT_PERIOD=1)
DATASETS = dict(TRAIN2_RATIO=0.3)
DATALOADER = dict(NUM_WORKERS=1)
TRAIN = dict(CT_START=0.0, CT_P_START=0.0)
TEST = dict(IMS_PER_BATCH=2)
MODEL = dict(
    EMA=dict(ENABLED=True, INIT_CFG=dict(decay=0.9)),
    POSE_NET=dict(USE_MTL=True, BACKBONE=dict(FREEZE=True)),
)
"""


def launch(processes: int, config: Path, output: Path, *words: str) -> subprocess.Popen:
    """main_gdrn.py by torchrun."""
    script = [
        "gdrn_selfocc_modeling/main_gdrn.py",
        "--config-file",
        str(config),
        *words,
        "--opts",
        f"OUTPUT_DIR={output}",
    ]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *torchrun, *script]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def rows(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, write_tiny_config) -> dict[int, Path]:
    """Outputs of the same run by one process and by two, and the configuration under 0."""

    def make(folder: Path) -> None:
        config = write_tiny_config(folder, CONFIG)
        finish([start_run(folder / "said", config, folder / "1")])
        finish(start_ranks(folder, 2, config, folder / "2"))

    folder = shared_folder(tmp_path_factory, "runs", make)
    return {0: folder / "tiny.py", 1: folder / "1", 2: folder / "2"}


def test_two_processes_have_the_losses_of_one(runs):
    one, two = rows(runs[1]), rows(runs[2])
    assert [row["iteration"] for row in one] == [row["iteration"] for row in two] and len(one) >= 4
    first = {name: value for name, value in one[0].items() if "loss" in name}
    assert {name: two[0][name] for name in first} == pytest.approx(first, rel=1e-5, abs=1e-7)
    assert two[1]["loss_ct_pro"] == pytest.approx(one[1]["loss_ct_pro"], rel=1e-3)
    # In pixels, and the untrained network's depths are near zero: from the third step on it is rounding that this loss
    # shows, and their sum with it.
    sensitive = {"loss_ct_pro", "total_loss"}
    for alone, together in zip(one, two, strict=True):
        for name, value in alone.items():
            if ("loss" in name and name not in sensitive) or name == "lr":
                # Float32 sums in another order, carried on through a few steps.
                assert together[name] == pytest.approx(value, rel=1e-3, abs=2e-5), (alone["iteration"], name)


def test_two_processes_have_the_weights_and_scores_of_one(runs):
    states = [read_checkpoint(last_checkpoint(runs[number])) for number in (1, 2)]
    for part in ("model", "ema_model", "criterion"):
        for name, value in states[0][part].items():
            torch.testing.assert_close(states[1][part][name], value, rtol=0, atol=3e-4, msg=name)
    assert len(states[1]["random"]) == 2
    csvs = [next(runs[number].rglob("*.csv")) for number in (1, 2)]
    one, two = (read_results(path) for path in csvs)
    assert [(e.scene_id, e.im_id, e.obj_id) for e in one] == [(e.scene_id, e.im_id, e.obj_id) for e in two]
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(torch.tensor(a.pose.cam_t_obj), torch.tensor(b.pose.cam_t_obj), rtol=0, atol=2e-3)


def test_the_first_rank_alone_reports_and_writes(runs):
    first, second = ((runs[0].parent / f"said{rank}").read_text() for rank in (0, 1))
    total = len(rows(runs[2]))
    assert first.count(f"iter {total}/{total}") == 1 and first.count("estimates  ") == 1
    assert "iter" not in second and "estimates" not in second
    assert "find_unused_parameters" not in first + second
    start = json.loads((runs[2] / "run.json").read_text())
    assert len(start) == 1 and start[0]["processes"] == 2
    assert not list(runs[2].rglob("*.part*"))


@pytest.mark.slow
def test_two_processes_go_on_where_they_stopped(runs, tmp_path):
    config = tmp_path / "short.py"
    config.write_text(runs[0].read_text())
    process = launch(2, config, tmp_path / "out")
    for line in process.stdout:
        if "iter 2/" in line:
            break
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert "continue with --resume" in said
    process = launch(2, config, tmp_path / "out", "--resume")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    for folder in (runs[2], tmp_path / "out"):
        assert [row["iteration"] for row in rows(folder)] == list(range(1, len(rows(runs[2])) + 1))
    expected, found = (read_checkpoint(last_checkpoint(folder))["model"] for folder in (runs[2], tmp_path / "out"))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_job_with_an_error(runs, tmp_path):
    process = launch(2, runs[0], tmp_path / "out")
    for line in process.stdout:
        if "iter 1/" in line:
            break
    workers = [pid for pid in children(process.pid) if "main_gdrn" in command_of(pid)]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    started = time.monotonic()
    said, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None) and time.monotonic() - started < 50
    assert f"Signal {int(signal.SIGKILL)}" in said
    assert not [pid for pid in workers if is_running(pid)]


@pytest.mark.slow
def test_a_rank_that_cannot_begin_ends_the_job(odd, tmp_path):
    process = launch(2, odd, tmp_path / "out")
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 1 and "error: SOLVER.IMS_PER_BATCH=7 counts" in said


def test_ranks_that_cannot_begin_say_why(odd, tmp_path):
    ranks = start_ranks(tmp_path, 2, odd, tmp_path / "out")
    assert [rank.wait(100) for rank in ranks] == [1, 1]
    assert "error: SOLVER.IMS_PER_BATCH=7 counts the ROIs of all processes" in ranks[0].said.read_text()
    assert not (tmp_path / "out").exists()


@pytest.fixture
def odd(write_tiny_config, tmp_path) -> Path:
    """A configuration whose ROIs can't be shared out to two processes."""
    return write_tiny_config(tmp_path, "SOLVER = dict(IMS_PER_BATCH=7)\n")


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    return [int(word) for word in listed.stdout.split()]


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0]


def as_rank(folder: Path, checks: Sequence[Callable[[Path], None]]) -> None:
    """Each of `checks(folder)` as one rank of a group."""
    dist.init_process_group("gloo")
    try:
        for check in checks:
            check(folder)
    finally:
        dist.destroy_process_group()


def _shared_numbers(folder: Path) -> None:
    rank = current_world().rank
    assert sum_over_ranks(torch.tensor([1.0, rank])).tolist() == [2.0, 1.0]
    assert of_all_ranks({"a": torch.tensor(rank)})[1]["a"].item() == 1
    norm = torch.nn.BatchNorm1d(2)
    norm.running_mean += rank + 1
    take_buffers_of_first(norm)
    assert norm.running_mean.tolist() == [1.0, 1.0]
    # A mean over a mask of unequal sizes: the mean of the ranks' is that of all samples.
    x, mask = torch.arange(8.0).reshape(2, 4), torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 0]])
    means = of_all_ranks(masked_mean(x[rank], mask[rank]))
    assert float(sum(means)) / 2 == pytest.approx(float(masked_mean_alone(x, mask)))
    assert float(mask_size(torch.tensor(0.0))) == 0.5  # at least one cell in all


def masked_mean_alone(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (x * mask).sum() / mask.sum()


def _random_states(folder: Path) -> None:
    rank = current_world().rank
    torch.manual_seed(rank)
    checkpointer = Checkpointer(folder / "run", torch.nn.Linear(2, 2), {})
    path = checkpointer.save(1)
    expected = torch.rand(3)
    dist.barrier()
    assert path.is_file() and checkpointer.resume() == 1
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def _stops_together(folder: Path) -> None:
    rank = current_world().rank
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1.0)

    def losses(batch: torch.Tensor, iteration: int) -> dict[str, torch.Tensor]:
        return {"loss": model(batch).mean()}

    def asked() -> bool:
        return rank == 1 and trainer.iteration == 3

    def batches():
        while True:
            yield torch.ones(2, 1)

    trainer = Trainer(model.module, losses, batches(), optimizer, schedule, 100, should_stop=asked)
    assert not trainer.train()
    assert of_all_ranks(trainer.iteration) == [4, 4]


def _skips_together(folder: Path) -> None:
    rank = current_world().rank
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1.0)

    def losses(batch: torch.Tensor, iteration: int) -> dict[str, torch.Tensor]:
        loss = model(batch).mean()
        return {"loss": loss + torch.inf if rank == 1 and iteration == 1 else loss}

    trainer = Trainer(model.module, losses, [torch.ones(2, 1)] * 3, optimizer, schedule, 3)
    trainer.guard.limit = 2
    trainer.train()
    assert of_all_ranks(trainer.guard.skipped) == [1, 1]
    weights = of_all_ranks(model.module.weight.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert bool(torch.isfinite(weights[0]).all())


def test_ranks_agree(tmp_path):
    finish(
        start_group(tmp_path, 2, as_rank, tmp_path, (_shared_numbers, _random_states, _stops_together, _skips_together))
    )
