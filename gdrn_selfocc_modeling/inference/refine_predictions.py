"""Second looks at the poses of a whole test set."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from tqdm import tqdm

from sopose.core.bop.results import Estimates
from sopose.core.engine.distributed import current_world, of_all_ranks
from sopose.core.geometry.pose import Pose
from sopose.data.eval_set import EvalSet
from sopose.inference.predictions import Predictions, roi_ids
from sopose.inference.refine import LookPlan, PoseRefiner


def refine_predictions(
    refiner: PoseRefiner, test_set: EvalSet, predictions: Predictions, plan: LookPlan, others: Sequence[Estimates] = ()
) -> Predictions:
    """The predictions of a test set after looks, with the poses before; each rank looks at its share.

    Their scores are the confidence, where the refiner knows it. `others` are the same poses found in other ways, which
    a plan with several starts tries as well.

    An image's time grows by that of its looks; reading the image is not counted, as with the network.
    """
    world, items = current_world(), test_set.source.items
    own = world.share(len(items))
    mine: dict[int, tuple[Pose, float | None, float]] = {}
    with tqdm(total=len(own), desc=f"second looks at {test_set.spec.name}", disable=not world.is_first) as progress:
        for _, numbers in groupby(own, key=lambda number: roi_ids(items[number])[:2]):
            places = list(numbers)
            image, K = test_set.source.image(items[places[0]]), items[places[0]].record.K
            started = time.perf_counter()
            models = [test_set.source.objects[items[place].obj_id].model for place in places]
            poses, *more = ([one[place].pose for place in places] for one in (predictions.estimates, *others))
            refined = refiner(image, K, models, poses, plan, others=more)
            seconds = time.perf_counter() - started
            each = seconds / len(places)
            mine |= {place: (one.pose, one.confidence, each) for place, one in zip(places, refined, strict=True)}
            progress.update(len(places))
    found = {place: answer for part in of_all_ranks(mine) for place, answer in part.items()}
    spent: dict[tuple[int, int], float] = defaultdict(float)
    for place, (_, _, seconds) in found.items():
        spent[roi_ids(items[place])[:2]] += seconds
    estimates = [
        replace(
            estimate,
            pose=found[place][0],
            score=estimate.score if found[place][1] is None else found[place][1],
            time=estimate.time + spent[estimate.scene_id, estimate.im_id] if estimate.time >= 0 else estimate.time,
        )
        for place, estimate in enumerate(predictions.estimates)
    ]
    return replace(predictions, estimates=Estimates.of(estimates), coarse=predictions.estimates)
