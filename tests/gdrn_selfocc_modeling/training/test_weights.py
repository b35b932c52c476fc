"""Weights of other networks in this one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sopose.core.engine.checkpoint import load_weights, model_weights, read_checkpoint
from sopose.core.engine.facts import checkpoint_facts
from sopose.core.utils.errors import UserError
from sopose.inference.agreement import recorded_objects
from sopose.models.backbone import make_backbone
from sopose.training.initial_model import build_initial_model
from tests.support.builders import model_of
from tests.support.command import verb

convert = verb("weights")

NET = "MODEL.POSE_NET"
SINGLE_LAYER = f"{NET}.SELFOCC_HEAD.ENABLED=False"


@pytest.fixture
def single_layer_file(make_small_config, tmp_path):
    """A checkpoint of GDR-Net in the ancestor's form, and its weights."""
    model = model_of(make_small_config(SINGLE_LAYER))
    path = tmp_path / "gdrn.pth"
    optimizer = torch.optim.Adam(model.parameters()).state_dict()
    torch.save({"model": {f"module.{k}": v for k, v in model.state_dict().items()}, "optimizer": optimizer}, path)
    return path, model.state_dict()


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """Names that both have, of other values or shapes."""
    return {name for name in one.keys() & other.keys() if not torch.equal(one[name], other[name])}


def test_a_single_layer_checkpoint_starts_the_two_layer_network(single_layer_file, make_small_config):
    path, weights = single_layer_file
    model = model_of(make_small_config())
    report = load_weights(model, model_weights(read_checkpoint(path), path), path, partial=True)
    assert {name.partition(".")[0] for name in report.missing} == {"selfocc_head_net"}
    assert list(report.reshaped) == ["pnp_net.features.0.weight"]
    (given, wanted) = report.reshaped["pnp_net.features.0.weight"]
    assert wanted[1] - given[1] == 6 and given[2:] == wanted[2:]  # Q's channels
    assert not report.left_over
    assert set(report.matched) == weights.keys() - {"pnp_net.features.0.weight"}
    state = model.state_dict()
    assert all(torch.equal(state[name], weights[name]) for name in report.matched)


def test_it_is_no_checkpoint_to_evaluate_or_resume_the_two_layer_network(single_layer_file, make_small_config):
    path, _ = single_layer_file
    with pytest.raises(UserError, match=r"missing \d+ of selfocc_head_net; .*pnp_net\.features\.0\.weight"):
        load_weights(model_of(make_small_config()), model_weights(read_checkpoint(path), path), path)


def test_a_training_starts_from_what_fits(single_layer_file, make_small_config, tmp_path):
    path, weights = single_layer_file
    cfg = make_small_config(f"MODEL.WEIGHTS='{path}'", f"OUTPUT_DIR='{tmp_path / 'out'}'")
    started = build_initial_model(cfg, (), resumed=False, device=torch.device("cpu")).state_dict()
    assert differing(weights, started) == {"pnp_net.features.0.weight"}


def test_the_start_counts_where_no_weights_are_given(single_layer_file, make_small_config, tmp_path):
    path, weights = single_layer_file
    other = model_of(make_small_config(SINGLE_LAYER)).state_dict()
    torch.save({"model": other}, tmp_path / "other.pth")
    for given, wanted in (("", weights), (tmp_path / "other.pth", other)):
        cfg = make_small_config(SINGLE_LAYER, f"MODEL.START='{path}'", f"MODEL.WEIGHTS='{given}'")
        started = build_initial_model(cfg, (), resumed=False, device=torch.device("cpu"))
        assert not differing(started.state_dict(), wanted)


def test_a_start_with_another_backbone_leaves_that_of_the_run_pretrained(
    single_layer_file, make_small_config, tmp_path
):
    path, weights = single_layer_file
    torch.save(model_of(make_small_config()).backbone.state_dict(), tmp_path / "backbone.pth")
    weights = {name.replace("backbone.", "backbone.other."): value for name, value in weights.items()}
    torch.save({"model": weights}, path)
    cfg = make_small_config(f"MODEL.START='{path}'", f"{NET}.BACKBONE.PRETRAINED='{tmp_path / 'backbone.pth'}'")
    started = build_initial_model(cfg, (), resumed=False, device=torch.device("cpu"))
    assert not differing(started.backbone.state_dict(), torch.load(tmp_path / "backbone.pth"))
    assert not differing(
        started.geo_head_net.state_dict(), {k.partition(".")[2]: v for k, v in weights.items() if k.startswith("geo")}
    )


