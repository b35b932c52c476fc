"""Pictures of what a network predicted, beside the truth; drawn from values, the network is not asked again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sopose.batch import PredictedMaps, RoiTargets
from sopose.core.evaluation.report import Panel, ReportCase, drawn_case
from sopose.core.geometry.pose import Pose
from sopose.core.utils.units import M_TO_MM
from sopose.core.vis.heatmap import heat_map, map_distance, scale_end
from sopose.core.vis.maps import categories_to_rgb, coordinates_to_rgb, enlarged, pair_to_rgb
from sopose.core.vis.overlays import pose_close_up
from sopose.data.mapper import EvalItem, EvalSource
from sopose.layers import PLANE_AXES, plane_channels


def report_cases(
    source: EvalSource,
    indices: Sequence[int],
    poses: Sequence[Pose],
    maps: PredictedMaps | None,
    coarse: Sequence[Pose] | None = None,
) -> list[ReportCase]:
    """Cases of a report for some ROIs of a test set: contours of estimate and truth, maps beside theirs.

    `indices`, `poses`, `maps` and `coarse`, the poses before second looks, go together, one of each a case; without
    maps there are contours alone. What cannot be drawn is a warning, and the case says that it is missing.
    """
    cases = []
    for place, (index, pose) in enumerate(zip(indices, poses, strict=True)):
        item = source.items[index]
        model = source.objects[item.obj_id].model
        title = f"{model.name}, image {item.record.scene_id}/{item.record.im_id}{_visibility(item)}"
        one = None if maps is None else maps.map(lambda values, place=place: values[place].detach().cpu())
        shown = {"estimate and truth": pose}
        if coarse is not None:
            shown = {"before second looks": coarse[place], "after, and truth": pose}
        errors = _errors(pose, _truth(item), model.diameter)
        cases.append(drawn_case(title, errors, _panels(source, index, shown, one)))
    return cases


def _panels(source: EvalSource, index: int, poses: Mapping[str, Pose], maps: PredictedMaps | None) -> Iterator[Panel]:
    item = source.items[index]
    target = source.objects[item.obj_id]
    for title, pose in poses.items():
        overlay = pose_close_up(source.image(item), item.record.K, target.model.caster, pose, _truth(item))
        yield title, overlay[..., ::-1]
    if maps is None:
        return
    targets = source.targets(index)
    for name, picture in (
        *map_panels(maps, targets),
        *error_panels(maps, targets, target.model.extent),
        *region_panels(maps, targets),
    ):
        yield name, enlarged(picture)


def _truth(item: EvalItem) -> Pose | None:
    return None if item.truth is None else item.truth.pose


def _visibility(item: EvalItem) -> str:
    known = item.truth is not None and item.truth.visib_fract is not None
    return f", visible {item.truth.visib_fract:.0%}" if known else ""


def map_panels(maps: PredictedMaps, targets: RoiTargets | None) -> list[Panel]:
    """P and the three parts of Q as RGB pictures, each prediction followed by its truth; unbatched arguments."""
    mask = _mask(maps)
    panels = [("P", coordinates_to_rgb(maps.P.float().numpy(), mask))]
    if targets is not None:
        panels.append(("P truth", coordinates_to_rgb(targets.P.numpy(), targets.mask_obj.numpy() > 0)))
    for k, axis in enumerate("xyz" if maps.Q is not None else ""):
        channels = plane_channels(k)
        panels.append((f"Q_{axis}", pair_to_rgb(maps.Q[channels].float().numpy(), mask)))
        if targets is not None:
            truth = pair_to_rgb(targets.Q[channels].numpy(), targets.q_mask[k].numpy() > 0)
            panels.append((f"Q_{axis} truth", truth))
    return panels


def error_panels(maps: PredictedMaps, targets: RoiTargets | None, extent: np.ndarray) -> list[Panel]:
    """Heat maps in millimetres of P's error and those of the parts of Q; unbatched arguments, none without a truth.

    They have one scale, and are white where the network sees no object or the truth is not defined. `extent` (3,) is
    the model's, metres. Names give the medians.
    """
    if targets is None:
        return []
    mask = _mask(maps)
    known = mask & (targets.mask_obj.numpy() > 0)
    errors = {"P": map_distance(maps.P.float().numpy(), targets.P.numpy(), known, M_TO_MM * extent)}
    for k, axis in enumerate("xyz" if maps.Q is not None else ""):
        channels = plane_channels(k)
        known = mask & (targets.q_mask[k].numpy() > 0)
        size = M_TO_MM * extent[PLANE_AXES[k]]
        errors[f"Q_{axis}"] = map_distance(maps.Q[channels].float().numpy(), targets.Q[channels].numpy(), known, size)
    end = scale_end(np.stack(list(errors.values())))
    return [(f"{name} error{_median(values)}", heat_map(values, "mm", end)) for name, values in errors.items()]


def region_panels(maps: PredictedMaps, targets: RoiTargets | None) -> list[Panel]:
    """The likeliest surface region of each cell, the brighter the surer, and the true ones; unbatched arguments.

    Nothing where the network predicts no regions.
    """
    if maps.region is None:
        return []
    picture = categories_to_rgb(maps.region.numpy(), _mask(maps), maps.region_probability.float().numpy())
    panels = [("regions, bright: sure", picture)]
    if targets is not None:
        true = targets.region.numpy()
        panels.append(("regions truth", categories_to_rgb(true, true > 0)))
    return panels


def _mask(maps: PredictedMaps) -> np.ndarray:
    """(H, W) bool: where the network says that the object is."""
    return maps.mask.float().numpy() > 0.5


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
