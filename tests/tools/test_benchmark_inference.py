"""The benchmark of inference runs on a data set's images and reports what it measured."""

from __future__ import annotations

import json

import pytest

from sopose.core.detection.facts import DetectorDesign, DetectorFacts
from sopose.core.detection.infer import Detector
from sopose.core.detection.model import build_detector
from sopose.core.detection.on_torch import TorchHeads, save_detector
from sopose.core.utils.errors import UserError
from tools.benchmarks.inference import STAGES, main

pytest.importorskip("onnx")


@pytest.fixture
def small_detector() -> Detector:
    """With random weights."""
    facts = DetectorFacts(("mug",), (1,), DetectorDesign(side=96, backbone="resnet10t", channels=32, convs=1))
    return Detector(TorchHeads(build_detector(1, facts.design)), facts)


@pytest.mark.slow
def test_stages_add_up_and_torch_is_the_measure(toy_root, repository, tmp_path, small_detector):
    weights = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.safetensors"
    scene = next((toy_root / "test").iterdir())
    words = ["--checkpoint", str(weights), "--devices", "cpu", "--variants", "torch", "onnxruntime", "bf16"]
    more = ["--objects", "1", "--rounds", "2", "--json", str(tmp_path / "a.json")]
    save_detector(small_detector.heads.network, small_detector.facts, tmp_path / "detector.safetensors")
    main([str(scene), *words, *more, "--detector", str(tmp_path / "detector.safetensors")])
    written = json.loads((tmp_path / "a.json").read_text())
    assert [row["variant"] for row in written["rows"]] == ["torch", "bf16", "onnxruntime"]
    assert [row["variant"] for row in written["detector"]] == ["detector", "detector, bf16"]
    assert written["rows"][0]["off_degrees"] == written["rows"][0]["off_mm"] == [0, 0]
    assert written["rows"][2]["off_degrees"][1] < 0.1
    assert written["rows"][0]["times_torch"] == 1
    for row in written["rows"]:
        assert row["total"] == pytest.approx(sum(row[stage] for stage in STAGES))
        assert sum(row["share"].values()) == pytest.approx(1)


def test_a_source_that_is_none_is_reported(write_tiny_config, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        main(["nowhere", "--config-file", str(write_tiny_config(tmp_path)), "--variants", "torch"])
