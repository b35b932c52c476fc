"""Checkpoints to safetensors and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from sopose.core.engine.checkpoint import load_weights, read_checkpoint
from sopose.core.engine.facts import plain_facts
from sopose.core.utils.errors import UserError
from tests.support.command import verb

main = verb("weights")


class Block(nn.Module):
    """A convolution with a norm of two names and one that counts batches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, bias=False)
        self.norm = nn.GroupNorm(2, 4)
        self.gn = self.norm
        self.bn1 = nn.BatchNorm2d(4)
        for parameter in self.parameters():
            nn.init.normal_(parameter)


def checkpoint(path: Path, prefix: str = "module.") -> Block:
    """A file as the ancestor writes it."""
    network = Block()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    state = {
        "model": {prefix + name: value for name, value in network.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "scheduler": {"base_lrs": [np.float64(0.1)]},
        "iteration": 1234,
        "facts": {"objects": ["ape", "can"], "config": "BASE_LR = 1e-4\n"},
    }
    torch.save(state, path)
    return network


@pytest.mark.parametrize("prefix", ["", "module.", "_module.", "model."])
def test_there_and_back_changes_no_bit(tmp_path, prefix):
    network = checkpoint(tmp_path / "old.pth", prefix)
    main([str(tmp_path / "old.pth"), str(tmp_path / "a.safetensors")])
    main([str(tmp_path / "a.safetensors"), str(tmp_path / "back.pth")])
    want = network.state_dict()
    for name in ("a.safetensors", "back.pth"):
        state = read_checkpoint(tmp_path / name)
        assert set(state["model"]) == set(want)
        for key, value in want.items():
            assert state["model"][key].dtype == value.dtype and torch.equal(state["model"][key], value), key
        assert plain_facts(state) == {"objects": ["ape", "can"], "config": "BASE_LR = 1e-4\n", "iteration": 1234}
        report = load_weights(Block(), state["model"], tmp_path / name)
        assert report.complete and not report.left_over
    assert set(torch.load(tmp_path / "back.pth", weights_only=True)) == {"model", "iteration", "facts"}


def test_what_is_written_and_left_aside_is_reported(tmp_path, capsys):
    checkpoint(tmp_path / "old.pth")
    main([str(tmp_path / "old.pth"), str(tmp_path / "a.safetensors")])
    printed = capsys.readouterr().out
    assert "8 tensors (float32, int64), 2 second names" in printed
    assert "kept: objects, config, iteration" in printed
    assert "left aside: optimizer, scheduler" in printed


def test_a_moving_average_is_preferred_and_reported(tmp_path, capsys):
    average = {"module.weight": torch.ones(2), "n_averaged": torch.tensor(3)}
    torch.save({"model": {"weight": torch.zeros(2)}, "ema_model": average}, tmp_path / "old.pth")
    main([str(tmp_path / "old.pth"), str(tmp_path / "a.safetensors")])
    assert torch.equal(read_checkpoint(tmp_path / "a.safetensors")["model"]["weight"], torch.ones(2))
    assert "weights from: ema_model" in capsys.readouterr().out


def test_half_precision_keeps_what_it_cannot_hold(tmp_path):
    weights = {"weight": torch.randn(1000), "running_var": torch.tensor([1e6]), "count": torch.tensor(2**40)}
    weights["norm.weight"] = weights["gn.weight"] = torch.randn(8)
    torch.save(weights, tmp_path / "old.pth")
    main([str(tmp_path / "old.pth"), str(tmp_path / "a.safetensors"), "--half"])
    stored = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert set(stored) == {"weight", "running_var", "count", "gn.weight"}
    assert torch.equal(stored["weight"], weights["weight"].half())
    assert stored["running_var"].item() == 1e6 and stored["count"].item() == 2**40


@pytest.mark.parametrize(
    "names", [("old.pth", "a.bin"), ("old.pth", "old.pth"), ("absent.pth", "a.pth"), ("bad.pth", "a.pth")]
)
def test_bad_input_writes_nothing(tmp_path, names):
    checkpoint(tmp_path / "old.pth")
    torch.save({"optimizer": {"lr": 0.1}}, tmp_path / "bad.pth")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError) as caught:
        main([str(tmp_path / name) for name in names])
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_wrong_usage_leaves_with_2():
    for wrong in ([], ["a.pth"], ["a.pth", "b.pth", "--quarter"]):
        with pytest.raises(SystemExit) as left:
            main(wrong)
        assert left.value.code == 2
