"""Time the closest of an object's symmetric rotations for a batch of ROIs, against loops over numpy."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from sopose.core.geometry.rotation import random_rotation
from sopose.core.geometry.symmetry import symmetry_transforms
from sopose.core.utils.errors import run_cli
from sopose.losses.symmetry import closest_rotation

EPILOG = """example:
  OMP_NUM_THREADS=1 python tools/benchmarks/symmetry.py

An object with a rotational symmetry has 315 rotations, as BOP samples them. The loops do the same in numpy: over ROIs
and rotations, as pose code usually does, and over ROIs alone.
"""
# cam_R_pred (B, 3, 3), cam_R_obj (B, 3, 3), symmetries (B, S, 3, 3)
Rotations = tuple[np.ndarray, np.ndarray, np.ndarray]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rois", type=int, default=48, help="ROIs in the batch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="measurements, taken in turns (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="of the batched form (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print medians and ratios; the results are checked to be the same."""
    args = parse_args(argv)
    torch.set_num_threads(1)
    batch = make_batch(args.rois, np.random.default_rng(0))
    tensors = [torch.from_numpy(part).float().to(args.device) for part in batch]
    ways: dict[str, Callable[[], np.ndarray]] = {
        "batched tensors": lambda: closest_rotation(*tensors).cpu().numpy(),
        "loop over ROIs": lambda: np.stack([closest_of_all(*roi) for roi in zip(*batch, strict=True)]),
        "loop over ROIs and rotations": lambda: np.stack(
            [closest_one_by_one(*roi) for roi in zip(*batch, strict=True)]
        ),
    }
    results = [way() for way in ways.values()]
    deviation = max(float(np.abs(result - results[-1]).max()) for result in results)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            seconds[name].append(_time(way))
    medians = {name: median(values) for name, values in seconds.items()}
    print(f"{args.rois} ROIs, {batch[2].shape[1]} rotations, {args.device}; results agree to {deviation:.0e}")
    for name, value in medians.items():
        print(f"{name:30}  {1e3 * value:8.3f} ms  {value / medians['batched tensors']:8.1f} x")


def make_batch(count: int, rng: np.random.Generator) -> Rotations:
    """Random poses of objects with a rotational symmetry about z."""
    turns = symmetry_transforms([], [(np.array([0.0, 0.0, 1.0]), np.zeros(3))])[:, :3, :3]
    pred, true = (np.stack([random_rotation(rng) for _ in range(count)]) for _ in range(2))
    return pred, true, np.tile(turns, (count, 1, 1, 1))


def closest_of_all(cam_R_pred: np.ndarray, cam_R_obj: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """One ROI, all rotations at once."""
    candidates = cam_R_obj @ symmetries
    return candidates[np.einsum("ij,sij->s", cam_R_pred, candidates).argmax()]


def closest_one_by_one(cam_R_pred: np.ndarray, cam_R_obj: np.ndarray, symmetries: np.ndarray) -> np.ndarray:
    """One ROI, one rotation after the other, by angle."""
    best, least = cam_R_obj, np.inf
    for symmetry in symmetries:
        candidate = cam_R_obj @ symmetry
        cosine = (np.trace(cam_R_pred.T @ candidate) - 1) / 2
        angle = np.arccos(np.clip(cosine, -1, 1))
        if angle < least:
            best, least = candidate, angle
    return best


def _time(way: Callable[[], np.ndarray], calls: int = 5) -> float:
    """Seconds of one of several calls in a row."""
    started = time.perf_counter()
    for _ in range(calls):
        way()
    return (time.perf_counter() - started) / calls


if __name__ == "__main__":
    run_cli(main)
