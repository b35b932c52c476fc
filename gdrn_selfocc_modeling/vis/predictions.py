"""Pictures of what the network sees and says, beside the truth."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sopose.batch import Prediction, RoiTargets, collate_samples
from sopose.core.bop.scene import read_rgb
from sopose.core.evaluation.report import ReportCase
from sopose.core.geometry.pose import Pose
from sopose.core.utils.units import M_TO_MM
from sopose.core.vis.heatmap import heat_map, map_distance, scale_end
from sopose.core.vis.maps import categories_to_rgb, coordinates_to_rgb, enlarged, pair_to_rgb
from sopose.core.vis.overlays import pose_close_up
from sopose.data.eval_set import EvalSet
from sopose.layers import PLANE_AXES, likeliest_coordinate, plane_channels
from sopose.models.gdrn import PnPInput, mask_probability
from sopose.models.pnp_points import PoseSolver

Panels = list[tuple[str, np.ndarray]]


@torch.inference_mode()
def report_cases(
    model: nn.Module, test_set: EvalSet, count: int, device: torch.device, solve: PoseSolver
) -> list[ReportCase]:
    """Up to `count` test ROIs spread evenly over the set: contours of estimate and truth, maps beside theirs.

    The network is in evaluation mode; `solve` makes poses of what it predicts.
    """
    total = len(test_set.source)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)) if total else []
    return [_case(model, test_set, int(index), device, solve) for index in chosen]


def _case(model: nn.Module, test_set: EvalSet, index: int, device: torch.device, solve: PoseSolver) -> ReportCase:
    item = test_set.source.items[index]
    rois, _, _ = collate_samples([test_set.source.sample(index)])
    batch = model(rois.to(device))
    pose = solve(batch, rois)[0]
    prediction = batch.map(lambda tensor: tensor[0].float().cpu())
    targets = test_set.source.targets(index)
    target = test_set.source.objects[item.obj_id]
    truth = None if item.truth is None else item.truth.pose
    overlay = pose_close_up(read_rgb(item.record), item.record.K, target.caster, pose, truth)
    maps = [
        *map_panels(prediction, targets, model.pnp_input),
        *error_panels(prediction, targets, target.model.extent, model.pnp_input),
        *region_panels(prediction, targets, model.pnp_input),
    ]
    panels = [("estimate and truth", overlay[..., ::-1]), *((name, enlarged(picture)) for name, picture in maps)]
    visib = "" if item.truth is None or item.truth.visib_fract is None else f", visible {item.truth.visib_fract:.0%}"
    return ReportCase(
        f"{target.model.name}, image {item.record.scene_id}/{item.record.im_id}{visib}",
        _errors(pose, truth, target.model.diameter),
        panels,
    )


def map_panels(prediction: Prediction, targets: RoiTargets | None, pnp_input: PnPInput) -> Panels:
    """P and the three parts of Q as RGB pictures, each prediction followed by its truth; unbatched arguments."""
    mask = _predicted_mask(prediction, pnp_input)
    xyz, q = _coordinates(prediction, pnp_input)
    panels = [("P", coordinates_to_rgb(xyz, mask))]
    if targets is not None:
        panels.append(("P truth", coordinates_to_rgb(targets.P.numpy(), targets.mask_obj.numpy() > 0)))
    for k, axis in enumerate("xyz"):
        channels = plane_channels(k)
        if q is not None:
            panels.append((f"Q_{axis}", pair_to_rgb(q[channels], mask)))
            if targets is not None:
                panels.append(
                    (
                        f"Q_{axis} truth",
                        pair_to_rgb(targets.Q[channels].numpy(), targets.q_mask[k].numpy() > 0),
                    )
                )
    return panels


def error_panels(prediction: Prediction, targets: RoiTargets | None, extent: np.ndarray, pnp_input: PnPInput) -> Panels:
    """Heat maps in millimetres of P's error and those of the parts of Q; unbatched arguments, none without a truth.

    They have one scale, and are white where the network sees no object or the truth is not defined. `extent` (3,) is
    the model's, metres. Names tell the medians.
    """
    if targets is None:
        return []
    mask = _predicted_mask(prediction, pnp_input)
    xyz, q = _coordinates(prediction, pnp_input)
    known = mask & (targets.mask_obj.numpy() > 0)
    errors = {"P": map_distance(xyz, targets.P.numpy(), known, M_TO_MM * extent)}
    for k, axis in enumerate("xyz"):
        channels = plane_channels(k)
        if q is not None:
            known = mask & (targets.q_mask[k].numpy() > 0)
            size = M_TO_MM * extent[PLANE_AXES[k]]
            errors[f"Q_{axis}"] = map_distance(q[channels], targets.Q[channels].numpy(), known, size)
    end = scale_end(np.stack(list(errors.values())))
    return [(f"{name} error{_median(values)}", heat_map(values, "mm", end)) for name, values in errors.items()]


def region_panels(prediction: Prediction, targets: RoiTargets | None, pnp_input: PnPInput) -> Panels:
    """The likeliest surface region of each cell, the brighter the surer, and the true ones; unbatched arguments.

    Brightness is that region's probability among all but the background, as Patch-PnP gets it. Nothing where the
    network tells no regions.
    """
    if prediction.region is None:
        return []
    sure, region = prediction.region[1:].softmax(dim=0).max(dim=0)
    mask = _predicted_mask(prediction, pnp_input)
    panels = [("regions, bright: sure", categories_to_rgb(region.numpy() + 1, mask, sure.numpy()))]
    if targets is not None:
        true = targets.region.numpy()
        panels.append(("regions truth", categories_to_rgb(true, true > 0)))
    return panels


def _predicted_mask(prediction: Prediction, pnp_input: PnPInput) -> np.ndarray:
    """(H, W) bool: where the network says that the object is."""
    return mask_probability(prediction.mask[None], pnp_input.mask_type)[0, 0].numpy() > 0.5


def _coordinates(prediction: Prediction, pnp_input: PnPInput) -> tuple[np.ndarray, np.ndarray | None]:
    """P (3, H, W) and Q (6, H, W) as predicted, normalised; Q is None where it isn't."""
    xyz, q = prediction.xyz, prediction.q
    if pnp_input.bins:
        xyz, q = (None if x is None else likeliest_coordinate(x[None], pnp_input.bins)[0] for x in (xyz, q))
    return xyz.numpy(), None if q is None else q.numpy()


def _median(values: np.ndarray) -> str:
    """The median of those values that are not NaN, in words; nothing where all are."""
    there = values[~np.isnan(values)]
    return f", median {np.median(there):.1f} mm" if len(there) else ""


def _errors(pose: Pose, truth: Pose | None, diameter: float) -> str:
    """Rotation and translation error in words; of a symmetric object, without its symmetries."""
    if truth is None:
        return "no ground truth"
    cosine = (np.trace(pose.cam_R_obj.T @ truth.cam_R_obj) - 1) / 2
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    shift = np.linalg.norm(pose.cam_t_obj - truth.cam_t_obj)
    return f"{angle:.1f}° and {100 * shift:.1f} cm off (diameter {100 * diameter:.1f} cm)"
