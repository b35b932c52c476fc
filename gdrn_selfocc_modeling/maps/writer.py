"""Map files of an instance: P and Q at every pixel that sees the object, as `map_files` reads them.

One compressed file an instance, written whole or not at all; the same facts give the same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sopose.core.geometry.camera import pixel_grid
from sopose.core.geometry.pose import Pose
from sopose.core.legacy.pickle_writer import pickled_dict
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.visibility import pixel_limits
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import atomic_path
from sopose.layers import cast_P, cast_Q
from sopose.maps.files import MAX_COORDINATE, MapKind, checked_map, read_content
from sopose.maps.header import HEADER_KEY, Header, differing, header_text, parse_header

DType = Literal["float16", "float32"]
State = Literal["missing", "stale", "fresh", "foreign"]


@dataclass(frozen=True, eq=False)
class PixelMap:
    """A layer at the pixels of a box; metres, the object's frame, 0 where there is none."""

    box: tuple[int, int, int, int]  # x1, y1, x2, y2, inclusive pixels
    values: np.ndarray  # (h, w, C) float
    valid: np.ndarray  # (h, w, C / n) bool, which groups of n channels are known

    @property
    def positions(self) -> np.ndarray:
        """(h, w, 2) pixels of the box."""
        return box_pixels(self.box)


def box_pixels(box: tuple[int, int, int, int]) -> np.ndarray:
    """(h, w, 2) float64 pixels of an inclusive box x1, y1, x2, y2."""
    return pixel_grid(box[2] - box[0] + 1, box[3] - box[1] + 1) + np.array(box[:2])


def pixel_P(caster: RayCaster, pose: Pose, K: np.ndarray, image_size: tuple[int, int]) -> PixelMap:
    """P at the pixels of an image (W, H) that see the object alone, in the smallest box that holds them.

    Of an object that no pixel sees it is one pixel without a point, the image's first.
    """
    x1, y1, x2, y2 = pixel_limits(caster, pose, K, np.array([0, 0, *image_size]))
    P_obj, mask = cast_P(caster, pose, K, pixel_grid(x2 - x1, y2 - y1) + np.array([x1, y1]))
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not len(rows):
        return PixelMap((0, 0, 0, 0), np.zeros((1, 1, 3)), np.zeros((1, 1, 1), bool))
    tight = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    box = (int(x1 + columns[0]), int(y1 + rows[0]), int(x1 + columns[-1]), int(y1 + rows[-1]))
    return PixelMap(box, P_obj[tight], mask[tight][..., None])


def pixel_Q(
    model: ObjectModel, pose: Pose, K: np.ndarray, box: tuple[int, int, int, int], mask: np.ndarray
) -> PixelMap:
    """Q at the pixels of a box where `mask` (h, w) says that the object is; no ray is cast."""
    Q_obj, valid = cast_Q(pose, K, box_pixels(box), mask, model.bounds_min, model.extent)
    return PixelMap(box, Q_obj, valid)


def stored_values(pixels: PixelMap, dtype: DType) -> np.ndarray:
    """The values (h, w, C) in `dtype`, rounded so that 0 still means that there is none.

    Where all numbers of a known point round to 0, the first becomes the smallest one above it (6e-8 m in float16).
    """
    h, w, groups = pixels.valid.shape
    values = pixels.values.astype(dtype).reshape(h, w, groups, -1)
    lost = pixels.valid & ~values.any(axis=-1)
    values[lost, 0] = np.finfo(dtype).smallest_subnormal
    return values.reshape(h, w, -1)


def too_far(what: str, furthest: float) -> str:
    """What to say of coordinates, metres, beyond what map files hold."""
    return (
        f"{what} reaches {furthest:g} m from its origin, map files hold {MAX_COORDINATE:g} m at most; models have "
        "millimetres: correct their unit or origin"
    )


def write_map(path: Path, kind: MapKind, pixels: PixelMap, header: Header, dtype: DType) -> int:
    """Write a layer with its header: compressed .npz, or a .pkl for the ancestor by the suffix. Returns the bytes.

    Raises `UserError` where the file cannot be written, and for coordinates that no reader would take.
    """
    furthest = float(np.abs(pixels.values).max(initial=0.0))
    if not furthest <= MAX_COORDINATE:
        raise UserError(too_far(f"{path}: the object", furthest))
    values, text = stored_values(pixels, dtype), header_text(header, dtype)
    if path.suffix == ".pkl":
        data = pickled_dict({kind.key: values, "xyxy": pixels.box, HEADER_KEY: text})
    else:
        buffer = io.BytesIO()
        arrays = {kind.key: values, "xyxy": np.array(pixels.box, np.int64), HEADER_KEY: np.array(text)}
        np.savez_compressed(buffer, **arrays)
        data = buffer.getvalue()
    with atomic_path(path) as beside:
        beside.write_bytes(data)
    return len(data)


def map_state(path: Path, kind: MapKind, wanted: Header) -> State:
    """Whether a file is there and was made from what `wanted` says; `foreign` where it says nothing.

    It is read as training reads it: what training would refuse is `stale`.
    """
    if not path.is_file():
        return "missing"
    try:
        content = read_content(path, kind)
        checked_map(content, path, kind, tuple(wanted["image_size"]))
    except UserError:
        return "stale"
    if HEADER_KEY not in content:
        return "foreign"
    header = parse_header(content[HEADER_KEY])
    return "stale" if header is None or differing(header, wanted) else "fresh"
