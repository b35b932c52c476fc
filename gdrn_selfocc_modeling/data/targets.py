"""From a posed object and an ROI to the network's input and its truth; every source of samples ends here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np
import torch

from sopose.batch import RoiBatch, RoiTargets
from sopose.core.data.roi import RoiView, coord_2d
from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.sampling import farthest_points
from sopose.core.geometry.symmetry import canonical_pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.utils.errors import UserError
from sopose.layers import Layers, cast_both, normalise_P, normalise_Q

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class RoiFormat:
    """How an ROI is given to the network."""

    input_res: int = 256  # side of the image crop, pixels
    output_res: int = 64  # side of the maps
    pixel_format: Literal["BGR", "RGB"] = "BGR"
    pixel_mean: tuple[float, ...] = (0.0, 0.0, 0.0)  # of levels 0-255, in the order of pixel_format
    pixel_std: tuple[float, ...] = (255.0, 255.0, 255.0)

    def __post_init__(self) -> None:
        if self.pixel_format not in ("BGR", "RGB"):
            raise UserError(f"INPUT.FORMAT must be 'BGR' or 'RGB', got '{self.pixel_format}'")
        if min(self.pixel_std) <= 0:
            raise UserError(f"MODEL.PIXEL_STD must be above zero, got {self.pixel_std}")

    @cached_property
    def _normalised(self) -> np.ndarray:
        """(3, 256) float32: what each level of each channel, in the order of pixel_format, becomes."""
        levels = np.arange(256, dtype=np.float32)[:, None]
        return np.ascontiguousarray(((levels - np.float32(self.pixel_mean)) / np.float32(self.pixel_std)).T)

    def image_tensor(self, image: np.ndarray) -> torch.Tensor:
        """(3, in, in) float32 normalised tensor of a crop (in, in, 3) uint8 BGR."""
        ordered = image if self.pixel_format == "BGR" else image[..., ::-1]
        # Levels are looked up in a table, which is several times as fast as arithmetic on each pixel.
        channels = np.empty((3, *ordered.shape[:2]), np.float32)
        for channel, table in enumerate(self._normalised):
            channels[channel] = cv2.LUT(np.ascontiguousarray(ordered[..., channel]), table)
        return torch.from_numpy(channels)

    def image_array(self, image: torch.Tensor) -> np.ndarray:
        """The inverse of `image_tensor`: (in, in, 3) uint8 BGR."""
        levels = image.numpy().transpose(1, 2, 0) * np.float32(self.pixel_std) + np.float32(self.pixel_mean)
        ordered = levels if self.pixel_format == "BGR" else levels[..., ::-1]
        return np.clip(np.rint(ordered), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class TrainedObject:
    """An object the network is trained for, with what its targets need; lengths in metres, object frame."""

    model: ObjectModel
    class_index: int
    region_centers: np.ndarray  # (R, 3) float64
    model_points: np.ndarray  # (N, 3) float32 vertices for the point-matching loss
    symmetry_rotations: np.ndarray  # (S, 3, 3) float32, identity first
    canonical: bool = False  # whether one of the poses that look the same stands for all of them

    @property
    def caster(self) -> RayCaster:
        """Rays against the model."""
        return self.model.caster

    def target_pose(self, pose: Pose) -> Pose:
        """The pose that the network learns where `pose` is the true one."""
        return canonical_pose(pose, self.model.symmetry_transforms) if self.canonical else pose


def prepare_objects(
    models: Mapping[int, ObjectModel],
    class_index: Mapping[int, int],
    num_regions: int = 64,
    num_points: int = 3000,
    canonical: bool = False,
) -> dict[int, TrainedObject]:
    """The objects with a class of the network (`class_index` by object id), ready for targets.

    num_regions: farthest-point samples of the vertices; num_points: vertices drawn once per object, with
    repetition only where the model has fewer. Raises `UserError` where a model has fewer vertices than
    regions or is flat. canonical: of symmetric objects one pose stands for all that look the same.
    """
    objects = {}
    for obj_id, index in class_index.items():
        model = models[obj_id]
        vertices = model.vertices
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
            class_index=index,
            region_centers=centers,
            model_points=vertices[chosen].astype(np.float32),
            symmetry_rotations=model.symmetry_transforms[:, :3, :3].astype(np.float32),
            canonical=canonical and len(model.symmetry_transforms) > 1,
        )
    return objects


def site_translation(pose: Pose, view: RoiView) -> np.ndarray:
    """(3,) scale-invariant translation SITE (CDPN): ((o2d - c) / (w, h), t_z / resize_ratio)."""
    origin_uv = project(pose.cam_t_obj, view.K)
    shift = (origin_uv - view.roi.center) / view.roi.wh
    return np.array([*shift, pose.cam_t_obj[2] * view.roi.size / view.out])


def make_roi_batch(
    image: np.ndarray, view: RoiView, extent: np.ndarray, class_index: int, roi_format: RoiFormat
) -> RoiBatch:
    """What the network sees: the crop (in, in, 3) uint8 BGR, its window and the object; no batch dimension.

    extent (3,): the size of the model's box, metres; class_index: of the object among those trained.
    """
    return RoiBatch(
        image=roi_format.image_tensor(image),
        roi_coord_2d=torch.from_numpy(coord_2d(view.positions, view.image_size)),
        K=float_tensor(view.K),
        box_center=float_tensor(view.roi.center),
        box_wh=float_tensor(view.roi.wh),
        resize_ratio=float_tensor(view.out / view.roi.size),
        extent=float_tensor(extent),
        class_index=torch.tensor(class_index),
    )


def cast_layers(target: TrainedObject, pose: Pose, view: RoiView) -> Layers:
    """Both layers by casting the rays of the ROI's cells.

    Nothing is on the object where the window leaves the image.
    """
    return cast_both(target.model, pose, view.K, view.positions, view.inside)


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
        mask_obj=float_tensor(mask),
        mask_visib=float_tensor(visib),
        mask_trunc=float_tensor(visib if keeps is None else visib & keeps),
        mask_erode=float_tensor(erode),
        q_mask=channels_first(valid & erode[..., None]),
        region=torch.from_numpy(_regions(target.region_centers, P_obj, mask)),
        cam_R_obj=float_tensor(pose.cam_R_obj),
        cam_t_obj=float_tensor(pose.cam_t_obj),
        trans_ratio=float_tensor(site_translation(pose, view)),
        pixel=channels_first(view.positions),
        model_points=torch.from_numpy(target.model_points),
        symmetry_rotations=torch.from_numpy(target.symmetry_rotations),
    )


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


def float_tensor(values: np.ndarray | float) -> torch.Tensor:
    """Numbers of any shape as a float32 tensor."""
    return torch.from_numpy(np.array(values, np.float32))


def channels_first(maps: np.ndarray) -> torch.Tensor:
    """(h, w, C) as a (C, h, w) float32 tensor."""
    return torch.from_numpy(np.ascontiguousarray(maps.transpose(2, 0, 1), dtype=np.float32))
