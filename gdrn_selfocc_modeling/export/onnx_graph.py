"""From a trained network to one .onnx graph: ROIs in, poses out, and all that is to be known of it as metadata."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from sopose.batch import Prediction, RoiBatch
from sopose.core.engine.facts import FACTS
from sopose.core.engine.integrity import sealed_graph
from sopose.core.engine.onnx_runtimes import open_session, optional_module
from sopose.export.quiet import expressed
from sopose.inference.crops import CropFormat
from sopose.inference.onnx_network import INPUTS, MAPS, POSE, OnnxNetwork
from sopose.inference.torch_networks import AsModule
from sopose.models.gdrn import GDRN

OPSET = 20  # the first with Gelu as one operator
DENSE_PARTS = ("backbone", "neck", "geo_head_net", "selfocc_head_net")  # of GDRN; what may lose precision


class _Exportable(nn.Module):
    """The network with tensors instead of dataclasses."""

    def __init__(self, network: GDRN, outputs: Sequence[str]) -> None:
        super().__init__()
        self.network, self.outputs = network, outputs

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        prediction = _predict(self.network, RoiBatch(**dict(zip(INPUTS, inputs, strict=True))))
        return tuple(getattr(prediction, name).float() for name in self.outputs)


def _predict(network: GDRN, rois: RoiBatch) -> Prediction:
    """What the network says of ROIs whose image is brought to the backbone's precision."""
    return network(replace(rois, image=rois.image.to(next(network.backbone.parameters()).dtype)))


def halved(network: GDRN) -> GDRN:
    """A copy whose backbone and heads compute in float16; the pose is regressed and decoded in float32 as before."""
    network = copy.deepcopy(network)
    for name in DENSE_PARTS:
        part = getattr(network, name)
        if part is not None:
            part.half()
    return network


def export_graph(network: GDRN, rois: RoiBatch, maps: bool = False) -> Any:
    """The network in evaluation mode as an `onnx.ModelProto` that takes any number of ROIs.

    Its inputs are those fields of `RoiBatch` that the network reads, its outputs `cam_R_obj` (B, 3, 3) and
    `cam_t_obj` (B, 3) metres, with `maps` also the other fields of `Prediction`, all float32. `rois` are an example.
    Raises `UserError` for a network that ONNX has no operators for.
    """
    network = network.eval()
    with torch.inference_mode():
        predicted = _predict(network, rois)
    outputs = [*POSE, *(name for name in MAPS if maps and getattr(predicted, name) is not None)]
    return traced_graph(_Exportable(network, outputs), {name: getattr(rois, name) for name in INPUTS}, outputs)


def traced_graph(network: nn.Module, example: Mapping[str, Tensor], outputs: Sequence[str]) -> Any:
    """An `onnx.ModelProto` of a module that maps tensors to tensors; batches of any size, unread inputs left out.

    example: its inputs by name. Raises `UserError` for what ONNX has no operators for.
    """
    for package in ("onnx", "onnxscript"):
        optional_module(package)
    batch = torch.export.Dim("batch")
    with expressed("the network", "torch.onnx", "onnxscript"):
        program = torch.onnx.export(
            network,
            tuple(example.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=[*example],
            output_names=[*outputs],
            dynamic_shapes=(tuple({0: batch} for _ in example),),
            verbose=False,
        )
    graph = program.model_proto
    _drop_unread_inputs(graph)
    return graph


def _drop_unread_inputs(model: Any) -> None:
    read = {name for node in model.graph.node for name in node.input}
    kept = [node for node in model.graph.input if node.name in read]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def finish_graph(model: Any, facts: Mapping[str, Any], crops: CropFormat, precision: str) -> bytes:
    """A file's bytes, see `sealed_file`.

    Metadata are texts: "facts" what a checkpoint states (json), "crop" what makes a ROI of a box (json), "precision".
    """
    crop = {**asdict(crops.roi), "pad_scale": crops.pad_scale, "focal": crops.focal}
    texts = {FACTS: json.dumps(facts), "crop": json.dumps(crop), "precision": precision}
    return sealed_file(model, texts, "Monocular 6D pose of known objects; see the metadata")


def sealed_file(model: Any, texts: Mapping[str, str], title: str) -> bytes:
    """A file's bytes: the graph, which stays as it is, with metadata instead of the exporter's notes.

    A checksum of all else is among them.
    """
    model = copy.deepcopy(model)
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        del part.metadata_props[:]  # paths and lines of the source
        part.doc_string = ""
    del model.metadata_props[:]
    model.producer_name, model.doc_string = "sopose", title
    for key, value in texts.items():
        model.metadata_props.add(key=key, value=value)
    return sealed_graph(model.SerializeToString())


def open_graph(content: bytes, runtime: str = "onnxruntime") -> AsModule:
    """The graph of a file's bytes, to be run on the CPU by one of `sopose.core.engine.onnx_runtimes.RUNTIMES`."""
    return AsModule(OnnxNetwork(open_session(content, "cpu", runtime), "the exported graph"))
