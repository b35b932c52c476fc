"""What an annotated image is, and what every reader of images shares, whatever the layout of its folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sopose.core.bop.fields import integer
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_file


@dataclass(frozen=True)
class ImageList:
    """A text file of image ids, one a line: `scene/image`, or `image` alone where `scene_id` is given."""

    path: Path
    scene_id: int | None = None
    required: bool = True  # without the file: an error, or all images


@dataclass(frozen=True, eq=False, slots=True)
class Instance:
    """One annotated object of an image. Boxes are (4,) float64 x1, y1, x2 = x1 + w, y2 = y1 + h, pixels.

    What a data set doesn't have, or has as BOP's -1, is None.
    """

    obj_id: int
    gt_index: int  # position in the image's list in scene_gt.json, names its mask files
    pose: Pose
    bbox_obj: np.ndarray | None = None  # of the whole object, may leave the image
    bbox_visib: np.ndarray | None = None  # of its visible part
    visib_fract: float | None = None
    px_count_visib: int | None = None
    mask_path: Path | None = None  # of the whole object
    mask_visib_path: Path | None = None


@dataclass(frozen=True, eq=False, slots=True)
class ImageRecord:
    """One image of a split. `instances` are of the wanted objects, `others` the rest (they may occlude)."""

    scene_id: int
    im_id: int
    rgb_path: Path
    depth_path: Path | None
    depth_scale: float  # value in the depth file * depth_scale = metres
    K: np.ndarray  # (3, 3) float64, pixels
    instances: tuple[Instance, ...]
    others: tuple[Instance, ...] = ()
    sensor: str = ""  # which of a scene's several took it
    is_annotated: bool = True  # its scene has ground truth, be it that nothing is in this image


Found = tuple[list[ImageRecord], int]  # records, and how many listed images there is no annotation for


def parted(instances: Iterable[Instance], wanted: set[int]) -> dict[str, tuple[Instance, ...]]:
    """An image's instances as the two fields of its record: of the wanted objects, and the others."""
    instances = list(instances)
    return {
        "instances": tuple(item for item in instances if item.obj_id in wanted),
        "others": tuple(item for item in instances if item.obj_id not in wanted),
    }


def list_lines(item: ImageList) -> Iterator[tuple[str, str]]:
    """The entries of an image list, each with the words that say where it stands."""
    require_file(item.path, "the split is defined by this list of image ids (GDR-Net's image_set); copy it there")
    for number, line in enumerate(item.path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if line.strip():
            yield f"{item.path}, line {number}", line.strip()


def listed_image(item: ImageList, where: str, line: str) -> tuple[int, int]:
    """Scene and image that an entry of `list_lines` names. `UserError` where it names none."""
    scene, _, image = line.rpartition("/")
    if not scene and item.scene_id is None:
        raise UserError(f"{where} must be scene/image and is '{line}'; repair the list")
    scene_id = integer(scene.rpartition("/")[2], where) if scene else item.scene_id
    return scene_id, integer(image, where)
