"""Annotated objects that are not in their images, of data sets without the `scene_gt_info.json` that would say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from sopose.core.bop.models import default_name, read_mesh
from sopose.core.bop.records import ImageRecord, Instance
from sopose.core.bop.scene import read_image_size
from sopose.core.bop.splits import SplitSpec
from sopose.core.geometry.camera import project
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import MM_TO_M

Size = tuple[int, int]


def with_unseen(
    records: Sequence[ImageRecord], spec: SplitSpec, models: Mapping[int, ObjectModel] | None = None
) -> list[ImageRecord]:
    """The records, in which objects of unknown visibility that are not in their image have a `visib_fract` of 0.

    These are behind the camera, or beside what it sees; an object without a mesh is taken to be in view. `models` are
    those of the split by id; by default the meshes are read where they are needed (`UserError` for a damaged one).
    """
    unknown = {item.obj_id for record in records for item in record.instances if _is_unknown(item)}
    if not unknown:
        return list(records)
    vertices = _read_vertices(spec, unknown) if models is None else {k: item.vertices for k, item in models.items()}
    sizes: dict[int, Size | None] = {}
    return [_with_unseen(record, vertices, _size_of(record, spec, sizes)) for record in records]


def _read_vertices(spec: SplitSpec, object_ids: Iterable[int]) -> dict[int, np.ndarray]:
    """Vertices (V, 3), metres, of those objects whose mesh is there."""
    folder = spec.models_dir if spec.models_dir.is_dir() else spec.models_eval_dir
    paths = {obj_id: folder / f"{default_name(obj_id)}.ply" for obj_id in object_ids}
    return {obj_id: MM_TO_M * read_mesh(path).vertices for obj_id, path in paths.items() if path.is_file()}


def _is_unknown(item: Instance) -> bool:
    return item.visib_fract is None and item.px_count_visib is None and item.bbox_visib is None


def _size_of(record: ImageRecord, spec: SplitSpec, sizes: dict[int, Size | None]) -> Size | None:
    """Width and height of the images of a record's scene, read once; None where nothing states it."""
    if record.scene_id not in sizes:
        sizes[record.scene_id] = None
        with suppress(UserError):
            sizes[record.scene_id] = read_image_size(record, spec.root)
    return sizes[record.scene_id]


def _with_unseen(record: ImageRecord, vertices: Mapping[int, np.ndarray], size: Size | None) -> ImageRecord:
    def is_unseen(item: Instance) -> bool:
        is_known = item.obj_id in vertices and _is_unknown(item)
        return is_known and not is_in_view(vertices[item.obj_id], item, record.K, size)

    return replace(record, instances=tuple(_unseen(record.instances, map(is_unseen, record.instances))))


def _unseen(items: Iterable[Instance], unseen: Iterable[bool]) -> Iterable[Instance]:
    return (replace(item, visib_fract=0.0) if is_so else item for item, is_so in zip(items, unseen, strict=True))


def is_in_view(vertices: np.ndarray, item: Instance, K: np.ndarray, size: Size | None) -> bool:
    """Whether the box about what of an object's vertices (V, 3), metres, is before the camera meets its image.

    `size` is the image's width and height; where it is None, all before the camera is in view.
    """
    points_cam = item.pose.transform(vertices)
    points_cam = points_cam[points_cam[:, 2] > 0]
    if size is None or not len(points_cam):
        return bool(len(points_cam))
    uv = project(points_cam, K)
    return bool((uv.max(axis=0) > -0.5).all() and (uv.min(axis=0) < np.array(size) - 0.5).all())
