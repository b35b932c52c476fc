"""A trained network made ready to be asked many times: on a CPU without batch norms, in bfloat16 where that is safe."""

from __future__ import annotations

import copy
import logging

import torch
from torch import nn

from sopose.batch import RENDERED, Prediction, RoiBatch
from sopose.core.engine.machine import has_fast_bfloat16
from sopose.core.engine.modes import HalfConvolutions, without_batch_norms
from sopose.models.gdrn import GDRN
from sopose.models.refiner import Refiner
from sopose.models.refiner_design import IMAGE

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
    example = torch.linspace(-1, 1, 3 * image_size**2).view(1, 3, image_size, image_size)
    network.backbone = without_batch_norms(network.backbone, example)
    if network.neck is not None:
        with torch.no_grad():
            network.neck = without_batch_norms(network.neck, network.backbone(example))
    if half and not has_fast_bfloat16():
        logger.info("this CPU has no arithmetic in bfloat16 (AVX512-BF16, AMX): the network stays in float32")
    elif half:
        for name in HEADS:
            head = getattr(network, name)
            setattr(network, name, None if head is None else HalfConvolutions(head))
    return network


def prepared_refiner(model: nn.Module, device: torch.device, image_size: int) -> nn.Module:
    """The same of a network of second looks: on a CPU a copy without batch norms, in float32."""
    if not isinstance(model, Refiner) or device.type != "cpu":
        return model
    network = copy.deepcopy(model)
    channels = IMAGE + RENDERED
    example = torch.linspace(-1, 1, channels * image_size**2).view(1, channels, image_size, image_size)
    network.backbone = without_batch_norms(network.backbone, example)
    with torch.no_grad():
        network.neck = without_batch_norms(network.neck, network.backbone(example))
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
