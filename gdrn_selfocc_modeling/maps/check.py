"""A sample of a split's map files against maps cast again: how far they are off, and whether that is rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.scene import read_image_size
from sopose.core.bop.splits import SplitSpec
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import M_TO_MM
from sopose.layers import unpack_Q
from sopose.maps.files import P_MAP, Q_MAP, MapKind, existing_map, read_map
from sopose.maps.generation import CastObject, cast_object
from sopose.maps.header import map_header
from sopose.maps.writer import PixelMap, pixel_P, pixel_Q

MARGIN = 1e-9  # metres beyond rounding: what float64 itself loses
NEAR = 1e-3  # metres; a rounded Q that is nearer to the camera gives no line


@dataclass
class Deviations:
    """The largest ones of the files looked at, and by how much any is more than its numbers' rounding explains."""

    instances: int = 0
    P: float | None = None  # metres; None: no file was there to compare
    Q: float | None = None  # metres
    off_line: float | None = None  # metres, of P from the line through the camera and Q
    mask_pixels: int = 0  # that are on the object in one of both, all instances together
    excess: float = 0.0  # metres

    @property
    def is_rounding(self) -> bool:
        """Whether masks are the same and all deviations are those of the numbers in the files."""
        return self.mask_pixels == 0 and self.excess <= MARGIN

    def lines(self) -> list[str]:
        """What was found, a line each."""
        return [
            f"instances looked at      {self.instances}",
            f"largest deviation of P   {_in_mm(self.P)}",
            f"largest deviation of Q   {_in_mm(self.Q)}",
            f"P off the line camera-Q  {_in_mm(self.off_line)}",
            f"pixels of other masks    {self.mask_pixels}",
        ]


def _in_mm(metres: float | None) -> str:
    return "not looked at" if metres is None else f"{M_TO_MM * metres:.4f} mm"


def check_maps(spec: SplitSpec, records: Sequence[ImageRecord], kind: MapKind, count: int) -> Deviations:
    """Cast `count` instances again, drawn from all of `records`, and compare their files of `kind`.

    The line through camera, P and Q is looked at where an instance has both files. Raises `UserError` where a file
    is missing, damaged or made from other data.
    """
    items = [(record, instance) for record in records for instance in record.instances]
    if not items:
        raise UserError(f"'{spec.name}' has no instance of these objects to check; choose others")
    chosen = np.random.default_rng(0).permutation(len(items))[:count]
    found = Deviations(instances=len(chosen))
    for index in sorted(chosen):
        _compare(spec, *items[index], kind, found)
    return found


def _compare(spec: SplitSpec, record: ImageRecord, instance: Instance, kind: MapKind, found: Deviations) -> None:
    known = cast_object(spec.models_dir, instance.obj_id)
    image_size = read_image_size(record, spec.root)
    header = map_header(instance, record.K, image_size, known.digest)

    def read(which: MapKind) -> PixelMap | None:
        path = which.path(spec.images_dir, record, instance.gt_index)
        if which != kind and not existing_map(path).is_file():
            return None
        values, box = read_map(path, which, image_size, header)
        groups = values.reshape(*values.shape[:2], -1, 2 if which == Q_MAP else 3)
        return PixelMap(box, values, groups.any(axis=-1))

    P, Q = read(P_MAP), read(Q_MAP)
    exact_P = pixel_P(known.model.caster, instance.pose, record.K, image_size)
    for file, exact, name in ((P, exact_P, "P"), (Q, _exact_Q(known, record, instance, exact_P), "Q")):
        if file is None:
            continue
        if file.box != exact.box or (file.valid != exact.valid).any():
            found.mask_pixels += _different_pixels(file, exact)
            continue
        off = np.abs(file.values.astype(np.float64) - exact.values)
        setattr(found, name, max(getattr(found, name) or 0.0, float(off.max(initial=0.0))))
        found.excess = max(found.excess, float((off - _rounding(file.values)).max(initial=0.0)))
    if P is not None and Q is not None and P.box == Q.box:
        off, excess = _off_line(P, Q, instance.pose)
        found.off_line, found.excess = max(found.off_line or 0.0, off), max(found.excess, excess)


def _exact_Q(known: CastObject, record: ImageRecord, instance: Instance, exact_P: PixelMap) -> PixelMap:
    return pixel_Q(known.model, instance.pose, record.K, exact_P.box, exact_P.valid[..., 0])


def _rounding(values: np.ndarray) -> np.ndarray:
    """Most that each number can be off by being rounded to its type, metres."""
    info = np.finfo(values.dtype)
    return np.abs(values.astype(np.float64)) * float(info.eps) / 2 + float(info.smallest_subnormal)


def _different_pixels(file: PixelMap, exact: PixelMap) -> int:
    """How many pixels have a point in one of both and not in the other."""
    x2, y2 = (max(file.box[k], exact.box[k]) for k in (2, 3))
    images = []
    for pixels in (file, exact):
        image = np.zeros((y2 + 1, x2 + 1, pixels.valid.shape[-1]), bool)
        x1, y1 = pixels.box[:2]
        image[y1 : pixels.box[3] + 1, x1 : pixels.box[2] + 1] = pixels.valid
        images.append(image)
    return int((images[0] != images[1]).any(axis=-1).sum())


def _off_line(P: PixelMap, Q: PixelMap, pose: Pose) -> tuple[float, float]:
    """Largest distance of P from the line through the camera and Q, and how much is more than rounding, metres."""
    camera = pose.inverse().cam_t_obj
    distance = np.linalg.norm(unpack_Q(Q.values.astype(np.float64)) - camera, axis=-1)
    both = Q.valid & P.valid & (distance > NEAR)
    if not both.any():
        return 0.0, 0.0
    to_P = np.broadcast_to(P.values.astype(np.float64)[..., None, :], (*both.shape, 3))[both] - camera
    to_Q = unpack_Q(Q.values.astype(np.float64))[both] - camera
    length = distance[both]
    off = np.linalg.norm(np.cross(to_P, to_Q), axis=-1) / length
    error_P = np.linalg.norm(np.broadcast_to(_rounding(P.values)[..., None, :], (*both.shape, 3))[both], axis=-1)
    error_Q = np.linalg.norm(unpack_Q(_rounding(Q.values))[both], axis=-1)
    # An error of Q turns the line about the camera, and moves it at P by the ratio of both distances.
    allowed = error_P + error_Q * np.linalg.norm(to_P, axis=-1) / length
    return float(off.max()), float((off - allowed).max())
