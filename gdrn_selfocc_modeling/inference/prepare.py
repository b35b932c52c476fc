"""A trained network made ready to be asked many times: on a CPU without batch norms, in bfloat16 where that is safe."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from sopose.batch import Prediction, RoiBatch
from sopose.core.engine.machine import has_fast_bfloat16
from sopose.core.engine.modes import keep_slow_parts_in_float32, without_batch_norms
from sopose.models.gdrn import GDRN

logger = logging.getLogger(__name__)
HEADS = ("geo_head_net", "selfocc_head_net")


def prepared(model: nn.Module, device: torch.device, image_size: int, half: bool = False) -> nn.Module:
    """The network as it is to run on its device, in evaluation mode; what it was made from stays as it is.

    On a CPU this is a copy, which doesn't follow later changes of the weights. Networks that aren't torch's own, such
    as an .onnx file, come back as they are.

    Args:
        model: in evaluation mode.
        device: where it is.
        image_size: side of its input, pixels.
        half: bfloat16: on a GPU for all but the pose, on a CPU with the arithmetic for it in the two heads. They have
            most of the operations, and lose a twentieth of a degree; the backbone would lose half a degree.
    """
    if not isinstance(model, GDRN):
        return model
    if device.type != "cpu":
        return Autocast(model, device) if half else model
    network = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        example = torch.randn(1, 3, image_size, image_size)
    network.backbone = without_batch_norms(network.backbone, example)
    if half and not has_fast_bfloat16():
        logger.info("this CPU has no arithmetic in bfloat16 (AVX512-BF16, AMX): the network stays in float32")
    elif half:
        for name in HEADS:
            head = getattr(network, name)
            setattr(network, name, None if head is None else HalfHead(head))
    return network


class Autocast(nn.Module):
    """A network whose operations are in bfloat16 where torch takes them for safe."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network, self.kind = network, device.type

    def forward(self, batch: RoiBatch) -> Prediction:
        """Maps and poses of a batch of ROIs."""
        with torch.autocast(self.kind, torch.bfloat16):
            return self.network(batch)


class HalfHead(nn.Module):
    """A dense head for CPUs that takes and gives float32 and convolves in bfloat16, in which it holds its weights."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head
        keep_slow_parts_in_float32(head)
        for module in head.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.bfloat16()

    def forward(self, features: Tensor, class_index: Tensor) -> tuple[Tensor | None, ...]:
        """(B, C, h, w) float32, (B,) int64 -> the head's maps (B, c, H, W) float32; None for what it has not."""
        with torch.autocast("cpu", torch.bfloat16):
            maps = self.head(features, class_index)
        return tuple(None if values is None else values.float() for values in maps)
