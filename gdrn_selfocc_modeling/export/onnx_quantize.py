"""The dense heads of an exported graph in 8 bits, calibrated on ROIs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sopose.batch import RoiBatch
from sopose.core.engine.onnx_runtimes import optional_module
from sopose.core.utils.errors import UserError
from sopose.export.quiet import quiet

QUANTISED = ("network.geo_head_net.features", "network.selfocc_head_net.features", "network.neck")
SCOPES = "pkg.torch.onnx.name_scopes"  # of a node's metadata: the modules it came from


def head_convolutions(model: Any) -> list[str]:
    """Names of the convolutions inside of the heads and of the neck: most of the arithmetic, and what stands 8 bits.

    The backbone doesn't (a small network's rotation is off by 6 degrees then, instead of a quarter), nor do the output
    layers and Patch-PnP, whose numbers are coordinates.
    """
    found = []
    for node in model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
        if node.op_type == "Conv" and any(part in scopes for part in QUANTISED):
            found.append(node.name)
    return found


class _Calibration:
    """Batches of ROIs as `onnxruntime.quantization` asks for them, one after the other and then None."""

    def __init__(self, batches: Sequence[RoiBatch], inputs: Sequence[str]) -> None:
        self._feeds = iter([{name: getattr(rois, name).numpy() for name in inputs} for rois in batches])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantised(model: Any, batches: Sequence[RoiBatch]) -> Any:
    """The graph (`onnx.ModelProto`, as `export_graph` gives it) with 8 bits in the convolutions of heads and neck.

    Weights are scaled by channel, activations by the 99.999th percentile of what the ROIs of `batches` give; those of
    another size than the first are left out, since percentiles are taken over batches of one size.
    """
    tools, onnx = optional_module("onnxruntime.quantization"), optional_module("onnx")
    nodes = head_convolutions(model)
    if not nodes:
        raise UserError("the graph has no convolutions of a head or neck to be quantised; export it without --int8")
    same = [rois for rois in batches if len(rois) == len(batches[0])]
    reader = _Calibration(same, [node.name for node in model.graph.input])
    with tempfile.TemporaryDirectory() as folder, quiet(""):
        path = Path(folder) / "quantised.onnx"
        tools.quantize_static(
            model,
            str(path),
            reader,
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            nodes_to_quantize=nodes,
            op_types_to_quantize=["Conv"],
            calibrate_method=tools.CalibrationMethod.Percentile,
        )
        return onnx.load(path)
