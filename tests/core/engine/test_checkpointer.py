"""Checkpoints on disk: damaged ones are passed over, the best stays, a full disk costs nothing, draws continue."""

from __future__ import annotations

import logging
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import BEST, Checkpointer, find_damage, last_checkpoint
from sopose.core.engine.integrity import checksum, checksum_path
from sopose.core.utils.errors import UserError


@pytest.fixture
def checkpointer(tmp_path) -> Checkpointer:
    torch.manual_seed(0)
    model = nn.Linear(30, 30)
    return Checkpointer(tmp_path / "run", model, {"optimizer": torch.optim.AdamW(model.parameters())}, keep=3)


def weights_at(checkpointer: Checkpointer, iteration: int) -> Path:
    with torch.no_grad():
        checkpointer.model.weight.fill_(float(iteration))
    return checkpointer.save(iteration)


def test_every_checkpoint_has_its_checksum_and_loses_it_with_itself(checkpointer):
    paths = [weights_at(checkpointer, iteration) for iteration in range(1, 6)]
    kept = sorted(path.name for path in checkpointer.folder.glob("model_*"))
    assert kept == [name for path in paths[2:] for name in (path.name, checksum_path(path).name)]
    assert all(checksum_path(path).read_text().strip() == checksum(path) for path in paths[2:])


@pytest.mark.parametrize("share", [tenth / 10 for tenth in range(10)])
def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(checkpointer, share, caplog):
    weights_at(checkpointer, 1)
    path = weights_at(checkpointer, 2)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with caplog.at_level(logging.WARNING):
        assert checkpointer.resume() == 1
    assert checkpointer.model.weight[0, 0].item() == 1
    assert "model_0000002.pth is damaged" in caplog.text


@pytest.mark.parametrize("with_checksum", [True, False])
def test_a_flipped_bit_is_noticed(checkpointer, with_checksum):
    weights_at(checkpointer, 1)
    path = weights_at(checkpointer, 2)
    data = bytearray(path.read_bytes())
    where = data.index(np.full(20, 2.0, np.float32).tobytes()) + 8  # amid the weights
    data[where] ^= 1
    path.write_bytes(data)
    if not with_checksum:
        checksum_path(path).unlink()
    assert find_damage(path) is not None
    assert last_checkpoint(checkpointer.folder).name == "model_0000001.pth"


def test_a_run_killed_between_checkpoint_and_checksum_goes_on(checkpointer):
    path = weights_at(checkpointer, 2)
    checksum_path(path).unlink()
    assert checkpointer.resume() == 2


def test_only_damaged_checkpoints_are_an_error(checkpointer):
    for iteration in (1, 2):
        weights_at(checkpointer, iteration).write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole \(model_0000002.pth, model_0000001.pth\)"):
        checkpointer.resume()


def test_the_best_stays_when_it_grows_old(checkpointer):
    for iteration, value in ((1, 0.3), (2, 0.7), (3, 0.5), (4, 0.6), (5, float("nan"))):
        weights_at(checkpointer, iteration)
        assert checkpointer.keep_best(iteration, "AR", value) == (iteration <= 2)
    best = checkpointer.folder / BEST
    assert read_checkpoint(best)["iteration"] == 2 and find_damage(best) is None
    assert not (checkpointer.folder / "model_0000002.pth").exists()
    assert last_checkpoint(checkpointer.folder).name == "model_0000005.pth"
    assert checkpointer.keep_best(5, "ADD", 0.1)  # another metric has another best
    assert not checkpointer.keep_best(1, "ADD", 0.9)  # its file is gone


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        model = nn.Linear(50, 50)
        checkpointer = Checkpointer(place, model, {}, keep=5)
        checkpointer.save(1)
        with pytest.raises(UserError, match=r"cannot be written .*make room"):
            for iteration in range(2, 9):
                checkpointer.save(iteration)
        assert checkpointer.resume() >= 1
        assert not [path for path in place.iterdir() if "part" in path.name]
    finally:
        subprocess.run(["umount", str(place)], check=True)


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(()))]


def test_random_draws_go_on_where_they_were(checkpointer):
    random.seed(1)
    np.random.seed(2)
    np.random.randn()  # leaves half a pair of normal numbers
    checkpointer.save(7)
    expected = draw()
    draw()
    checkpointer.resume()
    assert draw() == expected


def test_a_checkpoint_without_random_states_still_resumes(checkpointer, caplog):
    path = checkpointer.save(7)
    state = {key: value for key, value in read_checkpoint(path).items() if key != "random"}
    torch.save(state, path)
    checksum_path(path).unlink()
    with caplog.at_level(logging.WARNING):
        assert checkpointer.resume() == 7
    assert "without random states" in caplog.text


def test_a_copy_serves_where_there_are_no_links(checkpointer, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    weights_at(checkpointer, 1)
    assert checkpointer.keep_best(1, "AR", 0.5)
    assert find_damage(checkpointer.folder / BEST) is None
