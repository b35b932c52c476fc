"""Pictures of what the network sees and says, beside the truth."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from core.bop.scene import read_rgb
from core.evaluation.report import ReportCase
from core.geometry.pose import Pose
from core.vis.maps import coordinates_to_rgb, pair_to_rgb
from core.vis.overlays import pose_close_up
from gdrn_selfocc_modeling.data.batch import Prediction, RoiTargets, collate_samples
from gdrn_selfocc_modeling.data.bins import likeliest_coordinate
from gdrn_selfocc_modeling.data.test_set import TestSet
from gdrn_selfocc_modeling.models.gdrn import PnPInput, mask_probability
from gdrn_selfocc_modeling.models.pnp_points import PoseSolver

PLANES = {"x": slice(0, 2), "y": slice(2, 4), "z": slice(4, 6)}


@torch.inference_mode()
def report_cases(
    model: nn.Module, test_set: TestSet, count: int, device: torch.device, solve: PoseSolver
) -> list[ReportCase]:
    """Up to `count` test ROIs spread evenly over the set: contours of estimate and truth, P and Q beside theirs.

    The network is in evaluation mode; `solve` makes poses of what it predicts.
    """
    total = len(test_set.source)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)) if total else []
    return [_case(model, test_set, int(index), device, solve) for index in chosen]


def _case(model: nn.Module, test_set: TestSet, index: int, device: torch.device, solve: PoseSolver) -> ReportCase:
    item = test_set.source.items[index]
    rois, _, _ = collate_samples([test_set.source.sample(index)])
    batch = model(rois.to(device))
    pose = solve(batch, rois)[0]
    prediction = batch.map(lambda tensor: tensor[0].float().cpu())
    targets = test_set.source.targets(index)
    target = test_set.source.objects[item.obj_id]
    truth = None if item.truth is None else item.truth.pose
    overlay = pose_close_up(read_rgb(item.record), item.record.K, target.caster, pose, truth)
    panels = [("estimate and truth", overlay[..., ::-1]), *map_panels(prediction, targets, model.pnp_input)]
    visib = "" if item.truth is None or item.truth.visib_fract is None else f", visible {item.truth.visib_fract:.0%}"
    return ReportCase(
        f"{target.model.name}, image {item.record.scene_id}/{item.record.im_id}{visib}",
        _errors(pose, truth, target.model.diameter),
        panels,
    )


def map_panels(prediction: Prediction, targets: RoiTargets | None, pnp_input: PnPInput) -> list[tuple[str, np.ndarray]]:
    """P and the three parts of Q as RGB pictures, each prediction followed by its truth; unbatched arguments."""
    mask = mask_probability(prediction.mask[None], pnp_input.mask_type)[0, 0].numpy() > 0.5
    xyz, q = prediction.xyz, prediction.q
    if pnp_input.bins:
        xyz, q = (None if x is None else likeliest_coordinate(x[None], pnp_input.bins)[0] for x in (xyz, q))
    panels = [("P", coordinates_to_rgb(xyz.numpy(), mask))]
    if targets is not None:
        panels.append(("P truth", coordinates_to_rgb(targets.P.numpy(), targets.mask_obj.numpy() > 0)))
    for k, (axis, channels) in enumerate(PLANES.items()):
        if q is not None:
            panels.append((f"Q_{axis}", pair_to_rgb(q[channels].numpy(), mask)))
            if targets is not None:
                panels.append(
                    (
                        f"Q_{axis} truth",
                        pair_to_rgb(targets.Q[channels].numpy(), targets.q_mask[k].numpy() > 0),
                    )
                )
    return panels


def _errors(pose: Pose, truth: Pose | None, diameter: float) -> str:
    """Rotation and translation error in words; of a symmetric object, without its symmetries."""
    if truth is None:
        return "no ground truth"
    cosine = (np.trace(pose.cam_R_obj.T @ truth.cam_R_obj) - 1) / 2
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    shift = np.linalg.norm(pose.cam_t_obj - truth.cam_t_obj)
    return f"{angle:.1f}° and {100 * shift:.1f} cm off (diameter {100 * diameter:.1f} cm)"
