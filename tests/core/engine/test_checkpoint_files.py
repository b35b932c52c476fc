"""Checkpoints of other programs: what is read of them, and what is refused."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from sopose.core.engine.checkpoint import load_weights, model_weights, read_checkpoint, save_weights
from sopose.core.engine.facts import plain_facts
from sopose.core.legacy.plain_numpy import PlainDtype, plain_scalar
from sopose.core.utils.errors import UserError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
NUMPY_SCALARS = [np.float64(1.5), np.float32(0.25), np.int64(-3), np.bool_(True), np.str_("abc")]


def save(content: object, path: Path, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def under_old_numpy_names(path: Path) -> Path:
    """A file of torch's legacy format as numpy 1 would have written it."""
    content = path.read_bytes()
    assert b"numpy._core" in content
    path.write_bytes(content.replace(b"numpy._core", b"numpy.core"))
    return path


@FORMATS
@pytest.mark.parametrize("key", ["model", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_module.", "model.", "module.model."])
def test_every_form_of_checkpoint_gives_its_weights(tmp_path, zipped, key, prefix):
    source, network = nn.Linear(2, 3), nn.Linear(2, 3)
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    training = {"optimizer": torch.optim.Adam(source.parameters()).state_dict(), "scheduler": {"lr": np.float64(0.1)}}
    content = weights if key is None else {key: weights, "iteration": 12, **training}
    path = save(content, tmp_path / "a.pth", zipped)
    report = load_weights(network, model_weights(read_checkpoint(path), path), path)
    assert torch.equal(network.weight, source.weight) and torch.equal(network.bias, source.bias)
    assert report.matched == ("weight", "bias") and not report.left_over


@FORMATS
def test_numbers_of_numpy_are_read_as_plain_ones(tmp_path, zipped):
    state = {"lr": NUMPY_SCALARS, "history": np.zeros(3), "empty": np.zeros(0), "model": {"weight": torch.ones(2)}}
    read = read_checkpoint(save(state, tmp_path / "a.pth", zipped))
    assert read["lr"] == [1.5, 0.25, -3, True, "abc"]
    assert [type(value) for value in read["lr"]] == [float, float, int, bool, str]
    assert torch.equal(read["model"]["weight"], torch.ones(2))


def test_numbers_of_an_older_numpy_are_read_too(tmp_path):
    path = under_old_numpy_names(save({"lr": NUMPY_SCALARS, "a": np.ones(2)}, tmp_path / "a.pth", zipped=False))
    assert read_checkpoint(path)["lr"] == [1.5, 0.25, -3, True, "abc"]


def test_numbers_of_a_machine_of_the_other_byte_order():
    dtype = PlainDtype("f8", False, True)
    dtype.__setstate__((3, ">", None, None, None, -1, -1, 0))
    assert plain_scalar(dtype, np.array(7.5, ">f8").tobytes()) == 7.5


class Opened:
    """Would make a file on being unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


class Own:
    pass


@FORMATS
@pytest.mark.parametrize(
    ("content", "name"),
    [
        (os.system, "posix.system"),
        (print, "print"),
        (Own(), r"[\w.]*\.Own"),
        (np.array([Own()], object), r"numpy\.dtype\(O8\)|[\w.]*\.Own"),
        (np.zeros(1, "i4,f4")[0], r"numpy\.dtype\(V8\)"),
        (np.datetime64("2020-01-01"), r"numpy\.dtype\(M8\)"),
        (np.random.RandomState(0), r"numpy\.random"),
    ],
)
def test_objects_are_refused_by_name_with_the_way_out(tmp_path, zipped, content, name):
    path = save({"model": nn.Linear(1, 1).state_dict(), "meta": content}, tmp_path / "a.pth", zipped)
    with pytest.raises(UserError, match=rf"a\.pth holds the Python object ({name}).*save its weights alone") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@FORMATS
def test_nothing_in_a_file_is_called(tmp_path, zipped):
    path = save({"model": nn.Linear(1, 1).state_dict(), "x": Opened(tmp_path / "touched")}, tmp_path / "a.pth", zipped)
    with pytest.raises(UserError, match="holds the Python object"):
        read_checkpoint(path)
    assert not (tmp_path / "touched").exists()


def test_reading_leaves_torch_as_strict_as_before(tmp_path):
    path = save({"lr": np.float64(1)}, tmp_path / "a.pth")
    read_checkpoint(path)
    with pytest.raises(Exception, match=r"multiarray\.scalar"):
        torch.load(path, weights_only=True)


@pytest.mark.filterwarnings("ignore:Validating sparse")
def deflated(path: Path, zeros: int) -> Path:
    """The zip file `path` with all parts packed, and `zeros` bytes more in one of them."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        if zeros:
            archive.writestr(f"{next(iter(parts)).partition('/')[0]}/data/99", bytes(zeros))
    return path


@pytest.mark.parametrize("size", [100, 1000])
def test_a_packed_file_is_read_and_one_that_unpacks_to_more_is_not(tmp_path, monkeypatch, size):
    content = {"model": {"weight": torch.rand(size, size)}}
    whole = deflated(save(content, tmp_path / "a.pth"), 0)
    assert torch.equal(read_checkpoint(whole)["model"]["weight"], content["model"]["weight"])
    bomb = deflated(save(content, tmp_path / "b.pth"), 32 << 20)
    assert bomb.stat().st_size < 4 << 20
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match=r"b\.pth is not a file of weights, or damaged \(it would unpack to \d\d MiB"):
        read_checkpoint(bomb)


def test_what_is_no_dense_tensor_is_left_aside(tmp_path):
    weights = {
        "weight": torch.ones(2),
        "parameter": nn.Parameter(torch.ones(1)),
        "sparse": torch.eye(2).to_sparse(),
        "meta": torch.ones(2, device="meta"),
        "number": 3.0,
        "list": [torch.ones(1)],
        4: torch.ones(1),
    }
    path = save({"state_dict": weights}, tmp_path / "a.pth")
    read = model_weights(read_checkpoint(path), path)
    assert list(read) == ["weight", "parameter"]
    assert not read["parameter"].requires_grad


def test_facts_are_the_plain_values_beside_the_weights():
    state = {
        "model": {"weight": torch.ones(1)},
        "iteration": 7,
        "optimizer": {"lr": 0.1},
        "meta": {"epoch": 3, "hook": object(), "tensor": torch.ones(1)},
        "facts": {"objects": ["ape", "can"], "seed": 5},
    }
    assert plain_facts(state) == {"epoch": 3, "objects": ["ape", "can"], "seed": 5, "iteration": 7}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_facts_and_both_names_of_a_tensor_come_back(tmp_path, suffix):
    shared = torch.randn(3)
    weights = {"conv.norm.weight": shared, "conv.gn.weight": shared, "conv.half": shared[1:]}
    facts = {"objects": ["ape", "Ä"], "iteration": 4, "config": "a = 1\n"}
    path = tmp_path / f"a{suffix}"
    save_weights(weights, path, facts)
    state = read_checkpoint(path)
    assert plain_facts(state) == facts
    assert set(state["model"]) == set(weights)
    for name, value in weights.items():
        assert torch.equal(state["model"][name], value), name


def test_safetensors_hold_a_norm_once_only_if_its_two_names_agree(tmp_path):
    equal = {"a.norm.weight": torch.tensor([1.0, -0.0]), "a.gn.weight": torch.tensor([1.0, -0.0])}
    signs = {"b.norm.weight": torch.tensor([0.0]), "b.gn.weight": torch.tensor([-0.0])}  # equal, of other bits
    apart = {"c.norm.weight": torch.tensor([1.0]), "c.bn.weight": torch.tensor([2.0])}
    strangers = {"d.0.weight": torch.ones(2), "d.1.weight": torch.ones(2)}
    path = tmp_path / "a.safetensors"
    save_weights(equal | signs | apart | strangers, path)
    assert set(safetensors.torch.load_file(path)) == {"a.gn.weight", *signs, *apart, *strangers}
    assert set(read_checkpoint(path)["model"]) == {*equal, *signs, *apart, *strangers}


@pytest.mark.parametrize("facts", ["no json", "[1]", "1"])
def test_a_foreign_text_called_facts_is_none(tmp_path, facts):
    safetensors.torch.save_file({"weight": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"facts": facts})
    assert read_checkpoint(tmp_path / "a.safetensors")["facts"] == {}


def test_the_same_weights_and_facts_give_the_same_bytes(tmp_path):
    weights = {f"{name}.weight": torch.full((3,), float(number)) for number, name in enumerate("abcdefgh")}
    facts = {"objects": ["can", "é"], "iteration": 3}
    paths = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for path in paths:
        save_weights(weights, path, facts)
    assert len({path.read_bytes() for path in paths}) == 1
    assert int.from_bytes(paths[0].read_bytes()[:8], "little") % 8 == 0
    state = read_checkpoint(paths[0])
    assert plain_facts(state)["objects"] == facts["objects"]
    assert all(torch.equal(value, weights[name]) for name, value in model_weights(state, paths[0]).items())


def test_safetensors_can_be_read_by_others(tmp_path):
    shared = torch.ones(2)
    (tmp_path / "other").touch()
    save_weights({"norm.weight": shared, "gn.weight": shared}, tmp_path / "a.safetensors", {"objects": ["ape"]})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["norm.weight"] == "gn.weight"
    assert json.loads(metadata["facts"]) == {"objects": ["ape"]}


def test_a_few_numbers_are_not_blown_up(tmp_path):
    with pytest.raises(UserError, match=r"huge repeats"):
        save_weights({"huge": torch.ones(1).expand(10**12)}, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
