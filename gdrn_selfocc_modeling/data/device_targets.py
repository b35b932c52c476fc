"""The truth of a batch of ROIs, made on a device: what `targets.make_targets` makes of one on the CPU.

The CPU's code works on the pixels of the object only, which is fastest there; a device works on whole batches of
maps without waiting for the number of such pixels. The formulas are the same, and tests hold them to equal numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from sopose.batch import RoiTargets
from sopose.core.data.roi import ImageSize, RoiView
from sopose.core.geometry.camera import project
from sopose.core.rays.device_caster import DeviceCaster
from sopose.core.render.device_scene import DeviceScenes
from sopose.data.targets import TrainedObject
from sopose.layers import PLANE_AXES, crossings, normalise_P


@dataclass(frozen=True, eq=False)
class DeviceObjects:
    """What targets need of the O trained among the C objects of a caster; lengths in metres, object frame."""

    place: Tensor  # (C,) int64, which of the trained objects each of the caster's is; -1 for none
    class_index: Tensor  # (O,) int64
    bounds_min: Tensor  # (O, 3) float64
    extent: Tensor  # (O, 3) float64
    region_centers: Tensor  # (O, R, 3) float64
    model_points: Tensor  # (O, N, 3) float32
    symmetry_rotations: Tensor  # (O, S, 3, 3) float32, padded with identities


@dataclass(frozen=True, eq=False)
class DeviceViews:
    """B cameras with images of `image_size` (width, height), and an ROI of each: see `RoiView`."""

    K: Tensor  # (B, 3, 3) float64 pixels
    center: Tensor  # (B, 2) float64 pixels
    size: Tensor  # (B,) float64 pixels
    wh: Tensor  # (B, 2) float64 pixels
    image_size: ImageSize
    out: int

    def positions(self, out: int) -> Tensor:
        """(B, out, out, 2) float64 source pixels of a crop's cells, as `sopose.core.data.roi.roi_positions`."""
        offsets = (torch.arange(out, device=self.size.device) - out / 2) * (self.size / out)[:, None]
        u, v = self.center[:, :1] + offsets, self.center[:, 1:] + offsets
        return torch.stack(torch.broadcast_tensors(u[:, None], v[:, :, None]), dim=-1)

    def inside(self, positions: Tensor) -> Tensor:
        """(B, ...) bool: which positions (B, ..., 2) lie on a pixel of the image."""
        limit = torch.tensor(self.image_size, device=positions.device) - 0.5
        return ((positions >= -0.5) & (positions < limit)).all(dim=-1)


@dataclass(frozen=True, eq=False)
class DeviceCuts:
    """For each of B ROIs a half-plane that is kept: see `sopose.core.data.augment.Cut`."""

    axis: Tensor  # (B,) int64, 0 u, 1 v
    bound: Tensor  # (B,) float64 pixels
    keep_above: Tensor  # (B,) bool
    applies: Tensor  # (B,) bool; else all is kept

    def keeps(self, positions: Tensor) -> Tensor:
        """(B, h, w) bool for positions (B, h, w, 2) in pixels."""
        axis, bound, above, applies = (
            part[:, None, None] for part in (self.axis, self.bound, self.keep_above, self.applies)
        )
        coordinate = torch.where(axis == 0, positions[..., 0], positions[..., 1])
        return torch.where(above, coordinate >= bound, coordinate <= bound) | ~applies


def device_cuts(mask: Tensor, positions: Tensor, prob: float, generator: torch.Generator) -> DeviceCuts:
    """Cuts that take away one of a mask's (B, h, w) four sides, anywhere up to its middle, with probability `prob`."""
    batch, device = len(mask), mask.device
    axis, above = torch.randint(2, (2, batch), generator=generator, device=device)
    share, chance = torch.rand((2, batch), generator=generator, device=device, dtype=torch.float64)
    coordinate = torch.where(axis[:, None, None] == 0, positions[..., 0], positions[..., 1])
    low = torch.where(mask, coordinate, torch.inf).amin(dim=(1, 2))
    high = torch.where(mask, coordinate, -torch.inf).amax(dim=(1, 2))
    middle = (low + high) / 2
    bound = torch.where(above > 0, low + share * (middle - low), middle + share * (high - middle))
    return DeviceCuts(axis, bound, above > 0, (chance < prob) & mask.any(dim=2).any(dim=1))


def pack_objects(trained: Sequence[TrainedObject | None], device: torch.device | str) -> DeviceObjects:
    """The trained among a caster's objects, in its order; None for those that are scenery."""
    known = [item for item in trained if item is not None]
    place = np.full(len(trained), -1)
    place[[index for index, item in enumerate(trained) if item is not None]] = np.arange(len(known))
    longest = max(len(item.symmetry_rotations) for item in known)
    rotations = np.tile(np.eye(3, dtype=np.float32), (len(known), longest, 1, 1))
    for row, item in zip(rotations, known, strict=True):
        row[: len(item.symmetry_rotations)] = item.symmetry_rotations
    columns = (
        place,
        np.array([item.class_index for item in known]),
        np.stack([item.model.bounds_min for item in known]),
        np.stack([item.model.extent for item in known]),
        np.stack([item.region_tree.data for item in known]),
        np.stack([item.model_points for item in known]),
        rotations,
    )
    return DeviceObjects(*(torch.from_numpy(np.ascontiguousarray(column)).to(device) for column in columns))


def pack_views(views: Sequence[RoiView], device: torch.device | str) -> DeviceViews:
    """Views of one image size and one size of maps."""
    columns = (
        np.stack([view.K for view in views]),
        np.stack([view.roi.center for view in views]),
        np.array([view.roi.size for view in views]),
        np.stack([view.roi.wh for view in views]),
    )
    tensors = (torch.from_numpy(column.astype(np.float64)).to(device) for column in columns)
    return DeviceViews(*tensors, image_size=views[0].image_size, out=views[0].out)


