"""BOP24's detection of poses: AP of ranked estimates, right where MSSD or MSPD is below a threshold.

Source: the tasks of https://bop.felk.cvut.cz/challenges/bop-challenge-2024. All estimates of an image count (the
100 best-scored), whether or not their object is there; ground truth below 10 % visibility is ignored: finding it is
neither right nor wrong. AP of an object is the mean over thresholds; AP of a method the mean over the objects
that the images have; AP_BOP24 the mean of both errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sopose.core.bop.results import Estimates
from sopose.core.bop.scene import ImageRecord
from sopose.core.bop.targets import Target
from sopose.core.evaluation import bop19
from sopose.core.evaluation.average_precision import Ranking, match_detections
from sopose.core.evaluation.bootstrap import image_weights, interval
from sopose.core.evaluation.error_model import ErrorModel
from sopose.core.evaluation.pairs import PosePairs
from sopose.core.evaluation.recall import unweighted_mean
from sopose.core.evaluation.scores import ObjectScores, Scores

MAX_PER_IMAGE = 100
MIN_VISIBILITY = 0.1
RESAMPLES = 200  # an AP has to be ranked anew each time
AP_COLUMNS = {"AP_MSSD": ("mssd", bop19.MSSD_THRESHOLDS), "AP_MSPD": ("mspd", bop19.MSPD_THRESHOLDS)}
AP = "AP_BOP24"


def add_detection_ap(
    scores: Scores,
    estimates: Estimates,
    records: Sequence[ImageRecord],
    targets: Iterable[Target],
    models: Mapping[int, ErrorModel],
    image_width: int,
    further_images: Iterable[tuple[int, int]] = (),
) -> Scores:
    """`scores` with the columns of AP_COLUMNS and their mean, over the images of the targets and the models' objects.

    further_images: scenes and images without a target, in which every estimate is wrong.

    The mean over all targets has none of them: an AP is of an object.
    """
    images = sorted({*((target.scene_id, target.im_id) for target in targets), *further_images})
    record_of = {(record.scene_id, record.im_id): record for record in records}
    chosen = [record_of[key] for key in images]
    best = _best_of_images(estimates, images)
    rankings = {obj_id: _rankings(best, chosen, model, image_width) for obj_id, model in models.items()}
    weights = image_weights(len(images), RESAMPLES)
    values = {obj_id: _aps(of_error) for obj_id, of_error in rankings.items()}
    resampled = [{obj_id: _aps(of_error, w) for obj_id, of_error in rankings.items()} for w in weights]
    means = [unweighted_mean(list(sample.values())) for sample in resampled]
    return replace(
        scores,
        objects=[
            _with_ap(row, values[row.obj_id], [sample[row.obj_id] for sample in resampled]) for row in scores.objects
        ],
        mean=scores.mean | unweighted_mean(list(values.values())),
        mean_intervals=scores.mean_intervals | _intervals(means),
    )


@dataclass(frozen=True, eq=False)
class _Best:
    """The estimates that count, sorted by falling score."""

    estimates: Estimates
    image: np.ndarray  # (N,) index into the images


def _best_of_images(estimates: Estimates, images: list[tuple[int, int]]) -> _Best:
    index_of = {image: index for index, image in enumerate(images)}
    image = np.array([index_of.get((s, i), -1) for s, i in estimates.ids[:, :2].tolist()], np.int64)
    order = np.argsort(-estimates.score, kind="stable")
    order = order[image[order] >= 0]
    by_image = order[np.argsort(image[order], kind="stable")]
    starts = np.searchsorted(image[by_image], np.arange(len(images)))
    rank = np.arange(len(by_image)) - starts[image[by_image]]
    kept = by_image[rank < MAX_PER_IMAGE]
    kept = kept[np.argsort(-estimates.score[kept], kind="stable")]
    return _Best(estimates[kept], image[kept])


def _rankings(best: _Best, records: list[ImageRecord], model: ErrorModel, image_width: int) -> dict[str, Ranking]:
    """For each column of AP_COLUMNS the object's estimates with what they hit."""
    obj_id = model.model.obj_id
    mine = np.flatnonzero(best.estimates.ids[:, 2] == obj_id)
    estimates, image = best.estimates[mine], best.image[mine]
    truths = [[item for item in record.instances if item.obj_id == obj_id] for record in records]
    ignored = [np.array([bop19.visibility(item) < MIN_VISIBILITY for item in items], bool) for items in truths]
    triples = [
        (estimates[row].pose, item.pose, records[image[row]].K)
        for row in range(len(estimates))
        for item in truths[image[row]]
    ]
    errors = model.errors(PosePairs.of(triples), [error for error, _ in AP_COLUMNS.values()])
    scale = {"mssd": model.model.diameter, "mspd": image_width / bop19.MSPD_IMAGE_WIDTH}
    ends = np.cumsum([len(truths[index]) for index in image])
    rankings = {}
    for column, (name, thresholds) in AP_COLUMNS.items():
        rows = np.split(errors[name] / scale[name], ends[:-1]) if len(image) else []
        shape = (len(thresholds), len(image))
        hit, neutral = np.zeros(shape, bool), np.zeros(shape, bool)
        for index in np.unique(image):
            of_image = np.flatnonzero(image == index)
            got = match_detections(np.array([rows[row] for row in of_image]), ignored[index], thresholds)
            hit[:, of_image] = got >= 0
            neutral[:, of_image] = (got >= 0) & np.append(ignored[index], False)[got]
        rankings[column] = Ranking(image, hit, neutral, np.array([int((~some).sum()) for some in ignored]))
    return rankings


def _aps(of_error: Mapping[str, Ranking], weights: np.ndarray | None = None) -> dict[str, float]:
    aps = {column: float(ranking.average_precision(weights).mean()) for column, ranking in of_error.items()}
    return aps | {AP: float(np.mean(list(aps.values())))}


def _with_ap(row: ObjectScores, values: dict[str, float], resampled: list[dict[str, float]]) -> ObjectScores:
    return replace(row, values=row.values | values, intervals=row.intervals | _intervals(resampled))


def _intervals(samples: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    names = (*AP_COLUMNS, AP)
    return {name: interval(np.array([sample[name] for sample in samples])) for name in names}
