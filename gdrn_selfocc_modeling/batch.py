"""Typed data between mapper, network, criterion and evaluation.

Shapes: B regions of interest (ROI), `in` = INPUT_RES, `out` = OUTPUT_RES. Every dataclass here holds tensors
with a leading B; an item that is not yet collated has the same fields without it. What estimates poses holds arrays of
NumPy in the same classes, and starts without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RENDERED = 7  # channels of what a second look renders: P, normals, mask
T = TypeVar("T", bound="TensorFields")


@dataclass(eq=False)
class TensorFields:
    """A dataclass whose fields are tensors or None; or arrays or None."""

    def map(self: T, act: Callable[[Tensor], Tensor]) -> T:
        """The same fields, each tensor replaced by `act(tensor)`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(**{name: None if value is None else act(value) for name, value in values.items()})

    def tensors(self: T) -> T:
        """The same arrays as tensors on the host, which share their memory."""
        import torch

        return self.map(torch.from_numpy)

    def arrays(self: T) -> T:
        """The same fields as arrays on the host; those of floats as float32 unless they are float64."""
        return self.map(_as_array)

    def to(self: T, device: torch.device | str, non_blocking: bool = False) -> T:
        """The same fields on `device`."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: T) -> T:
        """The same fields in page-locked memory; a DataLoader with `pin_memory=True` calls this."""
        return self.map(lambda tensor: tensor.pin_memory())

    def __len__(self) -> int:
        """B of a collated batch."""
        return len(getattr(self, fields(self)[0].name))

    def __reduce__(self) -> tuple[Callable[..., TensorFields], tuple[Any, ...]]:
        """On the way between processes all tensors are one: each costs a file handle, and half a millisecond."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in values.items() if value is not None}
        if any(isinstance(value, np.ndarray) or value.device.type != "cpu" for value in given.values()):
            return _rebuilt, (type(self), values)
        tensors = {name: value.detach() for name, value in given.items()}
        return _unpacked, (type(self), *_packed(tensors))


def _as_array(values: Tensor | np.ndarray) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    values = values.detach().cpu()
    return (values.float() if values.element_size() < 4 and values.is_floating_point() else values).numpy()


Layout = dict[str, "tuple[int, torch.dtype, tuple[int, ...]]"]  # of each tensor: first byte, type, shape
ALIGNMENT = 16  # bytes at whose multiples a packed tensor begins: numbers of any type may stand there


