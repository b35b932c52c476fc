"""The file that holds a refiner's weights with its design: all that is needed to run it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from sopose.batch import RENDERED
from sopose.core.engine.checkpoint import (
    load_weights,
    model_weights,
    read_checkpoint,
    require_fitting_weights,
    save_weights,
)
from sopose.core.engine.facts import plain_facts
from sopose.core.utils.errors import UserError
from sopose.models.backbone import backbone_channels, backbone_strides, make_backbone
from sopose.models.neck import TopDownPath
from sopose.models.refiner import OUTPUTS, Refiner
from sopose.models.refiner_design import IMAGE, REMEDY, RefinerDesign, read_design

HEAD = ("head.weight", "head.bias")


def build_refiner(design: RefinerDesign, pretrained: str = "") -> Refiner:
    """The network of a design, on the CPU, in training mode.

    pretrained: the backbone's first weights, as of `make_backbone`; of its input channels those of the crop have them.
    Raises `UserError` where the backbone doesn't give the maps.
    """
    size, indices = design.input_res, design.out_indices
    backbone = make_backbone(design.backbone, indices, IMAGE + RENDERED, image_size=size)
    if pretrained:
        source = make_backbone(design.backbone, indices, IMAGE, pretrained, size)
        backbone.load_state_dict(widened(backbone, source.state_dict()))
    strides = backbone_strides(backbone)
    halves = all(coarse == 2 * fine for fine, coarse in pairwise(strides))
    if not halves or design.input_res != strides[0] * design.output_res:
        raise UserError(
            f"MODEL.REFINE: maps of {design.backbone} stand at strides {', '.join(map(str, strides))}; each must be "
            f"twice the one before, and the first input_res / output_res = {design.input_res} / {design.output_res}: "
            "change OUT_INDICES or one of these"
        )
    return Refiner(backbone, TopDownPath(backbone_channels(backbone), design.channels), design.channels)


def widened(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network that sees images, for one that sees further channels behind them.

    The added channels keep the network's own weights, which are small beside those of images.
    """
    own, fitted = network.state_dict(), dict(weights)
    for name, given in weights.items():
        wide = (*given.shape[:1], IMAGE + RENDERED, *given.shape[2:])
        if given.ndim == 4 and given.shape[1] == IMAGE and name in own and own[name].shape == wide:
            fitted[name] = torch.cat([given, own[name][:, IMAGE:]], dim=1)
    return fitted


def with_spread(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a refiner, also of the first ones, whose cells counted in a fit by their scale."""
    return {
        name: torch.cat([given, given[-1:]]) if name in HEAD and len(given) == OUTPUTS - 1 else given
        for name, given in weights.items()
    }


def start_from(network: Refiner, path: Path) -> None:
    """Take what fits of a file: a refiner's weights, or the trunk of a pose network with the same backbone and neck."""
    weights = model_weights(read_checkpoint(path), path)
    load_weights(network, widened(network, with_spread(weights)), path, partial=True)


def save_refiner(network: Refiner, design: RefinerDesign, objects: Sequence[str], path: Path) -> None:
    """Write a .safetensors or .pth file."""
    save_weights(network.state_dict(), path, design.facts(objects))


def load_refiner(path: Path) -> tuple[Refiner, RefinerDesign]:
    """The network of a .safetensors or .pth file, on the CPU.

    Raises `UserError` where the file is missing, damaged, says what can't be, or holds other weights than it says.
    """
    path = Path(path)
    state = read_checkpoint(path, REMEDY)
    design = read_design(plain_facts(state), str(path))
    weights = with_spread(model_weights(state, path))
    try:
        with torch.device("meta"):
            require_fitting_weights(build_refiner(design), weights, path)
    except (RuntimeError, OverflowError, ValueError) as error:  # sizes that no tensor has
        raise UserError(f"{path} cannot be of the network it names ({' '.join(str(error).split())[:100]})") from error
    network = build_refiner(design)
    load_weights(network, weights, path, remedy=REMEDY)
    return network.to(memory_format=torch.channels_last), design
