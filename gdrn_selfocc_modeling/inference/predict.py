"""One pass of a network over a test set: poses by one way or several, and the maps of some ROIs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sopose.batch import PredictedMaps, Prediction, RegressedPose, RoiBatch, collate, collate_samples
from sopose.core.bop.results import Estimate, Estimates
from sopose.core.data.loader import make_test_loader
from sopose.core.engine.distributed import current_world, join_shares, of_all_ranks
from sopose.core.engine.modes import evaluation_mode
from sopose.core.geometry.pose import Pose
from sopose.data.eval_set import EvalSet
from sopose.inference.predictions import Predictions, roi_ids
from sopose.inference.prepare import prepared
from sopose.models.map_forms import PnPInput
from sopose.models.pnp_points import PoseSolver
from sopose.models.predicted_maps import read_maps


@dataclass(frozen=True)
class InferencePlan:
    """How a network runs over a test set."""

    batch_size: int  # ROIs
    workers: int  # processes that crop
    half: bool  # in bfloat16 where nothing is lost by it, see `prepared`
    input_res: int  # side of a ROI, pixels
    form: PnPInput  # in what form the network gives its maps


@torch.inference_mode()
def predict(
    model: nn.Module,
    test_set: EvalSet,
    solvers: Mapping[str, PoseSolver],
    plan: InferencePlan,
    device: torch.device,
    pictures: int = 0,
    together: bool = False,
) -> dict[str, Predictions]:
    """Predictions by each way to a pose, from one pass of the network; each rank works on its share and gets all.

    They have the maps of `pictures` ROIs, spread evenly. An image's time is that of its ROIs in the network and the
    solver, or all solvers `together`, plus the detector's; cropping runs beside it in the workers. The network is left
    in the mode it came in.
    """
    world, items = current_world(), test_set.source.items
    pictured = np.unique(np.linspace(0, len(items) - 1, min(pictures, len(items))).round().astype(np.int64))
    loader = make_test_loader(test_set.source, collate_samples, plan.batch_size, plan.workers, world.rank, world.size)
    rows: dict[str, list[Tensor]] = {name: [] for name in solvers}
    kept: dict[int, PredictedMaps] = {}
    numbers = iter(world.share(len(items)))
    rolled = f", rolled by {test_set.source.roll:g}°" if test_set.source.roll else ""
    progress = tqdm(loader, desc=f"poses of {test_set.spec.name}{rolled}", unit="batch", disable=not world.is_first)
    with evaluation_mode(model):
        network = prepared(model, device, plan.input_res, plan.half)
        for rois, _, infos in progress:
            started = time.perf_counter()
            rois = rois.to(device)
            prediction = network(rois)
            if device.type == "cuda":  # a GPU answers before it has finished, and every way shares its time
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - started
            known = [test_set.source.objects[info.obj_id] for info in infos]
            found = {name: _timed(solve, prediction, rois) for name, solve in solvers.items()}
            spent = sum(own for _, own in found.values())
            for name, (poses, own) in found.items():
                each = (seconds + (spent if together else own)) / len(infos)
                rows[name] += [_pack(one.model_pose(pose), each) for one, pose in zip(known, poses, strict=True)]
            kept |= _chosen_maps(prediction, list(islice(numbers, len(infos))), pictured, plan.form)
    maps = _joined_maps(kept)
    box = np.array([item.box for item in items], np.float64).reshape(-1, 4)
    return {
        name: Predictions(test_set.spec.name, _joined_estimates(own, test_set, device), box, pictured, maps, {})
        for name, own in rows.items()
    }


def _timed(solve: PoseSolver, prediction: Prediction | RegressedPose, rois: RoiBatch) -> tuple[list[Pose], float]:
    """What a solver finds, and the seconds it took."""
    started = time.perf_counter()
    poses = solve(prediction, rois)
    return poses, time.perf_counter() - started


def _chosen_maps(
    prediction: Prediction | RegressedPose, numbers: list[int], pictured: np.ndarray, form: PnPInput
) -> dict[int, PredictedMaps]:
    """The maps of those ROIs of a batch that are pictured, by their number; on the host."""
    places = [place for place, number in enumerate(numbers) if number in pictured]
    if not places or not isinstance(prediction, Prediction):
        return {}
    maps = read_maps(prediction.map(lambda values: values[places]), form).to("cpu")
    return {numbers[place]: maps.map(lambda values, row=row: values[row]) for row, place in enumerate(places)}


def _joined_maps(kept: dict[int, PredictedMaps]) -> PredictedMaps | None:
    """The maps that all ranks kept, in the order of their ROIs; None where there are none."""
    everywhere = {number: maps for part in of_all_ranks(kept) for number, maps in part.items()}
    return collate([everywhere[number] for number in sorted(everywhere)]) if everywhere else None


PACKED = 13  # numbers of one estimate: R, t and seconds


def _pack(pose: Pose, seconds: float) -> Tensor:
    return torch.from_numpy(np.concatenate([pose.cam_R_obj.ravel(), pose.cam_t_obj, [seconds]]))


def _joined_estimates(rows: list[Tensor], test_set: EvalSet, device: torch.device) -> Estimates:
    """The estimates of all ranks from each one's rows, in the order of the test set."""
    items = test_set.source.items
    share = torch.stack(rows) if rows else torch.zeros(0, PACKED, dtype=torch.float64)
    joined = join_shares(share, len(items), current_world(), device).numpy()
    estimates = (
        Estimate(*roi_ids(item), item.score, Pose(row[:9].reshape(3, 3), row[9:12]), float(row[12]))
        for item, row in zip(items, joined, strict=True)
    )
    return Estimates.of(with_image_times(estimates, test_set))


def with_image_times(estimates: Iterable[Estimate], test_set: EvalSet) -> list[Estimate]:
    """The same estimates, each with the time of its whole image, as BOP's csv wants it.

    It is -1 where the detector's is unknown.
    """
    estimates = list(estimates)
    seconds: dict[tuple[int, int], float] = defaultdict(float)
    for estimate in estimates:
        seconds[estimate.scene_id, estimate.im_id] += estimate.time
    for key, detection in test_set.detection_times().items():
        seconds[key] = seconds[key] + detection if detection >= 0 else -1.0  # BOP's word for unknown
    return [replace(estimate, time=seconds[estimate.scene_id, estimate.im_id]) for estimate in estimates]
