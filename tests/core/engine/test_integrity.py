"""Damaged weights are not used: readers compare what a file has of checksums, and ask for finite numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.engine.checkpoint import load_weights, model_weights, read_checkpoint, save_weights
from sopose.core.engine.integrity import checksum, checksum_path, digest_of_tensors
from sopose.core.utils.errors import UserError
from tests.support.command import verb

convert_checkpoint = verb("weights")

SUFFIXES = pytest.mark.parametrize("suffix", [".pth", ".safetensors"])


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))


def written(folder: Path, suffix: str) -> Path:
    save_weights(network().state_dict(), folder / f"net{suffix}", {"objects": ["mug"]})
    return folder / f"net{suffix}"


def flip(path: Path, place: int) -> None:
    """Change a bit of the weights themselves."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@SUFFIXES
def test_a_flipped_bit_of_the_weights_is_refused_in_one_line(tmp_path, suffix):
    path = written(tmp_path, suffix)
    first = network()[0].weight.detach().numpy().tobytes()
    flip(path, path.read_bytes().index(first) + 7)
    with pytest.raises(UserError, match=r"is not a file of weights, or damaged \(.*checksum") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="damaged"):
        convert_checkpoint([str(path), str(tmp_path / "converted.safetensors")])
    assert not (tmp_path / "converted.safetensors").exists()


@SUFFIXES
def test_a_file_that_the_checksum_beside_it_contradicts_is_refused(tmp_path, suffix):
    path = written(tmp_path, suffix)
    checksum_path(path).write_text(checksum(path) + "\n")
    read_checkpoint(path)
    checksum_path(path).write_text("0" * 64 + "\n")
    with pytest.raises(UserError, match=rf"its checksum differs from net{suffix}\.sha256"):
        read_checkpoint(path)


@SUFFIXES
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, suffix, value):
    weights = network().state_dict()
    weights["1.running_var"][2] = value
    path = tmp_path / f"net{suffix}"
    save_weights(weights, path)
    with pytest.raises(UserError, match=r"no finite numbers \(1\.running_var; 1 of 7 tensors\)"):
        model_weights(read_checkpoint(path), path)


@SUFFIXES
def test_whole_files_are_read_whatever_types_and_layouts_they_have(tmp_path, suffix):
    weights = {
        "half": torch.randn(3, 4).half(),
        "brain": torch.randn(3).bfloat16(),
        "turned": torch.randn(4, 5).t(),
        "last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "count": torch.tensor(3),
        "none": torch.zeros(0, 2),
        "yes": torch.tensor([True, False]),
    }
    path = tmp_path / f"net{suffix}"
    save_weights(weights, path)
    read = model_weights(read_checkpoint(path), path)
    assert all(torch.equal(read[name], value) for name, value in weights.items())


@given(st.permutations(["a", "b", "c"]))
def test_the_digest_is_that_of_names_types_shapes_and_values(order):
    tensors = {"a": torch.arange(6.0), "b": torch.arange(6), "c": torch.zeros(2, 3)}
    digest = digest_of_tensors(tensors)
    assert digest == digest_of_tensors({name: tensors[name] for name in order})
    others = [
        tensors | {"a": torch.arange(6.0).view(2, 3)},
        tensors | {"a": torch.arange(6.0).flip(0)},
        tensors | {"c": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": tensors["b"], "b": tensors["a"], "c": tensors["c"]},
    ]
    assert digest not in {digest_of_tensors(other) for other in others}


def test_a_damaged_tensor_never_reaches_a_network(tmp_path):
    path = written(tmp_path, ".safetensors")
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flip(path, path.stat().st_size - 3)
    with pytest.raises(UserError):
        load_weights(model, model_weights(read_checkpoint(path), path), path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