@dataclass(frozen=True, eq=False)
class DeviceLayers:
    """Both layers and masks of B ROIs; metres, the frame of the scenes' first bodies, 0 where there is none."""

    P_obj: Tensor  # (B, out, out, 3) float64
    Q_obj: Tensor  # (B, out, out, 6) float64, channels as `pack_Q` orders them
    mask: Tensor  # (B, out, out) bool, cells on the object, seen or not
    valid: Tensor  # (B, out, out, plane) bool, where Q is known
    visib: Tensor  # (B, out, out) bool, cells that see the object


def cast_device_layers(
    caster: DeviceCaster, scenes: DeviceScenes, views: DeviceViews, objects: DeviceObjects
) -> DeviceLayers:
    """Both layers of each scene's first body, and what the other bodies leave to be seen of it."""
    positions = views.positions(views.out)
    flat = positions.flatten(1, 2)
    hits = scenes.cast(caster, 0, flat)
    mask = hits.hit & views.inside(flat)
    P_obj = torch.where(mask[..., None], hits.points_obj, 0.0)
    visib = mask & ~scenes.hidden(caster, flat, torch.where(mask, hits.depth, 0.0))
    row = objects.place[scenes.objects[:, 0]]
    Q_obj, valid = _crossings(*scenes.body_rays(0, flat), mask, objects.bounds_min[row], objects.extent[row])
    grid = positions.shape[:3]
    parts = (P_obj.view(*grid, 3), Q_obj.view(*grid, 6), mask.view(grid), valid.view(*grid, 3), visib.view(grid))
    return DeviceLayers(*parts)


def make_device_targets(
    scenes: DeviceScenes,
    views: DeviceViews,
    objects: DeviceObjects,
    layers: DeviceLayers,
    keeps: Tensor | None = None,
) -> RoiTargets:
    """The truth of B ROIs. keeps: (B, out, out) bool, cells that a truncation left."""
    row = objects.place[scenes.objects[:, 0]]
    extent = objects.extent[row]
    erode = _eroded(layers.mask)
    trunc = layers.visib if keeps is None else layers.visib & keeps
    cam_t_obj = scenes.cam_t_obj[:, 0]
    return RoiTargets(
        P=_channels_first(normalise_P(layers.P_obj, extent[:, None, None])),
        Q=_channels_first(_normalise_Q(layers.Q_obj, extent, layers.valid)),
        mask_obj=layers.mask.float(),
        mask_visib=layers.visib.float(),
        mask_trunc=trunc.float(),
        mask_erode=erode.float(),
        q_mask=_channels_first(layers.valid & erode[..., None]),
        region=_regions(layers.P_obj, layers.mask, objects.region_centers[row]),
        cam_R_obj=scenes.cam_R_obj[:, 0].float(),
        cam_t_obj=cam_t_obj.float(),
        trans_ratio=_site_translation(cam_t_obj, views).float(),
        pixel=_channels_first(views.positions(views.out)),
        model_points=objects.model_points[row],
        symmetry_rotations=objects.symmetry_rotations[row],
    )


def _crossings(
    origins: Tensor, directions: Tensor, mask: Tensor, bounds_min: Tensor, extent: Tensor
) -> tuple[Tensor, Tensor]:
    """Six channels of Q (B, n, 6), metres, and valid (B, n, plane): see `self_occlusion.cast_Q`.

    origins (B, 1, 3) and directions (B, n, 3) in the object's frame; mask (B, n); bounds_min and extent (B, 3).
    """
    first = (part.movedim(-1, 0) for part in (origins, directions, bounds_min[:, None], (bounds_min + extent)[:, None]))
    points, accepted = crossings(*first)  # (plane, 2, B, n), (plane, B, n)
    valid = (accepted & mask).movedim(0, -1)
    return torch.where(valid[..., None], points.movedim((0, 1), (-2, -1)), 0.0).flatten(-2), valid


def _normalise_Q(Q_obj: Tensor, extent: Tensor, valid: Tensor) -> Tensor:
    """Channels (B, h, w, 6) as `self_occlusion.normalise_Q` scales them."""
    scaled = Q_obj / extent[:, PLANE_AXES.ravel()][:, None, None] + 0.5
    return torch.where(valid.repeat_interleave(2, dim=-1), scaled, 0.0)


def _eroded(mask: Tensor) -> Tensor:
    """(B, h, w) bool eroded once by a 3x3 cross; the border counts as object."""
    padded = pad(mask, (1, 1, 1, 1), value=True)
    across = padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    return mask & across & padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1]


def _regions(P_obj: Tensor, mask: Tensor, centers: Tensor) -> Tensor:
    """(B, h, w) int64: 1 + index of the region centre (B, R, 3) nearest to P, 0 off the object."""
    # By differences: the product form of the distance loses the digits that decide between two regions.
    distance = torch.cdist(P_obj.flatten(1, 2), centers, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.where(mask, 1 + distance.argmin(dim=-1).view(mask.shape), 0)


def _site_translation(cam_t_obj: Tensor, views: DeviceViews) -> Tensor:
    """(B, 3) scale-invariant translation SITE, as `targets.site_translation`."""
    shift = (project(cam_t_obj, views.K) - views.center) / views.wh
    return torch.cat([shift, (cam_t_obj[:, 2] * views.size / views.out)[:, None]], dim=-1)


def _channels_first(maps: Tensor) -> Tensor:
    """(B, h, w, C) as a contiguous (B, C, h, w) float32 tensor."""
    return maps.movedim(-1, 1).float().contiguous()
