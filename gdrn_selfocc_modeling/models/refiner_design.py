"""What a refiner is, without its network: its design, which goes with its weights, and how its answers are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sopose.batch import Displacements, LookBatch
from sopose.core.geometry.arrays import namespace
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.pose_fit import SeenPoints, pose_precision
from sopose.core.utils.errors import UserError
from sopose.core.utils.plain_values import PlainReader
from sopose.models.confidence import read_confidence

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
INFLATION = (1e-3, 1e6)
REALS = ("pad_scale", "start_rotation", "start_depth", "start_across", "correlation")
MOST_STAGES = 8


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
    # How sure poses are: see `sopose.models.confidence`; empty where it was not measured.
    confidence: tuple[float, ...] = ()
    # Of variances along the line of sight, across it and of the rotation: what the errors of poses that are probably
    # right asked for.
    inflation: tuple[float, float, float] = (1.0, 1.0, 1.0)

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
        read_confidence(self.confidence, "the refiner's confidence")
        least, most = INFLATION
        if len(self.inflation) != 3 or not all(least <= factor <= most for factor in self.inflation):
            raise UserError(f"the refiner's inflation must be three factors of {least} to {most}, got {self.inflation}")

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
            confidence=tuple(map(float, read.items("confidence", number))) if "confidence" in plain else (),
            inflation=_inflation(plain, read),
        )
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error


def _inflation(plain: Mapping[str, Any], read: PlainReader) -> tuple[float, ...]:
    """Three factors; older files have one for all, or none."""
    if isinstance(plain.get("inflation", 1.0), int | float):
        return (float(plain.get("inflation", 1.0)),) * 3
    return tuple(map(float, read.items("inflation", (int, float))))


def seen_points(look: LookBatch, moved: Displacements, correlation: float = 1.0) -> SeenPoints:
    """The rendered points of B looks with where the image shows them, for `fit_poses`.

    A Laplace law of scale b, here the spread, has the variance 2 b². correlation: by how much what the cells say
    together is less than if their errors didn't depend on each other.
    """
    xp, cell = namespace(look.cell), look.cell[:, None, None]
    pixels = look.pixel + moved.shift * cell[:, None]
    precision = look.mask / (2 * correlation * (xp.exp(moved.log_spread) * cell) ** 2)
    points, seen = (maps.reshape(*maps.shape[:2], -1).mT for maps in (look.points_obj, pixels))
    return SeenPoints(points, seen, precision.reshape(len(precision), -1), look.K)
