"""Feature extractors of torchvision by name: where its classifiers have a map of each stride, found in their graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import NodePathTracer, create_feature_extractor

PROBE_SIZE = 256  # side of the image that shapes are read with, pixels
STRIDES = (2, 4, 8, 16, 32)
# What `create_feature_extractor` doesn't look into, so that its names of nodes are those found here.
LEAVES = [part for part in vars(torchvision.ops).values() if isinstance(part, type) and issubclass(part, nn.Module)]


@dataclass(frozen=True)
class Stage:
    """The last map of a stride."""

    node: str  # its name in the graph
    channels: int
    stride: int
    leading: tuple[str, ...]  # modules that it takes to get there


class StageInfo:
    """Channels, strides and modules of the maps that come out, under the names that timm's `feature_info` has."""

    def __init__(self, stages: Sequence[Stage], out_indices: Sequence[int]) -> None:
        self.stages = tuple(stages)
        self.chosen = tuple(stages[index] for index in out_indices)

    def channels(self) -> list[int]:
        """Channels of the chosen maps."""
        return [stage.channels for stage in self.chosen]

    def reduction(self) -> list[int]:
        """Their strides."""
        return [stage.stride for stage in self.chosen]


def make_classifier(name: str, pretrained: bool) -> nn.Module:
    """A classifier of torchvision. Raises whatever torchvision raises, also where weights can't be downloaded."""
    return torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)


class _Shapes(fx.Interpreter):
    """Notes the shape of every node's tensor."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        n.meta["shape"] = tuple(value.shape) if isinstance(value, Tensor) else ()
        return value


@torch.no_grad()
def find_stages(model: nn.Module) -> list[Stage]:
    """The last map of each stride that every later one is made from, the finest first; none where nothing fits.

    Strides that a model skips are left out. Raises what tracing raises for models that can't be traced.
    """
    tracer = NodePathTracer(autowrap_modules=(math, torchvision.ops), leaf_modules=LEAVES)
    graph = tracer.trace(model.eval())
    _Shapes(fx.GraphModule(model, graph)).run(torch.zeros(1, 3, PROBE_SIZE, PROBE_SIZE))
    place = {node: i for i, node in enumerate(graph.nodes)}
    found: dict[int, Stage] = {}
    leading: dict[str, None] = {}
    open_until = 0  # the last place where a map older than this node is still used
    for node, i in place.items():
        if node.op in ("call_module", "get_attr"):
            module = str(node.target) if node.op == "call_module" else str(node.target).rpartition(".")[0]
            if module:  # a parameter of the model itself has none
                leading[module] = None
        stride = _stride(node.meta["shape"])
        if stride in STRIDES and open_until <= i:
            name = tracer.node_to_qualname[node]
            found[stride] = Stage(name, node.meta["shape"][1], stride, tuple(leading))
        if node.op != "get_attr":
            open_until = max([open_until, *(place[user] for user in node.users)])
    return [found[stride] for stride in sorted(found)]


def _stride(shape: tuple[int, ...]) -> int | None:
    """By how much a map (1, C, h, h) is smaller than the image; None for anything else."""
    if len(shape) != 4 or shape[2] != shape[3] or PROBE_SIZE % shape[2]:
        return None
    return PROBE_SIZE // shape[2]


def extract_stages(model: nn.Module, stages: Sequence[Stage], out_indices: Sequence[int]) -> nn.Module:
    """The part of `model` that computes some stages: (B, 3, H, W) -> a list of maps, parameters named as in `model`."""
    info = StageInfo(stages, out_indices)
    backbone = create_feature_extractor(model, {stage.node: str(i) for i, stage in enumerate(info.chosen)})
    for graph in (backbone.train_graph, backbone.eval_graph):
        output = next(node for node in graph.nodes if node.op == "output")
        output.args = ([*output.args[0].values()],)
    backbone.feature_info = info
    return backbone.train()  # compiles the changed graph
