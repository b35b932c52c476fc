"""A network of some objects as the start of one for others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sopose.core.engine.checkpoint import load_weights, save_weights
from sopose.inference.checkpoint_facts import OBJECTS
from sopose.models.gdrn import GDRN
from sopose.models.start import start_weights
from sopose.settings import Settings
from sopose.training.initial_model import build_initial_model
from tests.support.builders import model_of

NET = "MODEL.POSE_NET"
KNOWN = ["mug", "cup", "can"]
AWARE = [
    *(f"{NET}.GEO_HEAD.{key}=True" for key in ("XYZ_CLASS_AWARE", "MASK_CLASS_AWARE", "REGION_CLASS_AWARE")),
    *(f"{NET}.{key}=True" for key in ("GEO_HEAD.XYZ_SCALE", "SELFOCC_HEAD.Q0_SCALE", "SELFOCC_HEAD.Q0_CLASS_AWARE")),
]
SEPARATE = [f"{NET}.{head}.INIT_CFG.out_layer_shared=False" for head in ("GEO_HEAD", "SELFOCC_HEAD")]
NECK = [
    *(f"{NET}.BACKBONE.INIT_CFG.out_indices=(2,3)", f"{NET}.NECK.ENABLED=True", f"{NET}.NECK.INIT_CFG.type='TopDown'"),
    *(f"{NET}.NECK.INIT_CFG.{value}" for value in ("in_channels=[128,256]", "out_channels=64", "num_outs=1")),
    f"{NET}.NECK.INIT_CFG.blocks=(1,0)",
    *(
        f"{NET}.{head}.INIT_CFG.{value}"
        for head in ("GEO_HEAD", "SELFOCC_HEAD")
        for value in ("in_dim=64", "up_types=('deconv','bilinear')")
    ),
]
MAPS = ("mask", "xyz", "region", "q", "xyz_log_scale", "q_log_scale")


@pytest.fixture
def make_network(make_small_config) -> Callable[..., GDRN]:
    """`make_network(classes, *overrides)`: with outputs for each of so many objects; its norms have seen something."""

    def make(classes: int, *overrides: str) -> GDRN:
        torch.manual_seed(classes)
        model = model_of(make_small_config(*AWARE, f"{NET}.NUM_CLASSES={classes}", *overrides))
        for name, value in model.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_()
            elif name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
        return model.eval()

    return make


@pytest.mark.parametrize("layers", [[], SEPARATE])
def test_another_object_starts_with_the_mean_of_what_is_known(layers, make_network, make_ellipsoids):
    many, one = make_network(3, *layers), make_network(1, *layers)
    one.load_state_dict(start_weights(one, many.state_dict(), KNOWN, ["lamp"]))
    batch, _ = make_ellipsoids(3)
    with torch.no_grad():
        batch.class_index[:] = torch.zeros(3, dtype=torch.int64)
        start = one(batch)
        known = []
        for place in range(3):
            batch.class_index[:] = place
            known.append(many(batch))
    for name in MAPS:
        mean = torch.stack([getattr(given, name) for given in known]).mean(0)
        torch.testing.assert_close(getattr(start, name), mean, rtol=1e-3, atol=1e-4)


def test_objects_of_the_same_name_keep_their_outputs(make_network, make_ellipsoids):
    many, two = make_network(3), make_network(2)
    two.load_state_dict(start_weights(two, many.state_dict(), KNOWN, ["can", "lamp"]))
    batch, _ = make_ellipsoids(2)
    with torch.no_grad():
        batch.class_index[:] = 0
        start = two(batch)
        batch.class_index[:] = KNOWN.index("can")
        known = many(batch)
    for name in (*MAPS, "cam_R_obj"):
        torch.testing.assert_close(getattr(start, name), getattr(known, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["GN", "BN"])
def test_long_filters_before_norms_become_as_long_as_fresh_ones_and_give_the_same(norm, make_network, make_ellipsoids):
    heads = [f"{NET}.{head}.INIT_CFG.norm={norm}" for head in ("GEO_HEAD", "SELFOCC_HEAD")]
    model, other = (make_network(1, *NECK, *heads) for _ in range(2))
    with torch.no_grad():
        for part in (model.neck, model.geo_head_net.features, model.selfocc_head_net.features, model.pnp_net.features):
            for layer in part.modules():
                if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                    layer.weight.normal_()
                elif isinstance(layer, torch.nn.BatchNorm2d):
                    layer.running_var.uniform_(500, 2000)  # as such filters give, some 500 weights each
    load_weights(other, start_weights(other, model.state_dict(), ["mug"], ["lamp"]), Path("mug.pth"))
    for name in ("pnp_net.features.0", "neck.mix.0.0", "neck.blocks.0.0.conv2", "geo_head_net.features.0"):
        filters, before = other.get_submodule(name).weight, model.get_submodule(name).weight
        assert filters.square().sum().item() == pytest.approx(len(filters) / 3, rel=1e-5), name
        assert filters.norm() < 0.1 * before.norm(), name
    batch, _ = make_ellipsoids(2)
    with torch.no_grad():
        before, after = model(batch), other(batch)
    for name in MAPS:
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=1e-3, atol=1e-3)
    # What norms add to a variance, 1e-5, is no longer nothing beside those of maps near zero.
    torch.testing.assert_close(after.cam_R_obj, before.cam_R_obj, rtol=0, atol=0.02)


@pytest.mark.parametrize("known", [KNOWN, []])
def test_weights_of_the_same_objects_or_of_unknown_ones_stay_as_they_are(known, make_network):
    model = make_network(3)
    weights = model.state_dict()
    started = start_weights(model, weights, known, KNOWN)
    assert started.keys() == weights.keys()
    assert all(torch.equal(started[name], value) for name, value in weights.items())


def test_maps_that_are_not_class_aware_leave_a_shared_layer_as_it_is(make_network):
    """Which of its rows are of which object can't be told by their number."""
    many = make_network(3, f"{NET}.GEO_HEAD.MASK_CLASS_AWARE=False")
    rows = many.state_dict()["geo_head_net.out_layer.weight"]
    started = start_weights(make_network(1), many.state_dict(), KNOWN, ["lamp"])
    assert torch.equal(started["geo_head_net.out_layer.weight"], rows)


def test_a_run_starts_so(make_small_config, make_network, tmp_path):
    path = tmp_path / "many.safetensors"
    many = make_network(3)
    save_weights(many.state_dict(), path, {OBJECTS: KNOWN})
    for key, names, same in (("WEIGHTS", ["mug"], ["mug"]), ("START", ["mug"], [])):  # another object of that name
        settings: Settings = make_small_config(*AWARE, f"{NET}.NUM_CLASSES=1", f"MODEL.{key}='{path}'")
        model = build_initial_model(settings, names, resumed=False, device=torch.device("cpu"))
        wanted = start_weights(model, many.state_dict(), KNOWN, same)
        assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
