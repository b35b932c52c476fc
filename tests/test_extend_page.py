"""The files of docs/extend.md, as they stand there, do what the page says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sopose.batch import Prediction
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.geometry.rotation import random_rotation
from sopose.models.backbone import backbone_channels, backbone_strides
from tests.support.command import verb


@pytest.fixture(scope="module")
def blocks(repository) -> dict[str, str]:
    """The page's Python files by their docstrings' first words."""
    found = re.findall(r"^```python\n(.*?)^```", (repository / "docs" / "extend.md").read_text(), re.M | re.S)
    assert len(found) == 3
    return dict(zip(("loss", "backbone", "data"), found, strict=True))


def module_of(text: str, folder: Path, name: str, monkeypatch):
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return __import__(name)


def test_the_loss_is_one_number(blocks, tmp_path, monkeypatch):
    module = module_of(blocks["loss"], tmp_path, "page_losses", monkeypatch)
    R = torch.from_numpy(np.stack([random_rotation(np.random.default_rng(k)) for k in range(3)])).float()
    truth = Prediction(*[R] * 6, R, R[:, 0], R[:, 0])
    assert float(module.chordal(truth, None, truth)) == 0


def test_the_backbone_says_its_sizes(blocks, tmp_path, monkeypatch):
    module = module_of(blocks["backbone"], tmp_path, "page_backbones", monkeypatch)
    backbone = module.make("8", (3,), (3, 64), False)
    (features,) = backbone(torch.zeros(2, 3, 64, 64))
    assert features.shape == (2, backbone_channels(backbone)[-1], 4, 4) and backbone_strides(backbone)[-1] == 16


def test_annotations_become_a_split_that_loads(blocks, toy_root, tmp_path):
    record = load_split(resolve_split("toy_test", toy_root.parent))[0]
    objects = [
        {"obj_id": one.obj_id, "R": one.pose.cam_R_obj.ravel().tolist(), "t": one.pose.cam_t_obj.tolist()}
        for one in record.instances
    ]
    image = {"file": str(record.rgb_path), "K": record.K.ravel().tolist(), "objects": objects}
    (tmp_path / "mine.json").write_text(json.dumps([image]))
    (tmp_path / "write.py").write_text(blocks["data"])
    root = tmp_path / "mine"
    root.mkdir()
    for name in ("models", "camera.json"):
        (root / name).symlink_to(toy_root / name)
    subprocess.run([sys.executable, str(tmp_path / "write.py"), str(tmp_path / "mine.json"), str(root)], check=True)
    verb("targets")(["--dataset", str(root), "--split", "train"])
    (read,) = load_split(resolve_split(f"{root}:train", root))
    assert len(read.instances) == len(record.instances)
    for mine, theirs in zip(read.instances, record.instances, strict=True):
        np.testing.assert_allclose(mine.pose.cam_t_obj, theirs.pose.cam_t_obj, atol=1e-6)  # metres