def _packed(tensors: Mapping[str, Tensor]) -> tuple[Layout, Tensor]:
    """CPU tensors one behind the other in one of bytes, and where each is."""
    import torch

    layout: Layout = {}
    end = 0
    for name, value in tensors.items():
        layout[name] = end, value.dtype, tuple(value.shape)
        end += -(-value.numel() * value.element_size() // ALIGNMENT) * ALIGNMENT
    packed = torch.empty(end, dtype=torch.uint8)
    for name, place in _views(layout, packed).items():
        place.copy_(tensors[name])
    return layout, packed


def _views(layout: Layout, packed: Tensor) -> dict[str, Tensor]:
    """The tensors of a layout, inside of `packed`."""
    views = {}
    for name, (start, dtype, shape) in layout.items():
        end = start + math.prod(shape) * dtype.itemsize
        views[name] = packed[start:end].view(dtype).view(shape)
    return views


def _unpacked(kind: type[T], layout: Layout, packed: Tensor) -> T:
    return _rebuilt(kind, _views(layout, packed))


def _rebuilt(kind: type[T], values: Mapping[str, Tensor | None]) -> T:
    return kind(**{field.name: values.get(field.name) for field in fields(kind)})


@dataclass(eq=False)
class RoiBatch(TensorFields):
    """What a camera and a detector know of B ROIs: all that `forward` sees."""

    image: Tensor  # (B, 3, in, in) float32, normalised by PIXEL_MEAN and PIXEL_STD
    roi_coord_2d: Tensor  # (B, 2, out, out) float32, source x / (W-1) and y / (H-1)
    K: Tensor  # (B, 3, 3) float32 pixels
    box_center: Tensor  # (B, 2) float32 pixels, centre of the ROI
    box_wh: Tensor  # (B, 2) float32 pixels, of the detected box (not of the square crop)
    resize_ratio: Tensor  # (B,) float32, out / side of the crop in pixels
    extent: Tensor  # (B, 3) float32 metres, size of the model's axis-aligned box
    class_index: Tensor  # (B,) int64, index of the object among those trained


@dataclass(eq=False)
class RoiTargets(TensorFields):
    """The truth of B ROIs: what the criterion compares with. Maps are normalised, x / extent + 0.5."""

    P: Tensor  # (B, 3, out, out) float32 normalised
    Q: Tensor  # (B, 6, out, out) float32 normalised, Q_x: (y, z), Q_y: (x, z), Q_z: (x, y); 0 outside
    mask_obj: Tensor  # (B, out, out) float32 in {0, 1}; obj >= visib >= trunc
    mask_visib: Tensor  # (B, out, out) float32
    mask_trunc: Tensor  # (B, out, out) float32
    mask_erode: Tensor  # (B, out, out) float32, obj eroded once by a 3x3 cross
    q_mask: Tensor  # (B, 3, out, out) float32, Q_k valid and inside mask_erode
    region: Tensor  # (B, out, out) int64, 0 background, 1 + index of the nearest surface sample
    cam_R_obj: Tensor  # (B, 3, 3) float32, egocentric
    cam_t_obj: Tensor  # (B, 3) float32 metres
    trans_ratio: Tensor  # (B, 3) float32 SITE: (projected origin - box_center) / box_wh, t_z / resize_ratio
    pixel: Tensor  # (B, 2, out, out) float32 pixels, source position (u, v) of each map cell
    model_points: Tensor  # (B, N, 3) float32 metres, object frame
    symmetry_rotations: Tensor  # (B, S, 3, 3) float32, R* S is as good as R*; padded with identities


@dataclass(eq=False)
class Prediction(TensorFields):
    """What the network says of B ROIs."""

    mask: Tensor  # (B, 1, out, out) probability-like for L1, logits for BCE; (B, 2, out, out) logits for CE
    xyz: Tensor  # (B, 3, out, out) P normalised; (B, 3 (bins+1), out, out) logits when xyz is classified
    region: Tensor | None  # (B, regions + 1, out, out) logits, channel 0 background
    q: Tensor | None  # (B, 6, out, out) Q normalised, channels as in `RoiTargets`
    q_mask: Tensor | None  # (B, 3, out, out) of Q's validity, with OCCMASK_AWARE
    cam_R_raw: Tensor  # (B, 3, 3) rotation as regressed: allocentric for allo_* types, else egocentric
    cam_R_obj: Tensor  # (B, 3, 3) float32 egocentric
    cam_t_obj: Tensor  # (B, 3) float32 metres
    trans_raw: Tensor  # (B, 3) translation as regressed: SITE for centroid_z
    # (B, 1, out, out) logarithm of the scale of a Laplace law of each normalised number of P, with XYZ_SCALE
    xyz_log_scale: Tensor | None = None
    q_log_scale: Tensor | None = None  # (B, 3, out, out) the same for Q_x, Q_y, Q_z, with Q0_SCALE

    @property
    def pose(self) -> RegressedPose:
        """The poses alone."""
        return RegressedPose(self.cam_R_obj, self.cam_t_obj)


@dataclass(eq=False)
class RegressedPose(TensorFields):
    """The pose alone, of a network that keeps its maps to itself."""

    cam_R_obj: Tensor  # (B, 3, 3) float32 egocentric
    cam_t_obj: Tensor  # (B, 3) float32 metres


@dataclass(eq=False)
class PredictedMaps(TensorFields):
    """What the maps of B ROIs say, in one form for all networks: probabilities, coordinates, one region a cell."""

    mask: Tensor  # (B, out, out) in [0, 1], probability of the object
    P: Tensor  # (B, 3, out, out) normalised
    Q: Tensor | None  # (B, 6, out, out) normalised, channels as in `RoiTargets`
    region: Tensor | None  # (B, out, out) int16, the likeliest one, numbered from 1 as in `RoiTargets`
    region_probability: Tensor | None  # (B, out, out) its probability among all regions without the background


@dataclass(eq=False)
class LookBatch(TensorFields):
    """B second looks: a crop of the image, and the object rendered at a pose, at the same pixels.

    The crop is around the object at that pose. A map's cell k lies where input pixel k in / out does.
    """

    image: Tensor  # (B, 3, in, in) float32, normalised by PIXEL_MEAN and PIXEL_STD
    rendered: Tensor  # (B, 7, in, in) float32: P / extent, unit normals towards the crop's centre ray, mask; 0 outside
    points_obj: Tensor  # (B, 3, out, out) float32 metres, the surface points that the cells show; 0 outside
    mask: Tensor  # (B, out, out) float32 in {0, 1}, cells of the rendered object
    pixel: Tensor  # (B, 2, out, out) float32 pixels, position (u, v) of each cell in the image
    cell: Tensor  # (B,) float32 pixels, from one cell to the next
    K: Tensor  # (B, 3, 3) float32 pixels
    cam_R_obj: Tensor  # (B, 3, 3) float32, of the rendered pose
    cam_t_obj: Tensor  # (B, 3) float32 metres


@dataclass(eq=False)
class LookTargets(TensorFields):
    """The true poses of B looks; of equal ones by symmetry, the nearest to what is rendered."""

    cam_R_obj: Tensor  # (B, 3, 3) float32
    cam_t_obj: Tensor  # (B, 3) float32 metres
    precision: Tensor  # (B, 6, 6) float32, what is known of the rendered pose, as of `PosePrior`


@dataclass(eq=False)
class Displacements(TensorFields):
    """Where rendered surface points lie in the image, seen from the cells that show them."""

    shift: Tensor  # (B, 2, out, out) float32 cells, along u and v
    log_scale: Tensor  # (B, out, out) float32, logarithm of the scale of a Laplace law of each coordinate, cells
    log_spread: Tensor  # (B, out, out) float32, the same as it counts in a fit of the pose, among its neighbours


@dataclass(frozen=True)
class SampleInfo:
    """Which annotation or detection an ROI came from."""

    scene_id: int
    im_id: int
    obj_id: int
    gt_index: int | None = None  # index in the image's scene_gt; None for a detection
    score: float = 1.0
    time: float = 0.0  # seconds spent before the network, on detection


Sample = tuple[RoiBatch, RoiTargets | None, SampleInfo]


def collate(items: Sequence[T]) -> T:
    """Stack unbatched dataclasses of one type, of tensors or of arrays.

    Shorter `symmetry_rotations` are padded with identities.
    """
    first = items[0]
    stacked = {}
    for field in fields(first):
        values = [getattr(item, field.name) for item in items]
        if values[0] is None:
            stacked[field.name] = None
        elif field.name == "symmetry_rotations":
            stacked[field.name] = _stack_padded(values)
        else:
            stacked[field.name] = _stack(values)
    return type(first)(**stacked)


def collate_samples(samples: Sequence[Sample]) -> tuple[RoiBatch, RoiTargets | None, list[SampleInfo]]:
    """The batch of a list of samples; targets are None where the samples carry none."""
    rois, targets, infos = zip(*samples, strict=True)
    return collate(rois), None if targets[0] is None else collate(targets), list(infos)


def _stack(values: Sequence[Tensor] | Sequence[np.ndarray]) -> Tensor | np.ndarray:
    if isinstance(values[0], np.ndarray):
        return np.stack(values)
    import torch

    return torch.stack(list(values))


def _stack_padded(rotations: Sequence[Tensor]) -> Tensor:
    """Stack (S_i, 3, 3) rotations to (B, max S_i, 3, 3)."""
    import torch

    longest = max(len(rotation) for rotation in rotations)
    return torch.stack(
        [
            torch.cat([rotation, torch.eye(3, dtype=rotation.dtype).expand(longest - len(rotation), 3, 3)])
            for rotation in rotations
        ]
    )
