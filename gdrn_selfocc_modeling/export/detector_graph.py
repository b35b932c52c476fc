"""From a trained detector to one .onnx graph: an image in, what its heads say out; boxes are found by NumPy."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sopose.core.detection.boxes import STRIDES
from sopose.core.detection.facts import DetectorFacts
from sopose.core.detection.infer import INPUT, OUTPUTS, OnnxHeads
from sopose.core.detection.model import fast_copy
from sopose.core.detection.on_torch import RawHeads, TorchHeads, load_network
from sopose.core.engine.facts import FACTS
from sopose.core.engine.onnx_runtimes import open_session, optional_module
from sopose.export.onnx_graph import sealed_file
from sopose.export.quiet import expressed

OPSET = 18  # the newest that torch's older exporter writes whole
SIDES = ((3, 4), (5, 2), (1, 1))  # height and width of inputs that a graph is tried with, in largest strides


def export_detector(path: Path) -> tuple[bytes, DetectorFacts, float]:
    """An .onnx file's bytes of a detector's file, what it was trained on, and how far it is from torch at most.

    Its input takes any height and width of whole strides. Raises `UserError` where the file is damaged, and for a
    network that ONNX has no operators for.
    """
    network, facts = load_network(path)
    heads = RawHeads(fast_copy(network.eval(), half=False)).eval()
    graph = any_size_graph(heads, torch.zeros(1, 3, 2 * STRIDES[-1], 3 * STRIDES[-1]))
    content = sealed_file(graph, {FACTS: json.dumps(facts.plain())}, "Boxes of known objects; see the metadata")
    return content, facts, largest_difference(TorchHeads(network), content)


def any_size_graph(heads: RawHeads, example: torch.Tensor) -> Any:
    """An `onnx.ModelProto` of a detector's heads for inputs of any height and width.

    By torch's older exporter: the newer one takes ten minutes to reason about two free sides of a pyramid. Raises
    `UserError` for what ONNX has no operators for.
    """
    onnx, written = optional_module("onnx"), io.BytesIO()
    axes = {INPUT: {2: "rows", 3: "columns"}, **{name: {1: "places"} for name in OUTPUTS}}
    with expressed("the detector", "torch.onnx"):
        torch.onnx.export(
            heads,
            (example,),
            written,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[*OUTPUTS],
            dynamic_axes=axes,
        )
    return onnx.load_model_from_string(written.getvalue())


def largest_difference(network: TorchHeads, content: bytes, sides: Sequence[tuple[int, int]] = SIDES) -> float:
    """How far what a file says of noise is from what the network says, at most."""
    exported, worst = OnnxHeads(open_session(content, "cpu"), "the exported graph"), 0.0
    rng = np.random.default_rng(0)
    for rows, columns in sides:
        pixels = rng.random((1, 3, rows * STRIDES[-1], columns * STRIDES[-1]), np.float32)
        one, other = network(pixels), exported(pixels)
        worst = max(worst, *(float(np.abs(getattr(one, name) - getattr(other, name)).max()) for name in OUTPUTS))
    return worst
