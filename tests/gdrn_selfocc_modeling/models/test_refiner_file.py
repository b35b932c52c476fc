"""A refiner's file holds all that it needs to run, and a file that holds anything else is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sopose.batch import RENDERED
from sopose.core.engine.checkpoint import read_checkpoint, save_weights
from sopose.core.utils.errors import UserError
from sopose.models.plain_backbone import PLAIN, PlainBackbone
from sopose.models.refiner_design import IMAGE, RefinerDesign, read_design
from sopose.models.refiner_file import build_refiner, load_refiner, save_refiner, start_from, widened

DESIGN = RefinerDesign(channels=8, input_res=64, output_res=16)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_refiner(build_refiner(DESIGN), DESIGN, ["can", "cat"], tmp_path / "refiner.safetensors")
    return tmp_path / "refiner.safetensors"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_refiner_comes_back_as_it_was(tmp_path, suffix):
    torch.manual_seed(0)
    network = build_refiner(DESIGN)
    save_refiner(network, DESIGN, ["can"], tmp_path / f"refiner{suffix}")
    again, design = load_refiner(tmp_path / f"refiner{suffix}")
    assert design == DESIGN
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_a_design_comes_back_from_plain_values():
    design = replace(DESIGN, pixel_format="BGR", out_indices=(0, 1), pixel_mean=(1.0, 2.0, 3.0))
    plain = json.loads(json.dumps(design.facts(["can"])))
    assert read_design(plain, "x") == design
    assert plain["objects"] == ["can"]


WRONG = {
    "another kind": ({"kind": "detector"}, "is no refiner"),
    "another version": ({"version": 7}, "of version 7, wanted is 1"),
    "a width that takes the memory": ({"channels": 10**6}, "channels must be 1 to 512"),
    "a word for a number": ({"input_res": "many"}, "'input_res' is a str"),
    "a truth for a number": ({"output_res": True}, "'output_res' is a bool"),
    "stages that are none": ({"out_indices": []}, "out_indices must be 1 to 8"),
    "no colours": ({"pixel_format": "GBR"}, "pixel_format must be RGB or BGR"),
    "a level of nothing": ({"pixel_std": [1.0, 0.0, 1.0]}, "std above zero"),
    "an unknown backbone": ({"backbone": "own/huge"}, "none of its library"),
    "maps at other strides": ({"output_res": 8}, "each must be twice the one before"),
    "the weights of another width": ({"channels": 16}, "refiner.safetensors"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_says_what_cannot_be_is_refused(saved, case):
    wrong, message = WRONG[case]
    weights = read_checkpoint(saved)["model"]
    facts = DESIGN.facts(["can"]) | wrong
    safetensors.torch.save_file(weights, saved, metadata={"facts": json.dumps(facts)})
    with pytest.raises(UserError, match=message):
        load_refiner(saved)


def test_a_file_that_lacks_what_it_needs_is_refused(saved):
    facts = {key: value for key, value in DESIGN.facts(["can"]).items() if key != "pad_scale"}
    safetensors.torch.save_file(read_checkpoint(saved)["model"], saved, metadata={"facts": json.dumps(facts)})
    with pytest.raises(UserError, match="needs the key 'pad_scale'"):
        load_refiner(saved)


def test_the_trunk_of_a_pose_network_sees_images_as_before(tmp_path):
    """Where nothing is rendered, its maps are those of the network that it comes from."""
    torch.manual_seed(0)
    trunk = PlainBackbone(PLAIN["plain_light"], DESIGN.out_indices).eval()
    path = tmp_path / "pose_network.safetensors"
    save_weights({f"backbone.{name}": value for name, value in trunk.state_dict().items()}, path)
    network = build_refiner(DESIGN).eval()
    start_from(network, path)
    image = torch.randn(2, IMAGE, 64, 64)
    maps = network.backbone(torch.cat([image, torch.zeros(2, RENDERED, 64, 64)], 1))
    for found, wanted in zip(maps, trunk(image), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_weights_of_the_same_network_are_taken_whole(saved):
    first, _ = load_refiner(saved)
    torch.manual_seed(5)
    second = build_refiner(DESIGN)
    start_from(second, saved)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0)


def test_only_what_sees_an_image_is_widened():
    network = build_refiner(DESIGN)
    given = {"head.weight": torch.zeros(3, 3, 3, 3), "elsewhere": torch.zeros(2)}
    assert widened(network, given) == given
