"""What a detector's checkpoint says beside its weights: all that is needed to run it alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sopose.core.objects.known import MOST_OBJECTS, objects_fault
from sopose.core.utils.errors import UserError
from sopose.core.utils.plain_values import PlainReader

KIND, VERSION = "detector", 1
REMEDY = "give a file that sopose detector wrote"
USUAL_THRESHOLD = 0.3  # of a detector whose own was not measured
GROUP = 32  # channels are a multiple of it: the head's norms have as many groups
RANGES = {"side": (32, 4096), "channels": (GROUP, 512), "convs": (1, 8)}


@dataclass(frozen=True)
class DetectorDesign:
    """Sizes of the network and of its input."""

    side: int = 640  # longer side of the input, pixels
    backbone: str = "tf_efficientnet_lite0"  # a model of timm
    channels: int = 64  # of the features that boxes are found in
    convs: int = 2  # convolutions of each head
    pixel_mean: tuple[float, float, float] = (127.5, 127.5, 127.5)  # levels, RGB
    pixel_std: tuple[float, float, float] = (127.5, 127.5, 127.5)

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise UserError(f"the detector's {name} must be {least} to {most}, got {getattr(self, name)}")
        if self.channels % GROUP:
            raise UserError(f"the detector's channels must be a multiple of {GROUP}, got {self.channels}")


@dataclass(frozen=True)
class DetectorFacts:
    """Names and BOP ids of the objects in the order of the classes, and the network's design."""

    objects: tuple[str, ...]
    obj_ids: tuple[int, ...]
    design: DetectorDesign = field(default_factory=DetectorDesign)
    threshold: float = USUAL_THRESHOLD  # least score of a box; see `sopose.core.detection.threshold`

    def __post_init__(self) -> None:
        if not 0 < len(self.objects) <= MOST_OBJECTS or len(set(self.objects)) != len(self.objects):
            raise UserError("a detector needs at least one object, each with a name of its own")
        if len(self.obj_ids) != len(self.objects):
            raise UserError(f"a detector of {len(self.objects)} objects has {len(self.obj_ids)} ids; give one for each")
        if not 0 <= self.threshold <= 1:
            raise UserError(f"a detector's threshold must be in [0, 1], got {self.threshold}")

    def plain(self) -> dict[str, Any]:
        """The same as values that json can hold."""
        design = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.design).items()
        }
        known = {"objects": [*self.objects], "obj_ids": [*self.obj_ids], "threshold": self.threshold}
        return {"kind": KIND, "version": VERSION, **known, **design}


def read_facts(plain: Mapping[str, Any], where: str) -> DetectorFacts:
    """The facts of a foreign file, every value checked; `where` they are from. Raises `UserError`."""
    if plain.get("kind") != KIND:
        raise UserError(f"{where} is no detector; {REMEDY}")
    if plain.get("version") != VERSION:
        raise UserError(f"{where} is a detector of version {plain.get('version')!r}, wanted is {VERSION}; {REMEDY}")
    read = PlainReader(plain, where, REMEDY, MOST_OBJECTS)
    objects, obj_ids = read.items("objects", str), read.items("obj_ids", int)
    fault = objects_fault(objects, obj_ids)
    if fault:
        raise UserError(f"{where}: {fault}; {REMEDY}")
    backbone = read.value("backbone", str)
    mean, std = (tuple(map(float, read.items(name, (int, float)))) for name in ("pixel_mean", "pixel_std"))
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise UserError(f"{where}: 'pixel_mean' and 'pixel_std' must be three levels each, std above zero; {REMEDY}")
    sizes = {name: read.value(name, int) for name in RANGES}
    threshold = float(read.value("threshold", (int, float))) if "threshold" in plain else USUAL_THRESHOLD
    try:
        design = DetectorDesign(**sizes, backbone=backbone, pixel_mean=mean, pixel_std=std)
        return DetectorFacts(tuple(objects), tuple(obj_ids), design, threshold)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
