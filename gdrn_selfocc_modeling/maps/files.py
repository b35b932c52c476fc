"""P and Q of training from files: folders `xyz_crop` and `Q0` of a split, sampled at the cells of an ROI.

An instance's file holds the maps at every pixel of a box: `xyz_crop` (h, w, 3) or `occ_crop` (h, w, 6), metres
in the object's frame and 0 where there is none, and `xyxy`, the box's first and last pixels. A `header` says what
the maps were made from; files of other programs have none and are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.data.roi import RoiView
from sopose.core.images.scene_images import SceneNames
from sopose.core.legacy.pickled_arrays import read_pickled_arrays
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_arrays, require_dir, require_key
from sopose.layers import Layers
from sopose.maps.header import HEADER_KEY, Header, differing, map_header, parse_header

WAY_OUT = "generate it, or set INPUT.XYZ_SOURCE=online"
MAX_COORDINATE = 20.0  # metres; millimetres are beyond it


@dataclass(frozen=True)
class MapKind:
    """One of the two layers as files."""

    folder: str
    suffix: str
    key: str
    channels: int
    tool: str  # that writes them

    def folder_of(self, split_dir: Path, sensor: str = "") -> Path:
        """The folder of a split, or of one of its sensors."""
        return split_dir / SceneNames(sensor).of(self.folder)

    def path(self, split_dir: Path, record: ImageRecord, gt_index: int) -> Path:
        """The .npz file of an instance."""
        folder = self.folder_of(split_dir, record.sensor)
        return folder / f"{record.scene_id:06d}" / f"{record.im_id:06d}_{gt_index:06d}-{self.suffix}.npz"


P_MAP = MapKind("xyz_crop", "xyz", "xyz_crop", 3, "generate_P.py")
Q_MAP = MapKind("Q0", "Q0", "occ_crop", 6, "generate_Q.py")


class MapFiles:
    """The map files of a split: `.npz`, or `.pkl` as the ancestor wrote them."""

    def __init__(
        self,
        split_dir: Path,
        two_layers: bool = True,
        model_hashes: Mapping[int, str] | None = None,
        sensor: str = "",
    ) -> None:
        """Without `two_layers` Q is nowhere valid and its folder need not be there. `UserError` without a folder.

        model_hashes: of the models by object id; where they are given, files have to be made from them.
        """
        self.split_dir, self.two_layers = split_dir, two_layers
        self.model_hashes = dict(model_hashes or {})
        for kind in (P_MAP, Q_MAP) if two_layers else (P_MAP,):
            require_dir(kind.folder_of(split_dir, sensor), WAY_OUT)

    def layers(self, record: ImageRecord, instance: Instance, view: RoiView) -> Layers:
        """The layers at the pixels nearest to the ROI's cells.

        Raises `UserError` where a file is missing or was made from other facts, or its maps are not what their box
        and the image say.
        """
        P_obj = self._sample(P_MAP, record, instance, view)
        mask = (P_obj != 0).any(axis=-1)
        Q_obj = np.zeros((*mask.shape, Q_MAP.channels), P_obj.dtype)
        if self.two_layers:
            Q_obj = self._sample(Q_MAP, record, instance, view) * mask[..., None]
        valid = (Q_obj != 0).reshape(*mask.shape, 3, 2).any(axis=-1)
        return Layers(P_obj, mask, Q_obj, valid)

    def _sample(self, kind: MapKind, record: ImageRecord, instance: Instance, view: RoiView) -> np.ndarray:
        """(out, out, C) float64 of a layer at the ROI's cells, 0 off the file's box and off the image."""
        path = kind.path(self.split_dir, record, instance.gt_index)
        wanted = None
        if instance.obj_id in self.model_hashes:
            wanted = map_header(instance, view.K, view.image_size, self.model_hashes[instance.obj_id])
        crop, (left, top, right, bottom) = read_map(path, kind, view.image_size, wanted)
        column, row = np.moveaxis(np.floor(view.positions + 0.5).astype(np.int64), -1, 0)
        within = (column >= left) & (column <= right) & (row >= top) & (row <= bottom)
        values = np.zeros((*within.shape, kind.channels))
        values[within] = crop[row[within] - top, column[within] - left]
        return values


def read_map(
    path: Path, kind: MapKind, image_size: tuple[int, int], wanted: Header | None = None
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """A layer's crop (h, w, C) float and its box x1, y1, x2, y2 (inclusive pixels) from a file.

    `path` is that of the .npz file; where it is missing, the .pkl file beside it is read. Raises `UserError`
    where neither is there, for content of another size, type or meaning, and where the file has a header that
    says otherwise than `wanted`.
    """
    path = existing_map(path)
    content = read_content(path, kind)
    if wanted is not None and HEADER_KEY in content:
        _check_header(parse_header(content[HEADER_KEY]), wanted, path, kind)
    return checked_map(content, path, kind, image_size)


def checked_map(
    content: Mapping[str, Any], path: Path, kind: MapKind, image_size: tuple[int, int]
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Crop and box of a file's content, see `read_map`. `UserError` where they are not what they should be."""
    crop = require_key(content, kind.key, str(path))
    box = _box(require_key(content, "xyxy", str(path)), path, image_size)
    shape = (box[3] - box[1] + 1, box[2] - box[0] + 1, kind.channels)
    if not isinstance(crop, np.ndarray) or crop.dtype.kind != "f" or crop.shape != shape:
        came = f"{crop.dtype} {crop.shape}" if isinstance(crop, np.ndarray) else type(crop).__name__
        raise UserError(f"{path}: {kind.key} must be float {shape} for its box {box} and is {came}; {WAY_OUT}")
    if not np.isfinite(crop).all() or np.abs(crop).max() > MAX_COORDINATE:
        raise UserError(
            f"{path}: {kind.key} must be finite metres and has nan, infinity or more than {MAX_COORDINATE:g}; {WAY_OUT}"
        )
    return crop, box


def existing_map(path: Path) -> Path:
    """The file of an instance whose .npz file is `path`: that one, or the .pkl beside it where it alone is there."""
    pickled = path.with_suffix(".pkl")
    return pickled if pickled.is_file() and not path.is_file() else path


def read_content(path: Path, kind: MapKind) -> Mapping[str, Any]:
    """What a map file, .npz or .pkl, has of map, box and header. `UserError` where it is damaged."""
    keys = (kind.key, "xyxy", HEADER_KEY)
    return read_pickled_arrays(path) if path.suffix == ".pkl" else read_arrays(path, keys, WAY_OUT)


def _check_header(header: Header | None, wanted: Header, path: Path, kind: MapKind) -> None:
    different = ["header"] if header is None else differing(header, wanted)
    if different:
        raise UserError(
            f"{path} was made from other data ({', '.join(different)} differ); write it again with {kind.tool}, "
            "or set INPUT.XYZ_SOURCE=online"
        )


def _box(value: Any, path: Path, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    corners = np.asarray(value)
    numeric = corners.shape == (4,) and corners.dtype.kind in "iuf"
    if not numeric or not np.isfinite(corners).all() or (corners % 1 != 0).any():
        raise UserError(f"{path}: xyxy must be 4 whole numbers and is {str(value)[:60]!r}; {WAY_OUT}")
    x1, y1, x2, y2 = (int(corner) for corner in corners)
    width, height = image_size
    if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height):
        raise UserError(
            f"{path}: xyxy {(x1, y1, x2, y2)} must be a box in the image of {width} x {height} pixels; {WAY_OUT}"
        )
    return x1, y1, x2, y2
