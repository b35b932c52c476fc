"""The two layers: P, the surface point each pixel sees, and Q, where its ray crosses the object's coordinate planes.

In the object's frame a pixel's ray is `o + λ d` with the camera centre o = -R^T t and d = R^T K^-1 (u, v, 1).
It meets the plane through the object's origin with normal axis k at λ_k = -o_k / d_k. P, Q and the camera
centre lie on one line (SO-Pose, Di et al., ICCV 2021). Only the pose and K enter Q, not the mesh.

Q has two forms: points (..., plane, xyz) and the six channels that are stored and predicted. Their order stands here
alone. Coordinates may also be classified into bins (`XYZ_LOSS_TYPE` "CE_coor"), background last: logits are
(B, C (bins + 1), H, W), C coordinates, each with its bins and then the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sopose.core.geometry.arrays import Array, namespace, softmax
from sopose.core.geometry.pose import Pose
from sopose.core.rays.raycast import RayCaster, RayHits, camera_rays

if TYPE_CHECKING:
    from torch import Tensor

    from sopose.core.objects.model import ObjectModel

# Below this |d_k| (rays have z = 1 in the camera's frame) the ray runs along the plane and never crosses it.
MIN_SLOPE = 1e-6
# The two coordinates that remain of each plane's point; channel order Q_x: (y, z), Q_y: (x, z), Q_z: (x, y).
PLANE_AXES = np.array([[1, 2], [0, 2], [0, 1]])
_KEPT = (3 * np.arange(3)[:, None] + PLANE_AXES).ravel()  # of the nine numbers (plane, xyz) the six that are stored
CHANNEL_AXES = PLANE_AXES.ravel()  # which coordinate each of the six channels holds
_SLOTS = [0] * 9  # of the nine numbers: 0 across the plane, else 1 + the channel
for _channel, _place in enumerate(_KEPT):
    _SLOTS[_place] = 1 + _channel


@dataclass(frozen=True, eq=False)
class Layers:
    """The two layers of an instance at the cells of an ROI; metres, the object's frame, 0 where there is none."""

    P_obj: np.ndarray  # (out, out, 3) float
    mask: np.ndarray  # (out, out) bool, cells on the object, seen or not
    Q_obj: np.ndarray  # (out, out, 6) float, channels as `pack_Q` orders them
    valid: np.ndarray  # (out, out, plane) bool, where Q is known


def cast_both(
    model: ObjectModel, pose: Pose, K: np.ndarray, positions: np.ndarray, inside: np.ndarray | None = None
) -> Layers:
    """Both layers at pixels `positions` (h, w, 2): what `cast_P` and `cast_Q` say, of rays made once.

    Nothing is on the object where `inside` (h, w) bool is given and False.
    """
    shape = positions.shape[:2]
    hits = model.caster.cast(pose, K, positions.reshape(-1, 2))
    if inside is not None:
        hits = hits.only(inside.reshape(-1).take(hits.ray))
    origin, directions = pose.inverse().cam_t_obj, hits.directions_obj.T
    Q = _spread_Q(origin, directions, hits.ray, shape, model.bounds_min, model.extent)
    return Layers(*_spread_P(hits, shape), *Q)


