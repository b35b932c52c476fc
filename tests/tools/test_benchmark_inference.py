"""The benchmark of inference runs on a data set's images and tells what it measured."""

from __future__ import annotations

import json

import pytest

from sopose.core.utils.errors import UserError
from tools.benchmark_inference import STAGES, main

pytest.importorskip("onnx")


@pytest.mark.slow
def test_stages_add_up_and_torch_is_the_measure(toy_root, repository, tmp_path):
    weights = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.safetensors"
    scene = next((toy_root / "test").iterdir())
    words = ["--checkpoint", str(weights), "--devices", "cpu", "--variants", "torch", "onnxruntime", "--objects", "1"]
    main([str(scene), *words, "--rounds", "2", "--json", str(tmp_path / "a.json")])
    told = json.loads((tmp_path / "a.json").read_text())
    assert [row["variant"] for row in told["rows"]] == ["torch", "onnxruntime"]
    assert told["rows"][0]["times_torch"] == 1
    for row in told["rows"]:
        assert row["total"] == pytest.approx(sum(row[stage] for stage in STAGES))
        assert sum(row["share"].values()) == pytest.approx(1)


def test_a_source_that_is_none_is_told(write_tiny_config, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        main(["nowhere", "--config-file", str(write_tiny_config(tmp_path)), "--variants", "torch"])
