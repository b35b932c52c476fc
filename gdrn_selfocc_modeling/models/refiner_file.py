"""A refiner's design, and the file that holds it with its weights: all that is needed to run it alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sopose.batch import RENDERED
from sopose.core.engine.checkpoint import (
    load_weights,
    model_weights,
    plain_facts,
    read_checkpoint,
    require_fitting_weights,
    save_weights,
)
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_fit import pose_precision
from sopose.core.utils.errors import UserError
from sopose.core.utils.plain_values import PlainReader
from sopose.models.backbone import backbone_channels, backbone_strides, make_backbone
from sopose.models.neck import TopDownPath
from sopose.models.refiner import OUTPUTS, Refiner

KIND, VERSION = "refiner", 1
REMEDY = "give a file that sopose refiner wrote"
IMAGE = 3  # channels of the crop
RANGES = {
    "channels": (1, 512),
    "input_res": (32, 1024),
    "output_res": (8, 256),
    "pad_scale": (1.0, 4.0),
    "start_rotation": (0.01, 180.0),
    "start_depth": (1e-4, 1.0),
    "start_across": (1e-4, 1.0),
    "correlation": (1e-3, 1e6),
}
REALS = ("pad_scale", "start_rotation", "start_depth", "start_across", "correlation")
MOST_STAGES = 8
HEAD = ("head.weight", "head.bias")


@dataclass(frozen=True)
class RefinerDesign:
    """Sizes of the network and of its input. Raises `UserError` for sizes that can't be."""

    backbone: str = "own/plain_light"  # as of `make_backbone`
    out_indices: tuple[int, ...] = (0, 1, 2)
    channels: int = 64  # of the map that displacements are predicted from
    input_res: int = 128  # pixels
    output_res: int = 32  # cells
    pad_scale: float = 1.2  # side of the crop over the longer side of the rendered outline
    pixel_format: str = "RGB"
    pixel_mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    pixel_std: tuple[float, ...] = (127.5, 127.5, 127.5)
    # Of the poses before, as far as it learned to correct them: see `sopose.data.look_source.StartRange`.
    start_rotation: float = 8.0  # degrees, root of the mean squared angle
    start_depth: float = 0.03  # shares of the depth
    start_across: float = 0.05  # diameters
    # By how much the covariance of independent cells is too small: errors of neighbours go together. Measured.
    correlation: float = 250.0

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise UserError(f"the refiner's {name} must be {least} to {most}, got {getattr(self, name)}")
        if not 0 < len(self.out_indices) <= MOST_STAGES:
            raise UserError(f"the refiner's out_indices must be 1 to {MOST_STAGES}, got {len(self.out_indices)}")
        if self.pixel_format not in ("RGB", "BGR"):
            raise UserError(f"the refiner's pixel_format must be RGB or BGR, got '{self.pixel_format}'")
        mean, std = self.pixel_mean, self.pixel_std
        if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise UserError("the refiner's pixel_mean and pixel_std must be three levels each, std above zero")

    def precision(self, pose: Pose, diameter: float) -> np.ndarray:
        """(6, 6) what is known of a pose before any look at it, see `pose_precision`; diameter in metres."""
        rotation = math.radians(self.start_rotation)
        return pose_precision(pose, diameter, rotation, self.start_depth, self.start_across)

    def facts(self, objects: Sequence[str]) -> dict[str, Any]:
        """The design and the names of the objects it was trained on, as values that json can hold."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"kind": KIND, "version": VERSION, "objects": [*objects], **plain}


def read_design(plain: Mapping[str, Any], where: str) -> RefinerDesign:
    """The design that a foreign file states, every value checked; `where` it is from. Raises `UserError`."""
    if plain.get("kind") != KIND:
        raise UserError(f"{where} is no refiner; {REMEDY}")
    if plain.get("version") != VERSION:
        raise UserError(f"{where} is a refiner of version {plain.get('version')!r}, wanted is {VERSION}; {REMEDY}")
    read = PlainReader(plain, where, REMEDY)
    number = (int, float)
    try:
        return RefinerDesign(
            backbone=read.value("backbone", str),
            out_indices=tuple(read.items("out_indices", int)),
            **{name: read.value(name, int) for name in ("channels", "input_res", "output_res")},
            **{name: float(read.value(name, number)) for name in REALS},
            pixel_format=read.value("pixel_format", str),
            pixel_mean=tuple(map(float, read.items("pixel_mean", number))),
            pixel_std=tuple(map(float, read.items("pixel_std", number))),
        )
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error


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