@pytest.mark.parametrize("with_backbone", [True, False])
def test_a_backbone_that_the_weights_lack_starts_pretrained(with_backbone, make_small_config, tmp_path):
    model, pretrained = model_of(make_small_config()), model_of(make_small_config())
    weights = {k: v for k, v in model.state_dict().items() if with_backbone or not k.startswith("backbone.")}
    torch.save(weights, tmp_path / "w.pth")
    if not with_backbone:  # else the file is not even looked for
        torch.save(pretrained.backbone.state_dict(), tmp_path / "backbone.pth")
    cfg = make_small_config(
        f"MODEL.WEIGHTS='{tmp_path / 'w.pth'}'",
        f"{NET}.BACKBONE.PRETRAINED='{tmp_path / 'backbone.pth'}'",
        f"OUTPUT_DIR='{tmp_path / 'out'}'",
    )
    started = build_initial_model(cfg, (), resumed=False, device=torch.device("cpu"))
    wanted = model if with_backbone else pretrained
    assert not differing(started.backbone.state_dict(), wanted.backbone.state_dict())
    assert not differing(started.geo_head_net.state_dict(), model.geo_head_net.state_dict())


def test_a_converted_checkpoint_is_the_same_network(make_small_config, tmp_path):
    model = model_of(make_small_config())
    torch.save({"state_dict": {f"model.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "a.ckpt")
    convert([str(tmp_path / "a.ckpt"), str(tmp_path / "a.safetensors")])
    convert([str(tmp_path / "a.safetensors"), str(tmp_path / "b.pth")])
    for name in ("a.safetensors", "b.pth"):
        path, other = tmp_path / name, model_of(make_small_config())
        report = load_weights(other, model_weights(read_checkpoint(path), path), path)
        assert report.complete and not report.left_over
        assert not differing(other.state_dict(), model.state_dict())


def test_the_classes_of_a_network_survive_safetensors(tmp_path):
    torch.save({"model": {"weight": torch.ones(1)}, "facts": {"objects": ["mug", "cup"]}}, tmp_path / "a.pth")
    convert([str(tmp_path / "a.pth"), str(tmp_path / "a.safetensors")])
    assert recorded_objects(checkpoint_facts(read_checkpoint(tmp_path / "a.safetensors"))) == ["mug", "cup"]


@pytest.mark.parametrize("facts", [None, [], {}, {"objects": "mug"}, {"objects": [1]}, {"objects": {"mug": 1}}])
def test_facts_of_another_form_give_no_classes(facts):
    assert recorded_objects(checkpoint_facts({"facts": facts})) == []


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone.", "model.backbone."])
def test_backbones_are_read_out_of_whole_checkpoints(prefix, tmp_path):
    source = make_backbone("timm/resnet10t", out_indices=(3,))
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    torch.save({"model": weights | {"fc.weight": torch.ones(2)}, "optimizer": {}}, tmp_path / "a.pth")
    loaded = make_backbone("timm/resnet10t", out_indices=(3,), pretrained=str(tmp_path / "a.pth"))
    assert not differing(loaded.state_dict(), source.state_dict())


def test_errors_about_a_backbone_s_file_name_the_key(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"no weights")
    torch.save({"conv.weight": torch.ones(1)}, tmp_path / "b.pth")
    torch.save({"model": print}, tmp_path / "c.pth")
    for name in ("a.pth", "b.pth", "absent.pth"):
        with pytest.raises(UserError, match=f"{name}.*BACKBONE.PRETRAINED"):
            make_backbone("timm/resnet10t", pretrained=str(tmp_path / name))
    with pytest.raises(UserError, match=r"c\.pth holds the Python object print"):
        make_backbone("timm/resnet10t", pretrained=str(tmp_path / "c.pth"))