def cast_P(caster: RayCaster, pose: Pose, K: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surface points seen at pixels `positions` (h, w, 2), and the object's full mask.

    Returns P_obj (h, w, 3) float64, metres, the object's frame, 0 where no ray hits, and mask (h, w) bool.
    """
    return _spread_P(caster.cast(pose, K, positions.reshape(-1, 2)), positions.shape[:2])


def normalise_P(P_obj: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """`P / extent + 0.5` of points (..., 3), metres, by the model's extent (3,): about [0, 1]."""
    return P_obj / extent + 0.5


def crossings(
    origin: np.ndarray, directions: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays `origin + λ directions` cross the coordinate planes: points (plane, 2, M), and accepted (plane, M).

    origin (3,) and directions (3, M) (long rows are faster), the box's corners low (3,) and high (3,): metres, the
    object's frame. Accepted is what lies ahead of the camera and strictly inside the box, but for rays along the plane.
    """
    start, least, most = np.array([origin, low, high])[:, PLANE_AXES, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -origin[:, None] / directions
        points = directions.take(CHANNEL_AXES, axis=0).reshape(3, 2, -1)
        points *= depth[:, None]
        points += start
    inside = points > least
    inside &= points < most
    accepted = depth > 0
    accepted &= abs(directions) >= MIN_SLOPE
    # A plane goes through the origin: a box beside the origin has no point of it.
    accepted &= ((low < 0) & (high > 0))[:, None]
    accepted &= inside[:, 0]
    accepted &= inside[:, 1]
    return points, accepted


def cast_Q(
    pose: Pose,
    K: np.ndarray,
    positions: np.ndarray,
    mask: np.ndarray,
    bounds_min: np.ndarray,
    extent: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Crossings of the rays of pixels `positions` (h, w, 2) with the object's coordinate planes.

    A crossing is valid where the pixel is on the object (`mask` (h, w) bool) and the point lies ahead of the
    camera and strictly inside the model's box from bounds_min (3,) to bounds_min + extent (3,), metres.
    Returns the six channels of Q (h, w, 6) float64, metres, the object's frame, 0 where invalid, and valid
    (h, w, plane) bool.
    """
    pixel = np.flatnonzero(mask)
    origin, directions = camera_rays(pose, K, positions.reshape(-1, 2).take(pixel, axis=0))
    return _spread_Q(origin, directions.T, pixel, mask.shape, bounds_min, extent)


def _spread_P(hits: RayHits, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """P_obj (h, w, 3) and mask (h, w) of hits among the h * w rays of a map."""
    mask = np.zeros(shape, bool)
    mask.reshape(-1)[hits.ray] = True
    return _spread(hits.points_obj.T, hits.ray, shape), mask


def _spread_Q(
    origin: np.ndarray,
    directions: np.ndarray,
    pixel: np.ndarray,
    shape: tuple[int, int],
    bounds_min: np.ndarray,
    extent: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What `cast_Q` returns, of the rays with directions (3, M) at the pixels (M,) of a map (h, w)."""
    points, accepted = crossings(origin, directions, bounds_min, bounds_min + extent)
    np.copyto(points, 0.0, where=~accepted[:, None])
    return _spread(points.reshape(6, -1), pixel, shape), _spread(accepted, pixel, shape)


def _spread(values: np.ndarray, pixel: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Maps (h, w, C) with values (C, M) at pixels (M,), 0 elsewhere."""
    maps = np.zeros((len(values), *shape), values.dtype)
    # Row by row: numpy scatters into one row faster than into several at once.
    for row, channel in zip(maps.reshape(len(values), -1), values, strict=True):
        row[pixel] = channel
    return maps.transpose(1, 2, 0)


def plane_hits(
    pose: Pose, K: np.ndarray, positions: np.ndarray, mask: np.ndarray, bounds_min: np.ndarray, extent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `cast_Q`, with points (h, w, plane, xyz) in place of channels."""
    Q, valid = cast_Q(pose, K, positions, mask, bounds_min, extent)
    return unpack_Q(Q), valid


def plane_channels(plane: int) -> slice:
    """The two of Q's six channels that belong to a plane."""
    return slice(2 * plane, 2 * plane + 2)


def pack_Q(Q: np.ndarray) -> np.ndarray:
    """(..., plane, xyz) to the six channels (..., 6) that are stored and predicted."""
    return Q.reshape(*Q.shape[:-2], 9)[..., _KEPT]


def unpack_Q(Q6: np.ndarray) -> np.ndarray:
    """Six channels (..., 6) to points (..., plane, xyz); the coordinate across each plane is 0."""
    nine = np.zeros((*Q6.shape[:-1], 9), Q6.dtype)
    nine[..., _KEPT] = Q6
    return nine.reshape(*Q6.shape[:-1], 3, 3)


def normalise_Q(Q6: np.ndarray, extent: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Channels (..., 6), metres, each by the extent (3,) of its axis, + 0.5; 0 where not valid (..., 3)."""
    scaled = Q6 / extent[CHANNEL_AXES]
    scaled += 0.5
    of_planes = scaled.reshape(*valid.shape, 2)  # a view, whatever the order in memory
    of_planes *= valid[..., None]
    return scaled


def denormalise_P(P: Tensor, extent: Tensor) -> Tensor:
    """(B, 3, H, W) normalised -> metres in the object's frame; extent (B, 3) m."""
    return (P - 0.5) * extent[:, :, None, None]


def pixel_variance(log_scale: Array, extent: Array, K: Array, depth: Array) -> Array:
    """(B, C, H, W) variance of where points are seen whose normalised numbers obey Laplace laws, pixels².

    log_scale (B, C, H, W), extent (B, 3) m, K (B, 3, 3), depth (B,) m of the object. A Laplace law of scale b has the
    variance 2 b²; what is known of the three numbers together is taken for each direction alike.
    """
    per_metre = (K[:, 0, 0] + K[:, 1, 1]) / 2 / depth
    return 2 * (namespace(log_scale).exp(log_scale) * (extent.mean(1) * per_metre)[:, None, None, None]) ** 2


def denormalise_Q(q: Tensor, extent: Tensor) -> Tensor:
    """(B, 6, H, W) normalised -> (B, plane, xyz, H, W) metres in the object's frame, 0 along the normal."""
    return unpack_Q_maps((q - 0.5) * extent[:, CHANNEL_AXES, None, None])


def unpack_Q_maps(q: Tensor) -> Tensor:
    """`unpack_Q` of maps: six channels (B, 6, H, W) to points (B, plane, xyz, H, W)."""
    import torch  # here and below: what writes and checks maps starts without it

    return torch.cat([torch.zeros_like(q[:, :1]), q], dim=1)[:, _SLOTS].unflatten(1, (3, 3))


def bin_labels(coordinates: Tensor, present: Tensor, bins: int) -> Tensor:
    """(B, C, H, W) normalised coordinates -> int64 bins; `bins`, the background, where `present` (B, C, H, W) is 0."""
    import torch

    return torch.where(present > 0, (coordinates * bins).long().clamp(0, bins - 1), bins)


def split_bins(logits: Array, bins: int) -> Array:
    """Logits (B, C (bins + 1), H, W) -> (B, C, bins + 1, H, W), the background last."""
    return logits.reshape(logits.shape[0], -1, bins + 1, *logits.shape[2:])


def bin_probability(logits: Array, bins: int) -> Array:
    """Logits -> (B, C, bins, H, W) probabilities of each coordinate's bins, background left out."""
    return softmax(split_bins(logits, bins)[:, :, :bins], 2)


def expected_coordinate(logits: Tensor, bins: int) -> Tensor:
    """Logits -> (B, C, H, W) normalised: the mean of the bins' middles, through which gradients flow."""
    import torch

    middles = (torch.arange(bins, dtype=logits.dtype, device=logits.device) + 0.5) / bins
    return torch.einsum("bcnhw,n->bchw", bin_probability(logits, bins), middles)


def likeliest_coordinate(logits: Array, bins: int) -> Array:
    """Logits -> (B, C, H, W) normalised: the middle of each coordinate's likeliest bin."""
    return (split_bins(logits, bins)[:, :, :bins].argmax(2) + 0.5) / bins
