"""A second look: an image's crop around an object at a pose, and that object rendered there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sopose.batch import LookBatch
from sopose.core.data.roi import ImageSize, RoiView, eval_roi, roi_positions
from sopose.core.geometry.pose import Pose, rotation_to_ray
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.data.roi_input import RoiFormat, channels_first, float_array
from sopose.layers import normalise_P
from sopose.models.refiner_design import RefinerDesign


@dataclass(frozen=True, eq=False)
class RenderedObject:
    """What a camera sees of an object at the cells of a grid; 0 where it sees none of it."""

    points_obj: np.ndarray  # (n, n, 3) float64 metres, object frame
    normals_cam: np.ndarray  # (n, n, 3) float64, unit, camera frame, out of the surface that is seen
    mask: np.ndarray  # (n, n) bool


def look_format(design: RefinerDesign) -> RoiFormat:
    """How a look's crop is given to a refiner."""
    return RoiFormat(design.input_res, design.output_res, design.pixel_format, design.pixel_mean, design.pixel_std)


def look_view(
    model: ObjectModel, pose: Pose, K: np.ndarray, image_size: ImageSize, pad_scale: float, out: int
) -> RoiView | None:
    """The square of the image around an object at a pose, `pad_scale` times as long as its outline's longer side.

    None where a part of the object isn't before the camera, or all of it beside the image.
    """
    box = model.caster.image_box(pose, K)
    if box is None or (box[2:] < 0).any() or (box[:2] > np.asarray(image_size) - 1).any():
        return None
    return RoiView(K, image_size, eval_roi(box, image_size, pad_scale), out)


def render_object(model: ObjectModel, pose: Pose, K: np.ndarray, positions: np.ndarray) -> RenderedObject:
    """The object at a pose, seen at pixels `positions` (n, n, 2)."""
    shape = positions.shape[:2]
    hits = model.caster.cast(pose, K, positions.reshape(-1, 2))
    normals_obj, _ = model.caster.triangles_at(hits.face, hits.points_obj)
    # Triangles of CAD files are wound either way: a surface that is seen faces the camera.
    away = (normals_obj * hits.directions_obj).sum(axis=1) > 0
    normals_cam = np.where(away[:, None], -normals_obj, normals_obj) @ pose.cam_R_obj.T
    points, normals, mask = np.zeros((*shape, 3)), np.zeros((*shape, 3)), np.zeros(shape, bool)
    points.reshape(-1, 3)[hits.ray] = hits.points_obj
    normals.reshape(-1, 3)[hits.ray] = normals_cam
    mask.reshape(-1)[hits.ray] = True
    return RenderedObject(points, normals, mask)


def make_look(image: np.ndarray, model: ObjectModel, pose: Pose, view: RoiView, roi_format: RoiFormat) -> LookBatch:
    """One look in arrays, without batch dimension: the crop (in, in, 3) uint8 BGR of a view, and the object at a pose.

    Raises `UserError` unless the input's resolution is a multiple of that of the maps, whose points are among its own.
    """
    if roi_format.input_res % view.out:
        raise UserError(
            f"a look's input must have a multiple of its maps' cells a side, got {roi_format.input_res} and {view.out}"
        )
    seen = render_object(model, pose, view.K, roi_positions(view.roi, roi_format.input_res))
    step = roi_format.input_res // view.out
    maps = np.concatenate(
        [
            (normalise_P(seen.points_obj, model.extent) - 0.5) * seen.mask[..., None],
            seen.normals_cam @ _turn_to_center(view),
            seen.mask[..., None],
        ],
        axis=-1,
    )
    return LookBatch(
        image=roi_format.network_image(image),
        rendered=channels_first(maps),
        points_obj=channels_first(seen.points_obj[::step, ::step]),
        mask=float_array(seen.mask[::step, ::step]),
        pixel=channels_first(view.positions),
        cell=float_array(view.roi.size / view.out),
        K=float_array(view.K),
        cam_R_obj=float_array(pose.cam_R_obj),
        cam_t_obj=float_array(pose.cam_t_obj),
    )


def _turn_to_center(view: RoiView) -> np.ndarray:
    """(3, 3) from vectors of the camera turned to a view's centre to those of the camera: v_cam @ it is turned."""
    ray = np.linalg.inv(view.K) @ [*view.roi.center, 1.0]
    return rotation_to_ray(ray[None])[0]


def nearest_equal_pose(model: ObjectModel, pose: Pose, near: Pose) -> Pose:
    """Of the poses that look like `pose` by the model's symmetries, the one whose surface lies nearest to `near`."""
    equal = [pose @ Pose(S[:3, :3], S[:3, 3]) for S in model.symmetry_transforms]
    corners = model.bounds_min + model.extent * np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(-1, 3)
    there = near.transform(corners)
    return min(equal, key=lambda other: float(((other.transform(corners) - there) ** 2).sum()))
