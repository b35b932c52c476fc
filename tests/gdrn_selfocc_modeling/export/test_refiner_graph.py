"""An exported refiner leads to the same poses, and other files are refused in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.inference.refine import LookPlan, PoseRefiner
from sopose.models.refiner_design import RefinerDesign
from sopose.models.refiner_file import build_refiner, save_refiner
from tests.support.command import verb
from tests.support.looks import CAMERA, IMAGE_SIZE

main = verb("export")

pytest.importorskip("onnxruntime")
DESIGN = RefinerDesign(channels=8, input_res=64, output_res=16, correlation=1.0)
POSES = [
    Pose(Rotation.from_euler("xyz", [20, -35, turn], degrees=True).as_matrix(), np.array([0.01 * turn / 60, 0, 0.7]))
    for turn in (0, 60, 150)
]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A refiner that predicts something at once, and its export."""
    folder = tmp_path_factory.mktemp("refiner")
    torch.manual_seed(3)
    network = build_refiner(DESIGN)
    torch.nn.init.normal_(network.head.weight, std=0.2)
    save_refiner(network, DESIGN, ["can"], folder / "refiner.safetensors")
    main(["--checkpoint", str(folder / "refiner.safetensors"), "--output", str(folder / "refiner.onnx")])
    return {path.suffix: path for path in folder.iterdir()}


def test_both_files_lead_to_the_same_poses(files, models):
    image = np.random.default_rng(0).integers(0, 256, (*IMAGE_SIZE[::-1], 3), np.uint8)
    chosen = [models[min(models)]] * len(POSES)
    found = [
        PoseRefiner.from_file(files[suffix])(image, CAMERA, chosen, POSES, LookPlan(2))
        for suffix in (".safetensors", ".onnx")
    ]
    for one, other, before in zip(*found, POSES, strict=True):
        angle = Rotation.from_matrix(one.pose.cam_R_obj @ other.pose.cam_R_obj.T).magnitude()
        assert np.degrees(angle) < 0.1
        assert np.linalg.norm(one.pose.cam_t_obj - other.pose.cam_t_obj) < 1e-4  # metres
        assert np.linalg.norm(one.pose.cam_t_obj - before.cam_t_obj) > 1e-4


def test_damage_and_other_files_are_refused(files, tmp_path):
    content = bytearray(files[".onnx"].read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        PoseRefiner.from_file(damaged)
    with pytest.raises(UserError, match="float32; leave --fp16 out"):
        main(["--checkpoint", str(files[".safetensors"]), "--output", str(tmp_path / "x.onnx"), "--fp16"])
    assert not (tmp_path / "x.onnx").exists()
