"""What checkpoints of several recipes reach, target by target, and how two recipes differ."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from sopose.batch import PredictedMaps, RoiTargets
from sopose.core.bop.results import Estimate
from sopose.core.evaluation.bop19 import MSPD_IMAGE_WIDTH, MSPD_THRESHOLDS, MSSD_THRESHOLDS, image_width
from sopose.core.evaluation.evaluator import evaluate
from sopose.core.evaluation.pose_parts import error_parts
from sopose.core.geometry.pose import Pose
from sopose.data.eval_set import EvalSet
from sopose.inference.predictions import Predictions
from sopose.layers import denormalise_P
from sopose.training.ablation import MeanInterval, bootstrap

METRICS = ("add", "pose", "bop19")


@dataclass(frozen=True)
class TargetResult:
    """How far off one target was."""

    scene_id: int
    im_id: int
    gt_index: int
    ad: float  # ADD(-S), diameters
    mssd: float  # diameters
    mspd: float  # pixels of an image 640 wide
    depth: float  # metres along the line of sight, above zero too far away
    across: float = float("nan")  # metres across the line of sight
    rotation: float = float("nan")  # degrees, by the best symmetry
    visibility: float = 1.0
    P: float = float("nan")  # metres, median distance of P from the truth where the object is visible


Measure = Callable[[TargetResult], float]
# Heading -> how well a target was met, a number whose mean is reported.
POSE_MEASURES: dict[str, Measure] = {
    "ADD(-S) 0.1 d, %": lambda target: 100.0 * (target.ad < 0.1),
    "AR_MSSD, %": lambda target: 100.0 * float(np.mean(target.mssd < MSSD_THRESHOLDS)),
    "AR_MSPD, %": lambda target: 100.0 * float(np.mean(target.mspd < MSPD_THRESHOLDS)),
}
MEASURES = POSE_MEASURES | {
    "error of P, mm": lambda target: 1e3 * target.P,
    "depth bias, mm": lambda target: 1e3 * target.depth,
}


def pose_results(estimates: Sequence[Estimate], split: EvalSet, symmetric: Collection[int]) -> list[TargetResult]:
    """How far off the pose of each target of a split in ground-truth boxes is; estimates are in the boxes' order."""
    scores = evaluate(estimates, split.records, split.targets, split.models_eval, symmetric, metrics=METRICS)
    instances = {(e.scene_id, e.im_id, e.obj_id, e.gt_index): e for e in scores.instances}
    scale = MSPD_IMAGE_WIDTH / image_width(split.records)
    found = []
    for item, estimate in zip(split.source.items, estimates, strict=True):
        ids = item.record.scene_id, item.record.im_id, item.obj_id, item.truth.gt_index
        own, diameter = instances[ids].errors, split.models_eval[item.obj_id].diameter
        found.append(
            TargetResult(
                scene_id=ids[0],
                im_id=ids[1],
                gt_index=ids[3],
                ad=own["ad"] / diameter,
                mssd=own["mssd"] / diameter,
                mspd=own["mspd"] * scale,
                depth=depth_error(estimate, item.truth.pose),
                across=error_parts([estimate.pose], [item.truth.pose]).lateral,
                rotation=own["re_sym"],
                visibility=instances[ids].visib_fract,
            )
        )
    return found


def target_results(predictions: Predictions, split: EvalSet, symmetric: Collection[int]) -> list[TargetResult]:
    """What became of each target of a split in ground-truth boxes; the predictions have the maps of all ROIs."""
    found = []
    for number, result in enumerate(pose_results(list(predictions.estimates), split, symmetric)):
        extent = split.source.objects[split.source.items[number].obj_id].model.extent
        maps = predictions.maps.map(lambda values, row=number: values[row])
        found.append(replace(result, P=error_of_P(maps, split.source.targets(number), extent)))
    return found


def error_of_P(maps: PredictedMaps, targets: RoiTargets, extent: np.ndarray) -> float:
    """Median distance, metres, of a ROI's P from its truth where the object is visible, under the best symmetry.

    extent: (3,) metres. NaN where nothing is visible.
    """
    visible = targets.mask_visib > 0
    if not bool(visible.any()):
        return float("nan")
    size = targets.P.new_tensor(extent)[None]
    predicted, true = (denormalise_P(P[None].float(), size)[0][:, visible] for P in (maps.P, targets.P))
    turned = targets.symmetry_rotations @ true  # (S, 3, cells); symmetries about the origin
    return float((predicted[None] - turned).norm(dim=1).median(dim=1).values.min())


def depth_error(estimate: Estimate, truth: Pose) -> float:
    """Metres along the true line of sight."""
    distance = np.linalg.norm(truth.cam_t_obj)
    return float((estimate.pose.cam_t_obj - truth.cam_t_obj) @ (truth.cam_t_obj / distance))


Results = Mapping[int, Sequence[TargetResult]]  # by seed


def means(results: Results, measures: Mapping[str, Measure] = MEASURES) -> dict[str, MeanInterval]:
    """Each measure's mean over targets and seeds, with an interval over images."""
    return {name: bootstrap(_matrix(results, measure), _images(results)) for name, measure in measures.items()}


def differences(
    results: Results, reference: Results, measures: Mapping[str, Measure] = MEASURES
) -> dict[str, MeanInterval]:
    """Each measure's mean difference, target by target; images and seeds drawn together."""
    seeds = sorted(results.keys() & reference.keys())
    pairs = [{seed: of[seed] for seed in seeds} for of in (results, reference)]
    return {
        name: bootstrap(_matrix(pairs[0], measure) - _matrix(pairs[1], measure), _images(results), over_seeds=True)
        for name, measure in measures.items()
    }


def plain_results(results: Results) -> dict[str, list[dict[str, float | int]]]:
    """The targets of each seed as json has them."""
    return {str(seed): [asdict(target) for target in targets] for seed, targets in results.items()}


def _matrix(results: Results, measure: Callable[[TargetResult], float]) -> np.ndarray:
    """(seeds, targets)."""
    return np.array([[measure(target) for target in targets] for _, targets in sorted(results.items())])


def _images(results: Results) -> np.ndarray:
    """(targets,) which image each is of, counted from 0."""
    targets = next(iter(results.values()))
    _, numbers = np.unique([(t.scene_id, t.im_id) for t in targets], axis=0, return_inverse=True)
    return numbers.reshape(-1)
