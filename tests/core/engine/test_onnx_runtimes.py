"""An exported network says the same by every runtime, and what a runtime can't do is reported."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sopose.core.detection.infer import Detector
from sopose.core.engine import onnx_runtimes
from sopose.core.engine.machine import has_fast_bfloat16, limited_below
from sopose.core.engine.onnx_runtimes import open_session
from sopose.core.utils.errors import UserError
from sopose.export.onnx_check import differences, made_up_rois
from sopose.inference.estimator import PoseEstimator
from sopose.inference.torch_networks import AsModule
from tests.support.command import verb
from tests.support.shared import shared_folder

export = verb("export")

pytest.importorskip("onnx", reason="the extra export is not installed")


@pytest.fixture(scope="module")
def weights(repository) -> Path:
    """The demo's."""
    return repository / "configs" / "gdrn_selfocc" / "toy" / "demo.safetensors"


@pytest.fixture(scope="module")
def exported(weights, toy_root, tmp_path_factory) -> Path:
    """The demo's weights as an .onnx file."""

    def make(folder: Path) -> None:
        words = ["--output", str(folder / "model.onnx"), "--dataset-root", str(toy_root.parent)]
        export(["--checkpoint", str(weights), *words])

    return shared_folder(tmp_path_factory, "onnx", make) / "model.onnx"


def test_a_missing_package_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'sopose\[train\]'"):
        open_session(b"")


@pytest.fixture
def openvino() -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    if limited_below("AVX512_CORE"):
        pytest.skip("OpenVINO fails under this limit of oneDNN")


def test_openvino_is_refused_where_it_would_end_the_process(monkeypatch):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(UserError, match="ONEDNN_MAX_CPU_ISA allows less than AVX512_CORE; unset it"):
        open_session(b"", runtime="openvino")


def test_openvino_reads_the_same_file(openvino, exported, weights):
    whole = PoseEstimator.from_checkpoint(weights, "cpu")
    other = PoseEstimator.from_checkpoint(exported, "cpu", runtime="openvino")
    found = differences(
        whole.network.model, AsModule(other.network), [made_up_rois(whole, count, seed=count) for count in (1, 3, 8)]
    )
    assert found.small, found.largest()
    assert other.crops == whole.crops and list(other.objects) == list(whole.objects)


@pytest.mark.parametrize("half", [False, True])
def test_a_detector_beside_the_network_goes_by_its_precision(exported, monkeypatch, half):
    asked = []

    def opened(path, device, half, side):
        asked.append((str(path), device, half, side))
        raise UserError("enough")

    monkeypatch.setattr(Detector, "from_checkpoint", opened)
    with pytest.raises(UserError, match="enough"):
        PoseEstimator.from_checkpoint(exported, "cpu", [f"TEST.AMP_TEST={half}"], detector="d.pth", detector_size=320)
    assert asked == [("d.pth", "cpu", half, 320)]


def test_openvino_in_bfloat16_is_for_processors_with_it(openvino, exported, weights, monkeypatch):
    if has_fast_bfloat16():
        whole = PoseEstimator.from_checkpoint(weights, "cpu")
        half = PoseEstimator.from_checkpoint(exported, "cpu", runtime="openvino-bf16")
        found = differences(whole.network.model, AsModule(half.network), [made_up_rois(whole, 32)])
        assert 1e-3 < np.median(found.angles) < 10 and np.median(found.shifts) < 1e-2, found.spread()
    monkeypatch.setattr(onnx_runtimes, "has_fast_bfloat16", lambda: False)
    with pytest.raises(UserError, match="no arithmetic in bfloat16"):
        PoseEstimator.from_checkpoint(exported, "cpu", runtime="openvino-bf16")


def test_what_openvino_cannot_is_reported(openvino, exported, tmp_path):
    damaged = tmp_path / "a.onnx"
    damaged.write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"is no \.onnx file that openvino can run") as caught:
        PoseEstimator.from_checkpoint(damaged, "cpu", runtime="openvino")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="openvino has no CUDA"):
        PoseEstimator.from_checkpoint(exported, "cuda", runtime="openvino")


def test_a_checkpoint_has_no_other_runtime(weights):
    with pytest.raises(UserError, match="runs by torch"):
        PoseEstimator.from_checkpoint(weights, "cpu", runtime="openvino")


def test_a_missing_runtime_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"pip install 'sopose\[openvino\]'"):
        open_session(b"", runtime="openvino")
    with pytest.raises(UserError, match="did you mean 'openvino'"):
        open_session(b"", runtime="openvin")
