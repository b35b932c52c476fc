"""Time and score the ways from maps to a pose: the network's own and every PnP, from P and from P and Q."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from sopose.batch import Prediction, RoiBatch, RoiTargets, collate, collate_samples
from sopose.core.bop.results import Estimate
from sopose.core.engine.distributed import select_device
from sopose.core.engine.modes import evaluation_mode
from sopose.core.evaluation.evaluator import evaluate
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError, run_cli
from sopose.data.eval_set import EvalSet
from sopose.inference.evaluation import build_test_sets, build_trained_model
from sopose.inference.pose_solver import ransac_options
from sopose.models.map_forms import PnPInput
from sopose.models.pnp_points import MapReader, PoseSolver
from sopose.models.pnp_solvers import PNP_TYPES, RansacOptions
from sopose.settings import load_settings
from sopose.settings.load import PNP_LAYERS

EPILOG = """example:
  OMP_NUM_THREADS=1 python tools/benchmarks/pnp.py --config-file configs/gdrn_selfocc/toy/demo.py

The maps are true ones, as they are and disturbed, and those of MODEL.WEIGHTS. Beside true maps the network's pose is
the truth turned by 10 degrees and put 3 % too far. Boxes are the ground truth's.
"""
TURN, TOO_FAR = 10.0, 1.03  # of the pose beside true maps: degrees, share of the distance
DISTURBED = {  # name -> noise of P and Q (standard deviation, extents), share of cells that say anything
    "true maps": (0.0, 0.0),
    "noise of 2 %": (0.02, 0.0),
    "noise of 5 %": (0.05, 0.0),
    "2 %, a third wrong": (0.02, 0.3),
}
Batch = tuple[Prediction, RoiBatch]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="with MODEL.WEIGHTS and one test split")
    parser.add_argument("--trained-only", action="store_true", help="leave out the true and disturbed maps")
    parser.add_argument("--rounds", type=int, default=3, help="time measurements (default: %(default)s)")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print a table for each kind of maps."""
    args = parse_args(argv)
    settings = load_settings(args.config_file, [*args.opts, "TEST.TEST_BBOX_TYPE=gt"])
    weights, net = settings.model.weights, settings.model.pose_net
    if not weights:
        raise UserError("MODEL.WEIGHTS is empty; name a checkpoint in --opts")
    torch.set_num_threads(1)
    device = select_device(settings.model.device)
    model, cache = build_trained_model(settings, Path(weights), device)
    test_set = build_test_sets(settings, cache)[0]
    print(f"{test_set.spec.name}: {len(test_set.source)} ROIs of {net.output_res}² cells")
    truth = [_true_batch(test_set, indices) for indices in _batches(test_set, settings.test.ims_per_batch)]
    options = ransac_options(settings.test)
    for name, (noise, wrong) in {} if args.trained_only else DISTURBED.items():
        rng = torch.Generator().manual_seed(0)
        disturbed = [(_disturbed(*batch, noise, wrong, rng), batch[1]) for batch in truth]
        _print_table(name, disturbed, make_ways(MapReader(PnPInput()), options), test_set, args.rounds)
    with torch.inference_mode(), evaluation_mode(model):
        predicted = [(model(rois.to(device)), rois.to(device)) for _, rois in truth]
    reader = MapReader(model.pnp_input, net.geo_head.mask_thr_test)
    _print_table(f"maps of {weights}", predicted, make_ways(reader, options), test_set, args.rounds)


def make_ways(reader: MapReader, options: RansacOptions) -> dict[str, PoseSolver]:
    """The network's own poses, and every PnP from one layer and from two."""
    pairs = [(kind, layers) for kind in PNP_TYPES for layers in PNP_LAYERS]
    solvers = {f"{kind}, {layers}": PoseSolver(kind, replace(reader, layers=layers), options) for kind, layers in pairs}
    return {"the network's": PoseSolver(), **solvers}


def _batches(test_set: EvalSet, size: int) -> Iterator[range]:
    total = len(test_set.source)
    return (range(first, min(first + size, total)) for first in range(0, total, size))


def _true_batch(test_set: EvalSet, indices: Sequence[int]) -> Batch:
    """What a network without fault would say, beside the pose of one with some."""
    rois, _, _ = collate_samples([test_set.source.sample(index) for index in indices])
    targets = collate([test_set.source.targets(index) for index in indices])
    return _true_prediction(targets), rois


def _true_prediction(targets: RoiTargets) -> Prediction:
    turn = torch.from_numpy(Rotation.from_rotvec(np.radians([TURN, 0, 0])).as_matrix()).float()
    return Prediction(
        mask=targets.mask_visib[:, None],
        xyz=targets.P,
        region=None,
        q=targets.Q,
        q_mask=(targets.Q.unflatten(1, (3, 2)) != 0).any(dim=2).float(),
        cam_R_raw=targets.cam_R_obj,
        cam_R_obj=turn @ targets.cam_R_obj,
        cam_t_obj=targets.cam_t_obj * TOO_FAR,
        trans_raw=targets.trans_ratio,
    )


def _disturbed(prediction: Prediction, rois: RoiBatch, noise: float, wrong: float, rng: torch.Generator) -> Prediction:
    """The same maps with noise, a share of their cells replaced by any coordinates; P and Q independently."""

    def disturb(maps: Tensor) -> Tensor:
        lost = torch.rand((len(maps), 1, *maps.shape[2:]), generator=rng) < wrong
        anything = torch.rand(maps.shape, generator=rng)
        return torch.where(lost, anything, maps + noise * torch.randn(maps.shape, generator=rng))

    return replace(prediction, xyz=disturb(prediction.xyz), q=disturb(prediction.q))


def _print_table(name: str, batches: list[Batch], ways: dict[str, PoseSolver], test_set: EvalSet, rounds: int) -> None:
    """Every way on the same maps: milliseconds an ROI, ADD(-S), median errors."""
    print(f"\n{name}\n{'pose':28}{'ms per ROI':>12}{'ADD(-S) 0.1 d, %':>18}{'rotation, °':>13}{'translation, cm':>17}")
    for label, solve in ways.items():
        if batches[0][0].q is None and solve.reader is not None and solve.reader.layers == "P+Q":
            continue  # a network of one layer
        seconds = [_seconds(solve, batches) for _ in range(rounds)]
        poses = [pose for batch in batches for pose in solve(*batch)]
        print(f"{label:28}{1e3 * median(seconds) / len(poses):12.2f}{_scores(poses, test_set)}", flush=True)


def _seconds(solve: PoseSolver, batches: list[Batch]) -> float:
    started = time.perf_counter()
    for batch in batches:
        solve(*batch)
    return time.perf_counter() - started


def _scores(poses: list[Pose], test_set: EvalSet) -> str:
    estimates = [
        Estimate(item.record.scene_id, item.record.im_id, item.obj_id, 1.0, pose)
        for item, pose in zip(test_set.source.items, poses, strict=True)
    ]
    symmetric = test_set.symmetric_ids(())
    scores = evaluate(estimates, test_set.records, test_set.targets, test_set.models_eval, symmetric)
    return f"{100 * scores.mean['ad_0.10']:18.1f}{scores.mean['re_deg']:13.2f}{scores.mean['te_cm']:17.2f}"


if __name__ == "__main__":
    run_cli(main)
