"""What a network's file says goes into its export, and asks for nothing that the export doesn't need."""

from __future__ import annotations

from pathlib import Path

import pytest

from sopose.core.engine.checkpoint import read_checkpoint, save_weights
from sopose.inference.estimator import PoseEstimator
from sopose.inference.onnx_network import read_onnx
from tests.support.command import verb

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def exported(repository, tmp_path_factory) -> Path:
    """The demo's weights, whose file asks for second looks from several starts, as an .onnx file."""
    folder = tmp_path_factory.mktemp("looks")
    state = read_checkpoint(repository / "configs" / "gdrn_selfocc" / "toy" / "demo.safetensors")
    state["facts"]["settings"]["TEST"]["REFINE"] |= {"ITERATIONS": 2, "STARTS": 3}
    save_weights(state["model"], folder / "looks.safetensors", state["facts"])
    verb("export")(["--checkpoint", str(folder / "looks.safetensors"), "--output", str(folder / "looks.onnx")])
    return folder / "looks.onnx"


def test_a_network_that_asks_for_looks_is_exported_without_models(exported):
    network, facts = read_onnx(exported, "cpu")
    assert network.has_maps  # several starts are also by PnP
    assert facts["facts"]["settings"]["TEST"]["REFINE"]["ITERATIONS"] == 2


def test_openvino_knows_its_maps_by_their_names(exported):
    pytest.importorskip("openvino")
    estimator = PoseEstimator.from_checkpoint(exported, "cpu", ["TEST.REFINE.ITERATIONS=0"], runtime="openvino")
    assert {"xyz", "xyz_log_scale", "q_log_scale"} <= set(estimator.network.session.outputs)
