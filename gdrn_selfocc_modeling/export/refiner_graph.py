"""From a trained refiner to one .onnx graph: crops and renderings in, displacements out."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sopose.batch import RENDERED
from sopose.core.engine.facts import FACTS
from sopose.core.engine.onnx_runtimes import open_session
from sopose.export.onnx_graph import sealed_file, traced_graph
from sopose.inference.onnx_refiner import INPUTS, OUTPUTS
from sopose.models.refiner import Refiner
from sopose.models.refiner_design import IMAGE, RefinerDesign


class _Exportable(nn.Module):
    """The refiner with tensors instead of dataclasses."""

    def __init__(self, network: Refiner) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        moved = self.network.displacements(*inputs)
        return tuple(getattr(moved, name) for name in OUTPUTS)


def export_refiner(network: Refiner, design: RefinerDesign, objects: Sequence[str]) -> bytes:
    """An .onnx file's bytes. Inputs are `image` and `rendered` of `LookBatch`, outputs `Displacements`.

    Raises `UserError` for a network that ONNX has no operators for.
    """
    graph = traced_graph(_Exportable(network.eval()), made_up_look(design, 2), OUTPUTS)
    texts = {FACTS: json.dumps(design.facts(objects))}
    return sealed_file(graph, texts, "Second looks at 6D poses: where an image shows rendered surface points")


def made_up_look(design: RefinerDesign, count: int, seed: int = 0) -> dict[str, Tensor]:
    """What a refiner sees, of noise, by name."""
    generator = torch.Generator().manual_seed(seed)
    side = design.input_res
    return {
        name: torch.randn(count, channels, side, side, generator=generator)
        for name, channels in zip(INPUTS, (IMAGE, RENDERED), strict=True)
    }


@torch.inference_mode()
def largest_difference(network: Refiner, content: bytes, design: RefinerDesign, counts: Sequence[int]) -> float:
    """How far a file's displacements and scales are from the network's, at most; cells."""
    session, worst = open_session(content, "cpu"), 0.0
    for count in counts:
        seen = made_up_look(design, count, seed=count)
        wanted = network.eval().displacements(**seen)
        found = session.run({name: values.numpy() for name, values in seen.items()})
        for name, values in zip(session.outputs, found, strict=True):
            worst = max(worst, float((torch.from_numpy(values) - getattr(wanted, name)).abs().max()))
    return worst
