"""From a posed object and an ROI to the truth of what the network says; every source of samples ends here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from sopose.batch import RoiTargets
from sopose.core.data.roi import RoiView
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.sampling import farthest_points
from sopose.core.geometry.symmetry import canonical_pose
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError
from sopose.data.roi_input import channels_first, float_array
from sopose.layers import Layers, cast_both, normalise_P, normalise_Q

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True, eq=False)
class TrainedObject:
    """An object the network is trained for, with what its targets need; lengths in metres.

    The network knows it in the frame at its middle, see `ObjectModel.centered`: that is the frame of all but `model`.
    """

    model: ObjectModel  # as the data set has it
    centered: ObjectModel  # in the network's frame
    class_index: int
    region_centers: np.ndarray  # (R, 3) float64
    model_points: np.ndarray  # (N, 3) float32 vertices for the point-matching loss
    symmetry_rotations: np.ndarray  # (S, 3, 3) float32, identity first
    canonical: bool = False  # whether one of the poses that look the same stands for all of them

    @property
    def _middle(self) -> np.ndarray:
        """(3,) the origin of the network's frame in the model's."""
        return self.model.bounds_min - self.centered.bounds_min

    def network_pose(self, pose: Pose) -> Pose:
        """The pose of the network's frame where `pose` is the model's."""
        return pose.with_origin(self._middle)

    def target_pose(self, pose: Pose) -> Pose:
        """The pose in its frame that the network learns where `pose` is the model's true one."""
        centered = self.network_pose(pose)
        return canonical_pose(centered, self.centered.symmetry_transforms) if self.canonical else centered

    def model_pose(self, pose: Pose) -> Pose:
        """The model's pose where the network says `pose`."""
        return pose.with_origin(-self._middle)


def prepare_objects(
    models: Mapping[int, ObjectModel],
    class_index: Mapping[int, int],
    num_regions: int = 64,
    num_points: int = 3000,
    canonical: bool = False,
    centered: bool = True,
) -> dict[int, TrainedObject]:
    """The objects with a class of the network (`class_index` by object id), ready for targets.

    num_regions: farthest-point samples of the vertices; num_points: vertices drawn once per object, with
    repetition only where the model has fewer. Raises `UserError` where a model has fewer vertices than
    regions or is flat. canonical: of symmetric objects one pose stands for all that look the same. centered: whether
    the network's frames are at the objects' middles, else they are the models'.
    """
    objects = {}
    for obj_id, index in class_index.items():
        model = models[obj_id]
        own = model.centered if centered else model
        vertices = own.vertices
        if model.extent.min() <= 0:
            raise UserError(
                f"object {obj_id} ({model.name}): models_info.json has a size_x, size_y or size_z of zero, by which "
                f"maps are normalised; correct it, or give the model a thickness"
            )
        if len(vertices) < num_regions:
            raise UserError(
                f"model of object {obj_id} ({model.name}) has {len(vertices)} vertices, fewer than the "
                f"{num_regions} regions; subdivide the model or lower GEO_HEAD.NUM_REGIONS"
            )
        centers = vertices[farthest_points(vertices, max(num_regions, 1))]
        rng = np.random.default_rng(obj_id)
        chosen = rng.choice(len(vertices), num_points, replace=len(vertices) < num_points)
        objects[obj_id] = TrainedObject(
            model=model,
            centered=own,
            class_index=index,
            region_centers=centers,
            model_points=vertices[chosen].astype(np.float32),
            symmetry_rotations=own.symmetry_transforms[:, :3, :3].astype(np.float32),
            canonical=canonical and len(own.symmetry_transforms) > 1,
        )
    return objects


def site_translation(pose: Pose, view: RoiView) -> np.ndarray:
    """(3,) scale-invariant translation SITE (CDPN): ((o2d - c) / (w, h), t_z / resize_ratio)."""
    origin_uv = project(pose.cam_t_obj, view.K)
    shift = (origin_uv - view.roi.center) / view.roi.wh
    return np.array([*shift, pose.cam_t_obj[2] * view.roi.size / view.out])


def cast_layers(target: TrainedObject, pose: Pose, view: RoiView) -> Layers:
    """Both layers by casting the rays of the ROI's cells; pose: of the network's frame.

    Nothing is on the object where the window leaves the image.
    """
    return cast_both(target.centered, pose, view.K, view.positions, view.inside)


def make_targets(
    target: TrainedObject,
    pose: Pose,
    view: RoiView,
    layers: Layers,
    visib: np.ndarray,
    keeps: np.ndarray | None = None,
) -> RoiTargets:
    """The truth of one ROI, wherever its layers come from; no batch dimension.

    visib: (out, out) bool, cells that see the object; keeps: (out, out) bool, cells that a truncation left.
    """
    P_obj, mask, valid = layers.P_obj, layers.mask, layers.valid
    erode = cv2.erode(mask.astype(np.uint8), CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    extent = target.model.extent
    visib = visib & mask
    return RoiTargets(
        P=channels_first(normalise_P(P_obj, extent)),
        Q=channels_first(normalise_Q(layers.Q_obj, extent, valid)),
        mask_obj=float_array(mask),
        mask_visib=float_array(visib),
        mask_trunc=float_array(visib if keeps is None else visib & keeps),
        mask_erode=float_array(erode),
        q_mask=channels_first(valid & erode[..., None]),
        region=_regions(target.region_centers, P_obj, mask),
        cam_R_obj=float_array(pose.cam_R_obj),
        cam_t_obj=float_array(pose.cam_t_obj),
        trans_ratio=float_array(site_translation(pose, view)),
        pixel=channels_first(view.positions),
        model_points=target.model_points,
        symmetry_rotations=target.symmetry_rotations,
    ).tensors()


def _regions(centers: np.ndarray, P_obj: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(h, w) int64: 1 + index of the region centre (R, 3) nearest to P, 0 off the object."""
    # |c|² - 2 P c orders the centres as |P - c|² does; one product is several times faster than a tree of so few.
    middle = centers.mean(axis=0)
    around = centers - middle
    order = (P_obj[mask] - middle) @ (-2 * around.T)
    order += (around * around).sum(axis=1)
    region = np.zeros(mask.shape, np.int64)
    region[mask] = 1 + order.argmin(axis=1)
    return region
