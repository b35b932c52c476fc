"""Whether the probability that a refined pose is right tells right from wrong, and is as large as it should be.

Looks begin at true poses made wrong, from a little to far beyond what a refiner corrects (or at those of a network,
--weights), and at poses of what isn't there: another object's model in an object's place, and an object where there is
none of it. Right is a pose whose surface is within 0.1 diameters of the truth (MSSD). The covariance of poses that are
probably right is checked by how often the truth lies inside of its ellipsoids. --fit learns the probability, and by how
much covariances are too small, from the first half of each set's images, reports on the other, and writes both into a
copy of the refiner's file.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from scipy.special import chdtri
from tqdm import tqdm

from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.facts import plain_facts
from sopose.core.evaluation.calibration import area_under_roc, reliability
from sopose.core.evaluation.error_model import ErrorModel
from sopose.core.evaluation.pairs import PosePairs
from sopose.core.evaluation.scores import finite
from sopose.core.evaluation.tables import aligned
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import rotation_log
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import atomic_path, require_writable_dir, write_json, write_text
from sopose.core.vis.colors import PALETTE
from sopose.core.vis.plots import plot_png
from sopose.data.eval_set import EvalSet
from sopose.data.look import nearest_equal_pose
from sopose.data.look_source import StartRange
from sopose.inference.look_test import LookTest, build_look_test, network_poses
from sopose.inference.predictions import roi_ids
from sopose.inference.refine import LookPlan, PoseRefiner, RefinedPose
from sopose.models.confidence import Confidence, fit_confidence
from sopose.models.refiner_file import load_refiner, save_refiner

EXAMPLES = """examples:
  python tools/measure/evaluate_confidence.py --refiner refiner.safetensors --fit with_confidence.safetensors \\
      --config-file configs/gdrn_selfocc/lmo/cad_only_cpu.py \\
      --opts DATASETS.ROOT=path/to/bop DATASETS.TEST=[output/held_out:held_out] DATASETS.OBJS=[ape,can,cat]
"""
SEED = 999_979
FACTORS = (0.5, 1.0, 2.0, 4.0)  # of the errors that a refiner learned to correct
RIGHT = 0.1  # diameters of MSSD
ASIDE = (1.2, 3.0)  # diameters across the line of sight, of an object where there is none
SURE, LEVELS = 0.5, (0.68, 0.95)
DRAWS = 1000  # of the bootstrap over images


@dataclass(frozen=True, eq=False)
class Looked:
    """Evidence of N poses."""

    evidence: np.ndarray  # (N, 7)
    right: np.ndarray  # (N,) bool
    present: np.ndarray  # (N,) bool, whether the object is there at all
    image: np.ndarray  # (N,) int, number of the image
    square: np.ndarray  # (N,) squared Mahalanobis distance of the truth; inf where the object isn't there
    depth: np.ndarray  # (N, 2) error and standard deviation along the line of sight, metres
    across: np.ndarray  # (N, 2) the same at right angles to it: lengths, and the mean of two directions

    def of(self, chosen: np.ndarray) -> Looked:
        """Some of them."""
        return Looked(*(getattr(self, field.name)[chosen] for field in fields(self)))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--refiner", type=Path, required=True, help="file that sopose refiner wrote")
    parser.add_argument("--config-file", type=Path, required=True, help="of the data, and of the network of --weights")
    parser.add_argument("--weights", type=Path, help="a pose network, whose poses are looked at instead of wrong ones")
    parser.add_argument("--fit", type=Path, metavar="FILE", help="learn the probability, and write the refiner with it")
    parser.add_argument("--iterations", type=int, default=2, metavar="N", help="looks (default: 2)")
    parser.add_argument("--images", type=int, metavar="N", help="the first N images of each set alone")
    parser.add_argument("--output", type=Path, default=Path("output/confidence"), help="table, json and diagram")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if args.iterations < 1 or (args.images or 1) < 1:
        parser.error("--iterations and --images must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Look, learn, report, write."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    require_writable_dir(args.output)
    test = build_look_test(args.config_file, args.opts, args.refiner, args.images)
    looked = {
        one.spec.name: gather(test.refiner, one, starts_of(test, args.weights, one), test.plan(args.iterations))
        for one in test.sets
    }
    confidence, inflation = test.refiner.confidence, 1.0
    if args.fit:
        halves = {name: found.image % 2 == 0 for name, found in looked.items()}
        known = [found.of(halves[name]) for name, found in looked.items()]
        evidence, right = (np.concatenate([getattr(one, key) for one in known]) for key in ("evidence", "right"))
        confidence = fit_confidence(evidence, right)
        squares = np.concatenate([one.square for one in known])[confidence(evidence) >= SURE]
        inflation = float(np.median(squares) / chdtri(6, 0.5))
        looked = {name: found.of(~halves[name]) for name, found in looked.items()}
        write_fitted(args.refiner, args.fit, confidence.numbers, inflation)
    if confidence is None:
        raise UserError(f"{args.refiner} has no confidence yet; learn it: --fit FILE")
    rows, plain = [["set", "poses", "right", "AUC right/wrong", "AUC present/absent", "ECE", "ECE of present"]], {}
    for name, found in looked.items():
        probability = confidence(found.evidence)
        rows.append([name, str(len(found.right)), f"{100 * found.right.mean():.0f} %", *measures(found, probability)])
        bins = reliability(probability[found.present], found.right[found.present])
        plain[name] = {"predicted": bins.predicted.tolist(), "seen": bins.seen.tolist(), "error": bins.error}
    text = "\n".join([*aligned(rows), "", *aligned(sureness(looked, confidence, inflation))])
    print(text)
    write_text(args.output / "table.txt", text + "\n")
    write_json(args.output / "reliability.json", finite(plain))
    diagram(args.output / "reliability.png", plain)


def sureness(looked: dict[str, Looked], confidence: Confidence, inflation: float) -> list[list[str]]:
    """Of poses that are probably right: how often the truth is inside of ellipsoids, and errors beside deviations."""
    rows = [["set", f"poses of confidence {SURE:g}", *(f"inside {level:.0%}" for level in LEVELS), "depth", "across"]]
    for name, whole in looked.items():
        found = whole.of(confidence(whole.evidence) >= SURE)
        inside = [f"{100 * np.mean(found.square / inflation < chdtri(6, 1 - level)):.0f} %" for level in LEVELS]
        medians = [1e3 * np.median(pair, axis=0) * [1, inflation**0.5] for pair in (found.depth, found.across)]
        rows.append([name, str(len(found.right)), *inside, *(f"{a:.1f} mm, σ {b:.1f} mm" for a, b in medians)])
    return rows


def write_fitted(source: Path, target: Path, numbers: tuple[float, ...], inflation: float) -> None:
    """A copy of a refiner's file with a model of confidence."""
    network, design = load_refiner(source)
    inflation = float(np.clip(inflation * design.inflation, 1e-3, 1e6))
    objects = plain_facts(read_checkpoint(source)).get("objects", [])
    save_refiner(network, replace(design, confidence=numbers, inflation=inflation), objects, target)
    print(f"written: {target}")


def starts_of(test: LookTest, weights: Path | None, test_set: EvalSet) -> list[Pose]:
    """For each item the pose that looks begin at."""
    if weights is not None:
        return network_poses(test, weights, test_set)
    given, found = test.settings.model.refine.start, []
    for item in test_set.source.items:
        rng = np.random.default_rng([SEED, *roi_ids(item), item.truth.gt_index])
        factor = FACTORS[rng.integers(len(FACTORS))]
        starts = StartRange(given.rotation, given.depth, given.across, (factor,))
        diameter = test_set.source.objects[item.obj_id].model.diameter
        found.append(starts.draw(item.truth.pose, diameter, rng))
    return found


def gather(refiner: PoseRefiner, test_set: EvalSet, starts: Sequence[Pose], plan: LookPlan) -> Looked:
    """Evidence of the set's objects at their starts, and of what isn't there."""
    source = test_set.source
    models = {obj_id: target.model for obj_id, target in source.objects.items()}
    errors = {obj_id: ErrorModel(model, False) for obj_id, model in models.items()}
    numbers = {key: number for number, key in enumerate(sorted({roi_ids(item)[:2] for item in source.items}))}
    evidence, right, present, image, errors_of = [], [], [], [], []
    for item, own in tqdm(list(zip(source.items, starts, strict=True)), desc=test_set.spec.name, unit="object"):
        rng = np.random.default_rng([SEED, *roi_ids(item), item.truth.gt_index, 1])
        rows = [(item.obj_id, own, True)]
        others = [obj_id for obj_id in models if obj_id != item.obj_id]
        if others:
            rows.append((others[rng.integers(len(others))], own, False))
        away = rng.normal(size=2)
        away *= rng.uniform(*ASIDE) * models[item.obj_id].diameter / np.linalg.norm(away)
        rows.append((item.obj_id, Pose(own.cam_R_obj, own.cam_t_obj + np.array([*away, 0.0])), False))
        ids, poses, there = zip(*rows, strict=True)
        pixels, K = source.image(item), item.record.K
        found = refiner(pixels, K, [models[obj_id] for obj_id in ids], list(poses), plan)
        for obj_id, one, is_there in zip(ids, found, there, strict=True):
            if one.evidence is None:
                continue
            truths = [each.pose for each in item.record.instances if each.obj_id == obj_id]
            pairs = PosePairs.of([(one.pose, truth, K) for truth in truths])
            error = min(errors[obj_id].errors(pairs, ["mssd"])["mssd"], default=np.inf)
            evidence.append(one.evidence)
            right.append(error < RIGHT * models[obj_id].diameter)
            present.append(is_there or right[-1])
            image.append(numbers[roi_ids(item)[:2]])
            errors_of.append(parted(one, nearest_truth(models[obj_id], truths, one.pose)))
    columns = map(np.array, zip(*errors_of, strict=True))
    return Looked(np.array(evidence), np.array(right), np.array(present), np.array(image), *columns)


def nearest_truth(model: ObjectModel, truths: Sequence[Pose], near: Pose) -> Pose | None:
    """Of an image's poses of an object, and their equal ones, the nearest; None without any."""
    equal = [nearest_equal_pose(model, truth, near) for truth in truths]
    return min(equal, key=lambda pose: float(np.linalg.norm(pose.cam_t_obj - near.cam_t_obj)), default=None)


def parted(found: RefinedPose, truth: Pose | None) -> tuple[float, list[float], list[float]]:
    """Mahalanobis distance squared, then error and deviation along the line of sight, and across."""
    if truth is None:
        return np.inf, [np.inf, 0.0], [np.inf, 0.0]
    shift = truth.cam_t_obj - found.pose.cam_t_obj
    ray = found.pose.cam_t_obj / np.linalg.norm(found.pose.cam_t_obj)
    motion = np.concatenate([shift, rotation_log(truth.cam_R_obj @ found.pose.cam_R_obj.T)])
    square = float(motion @ np.linalg.solve(found.covariance, motion))
    place = found.covariance[:3, :3]
    along = float(ray @ place @ ray)
    depth, across = float(shift @ ray), np.linalg.norm(shift - (shift @ ray) * ray)
    return square, [abs(depth), along**0.5], [float(across), ((np.trace(place) - along) / 2) ** 0.5]


def measures(found: Looked, probability: np.ndarray) -> list[str]:
    """Areas and calibration error with 95 % intervals over images."""

    def values(chosen: np.ndarray) -> tuple[float, ...]:
        p, right, present = probability[chosen], found.right[chosen], found.present[chosen]
        kept = present & right | ~present
        areas = area_under_roc(p[present], right[present]), area_under_roc(p[kept], present[kept])
        # Most of what isn't there is seen at once, and its bins are nearly empty of error: present poses are the test.
        return *areas, reliability(p, right).error, reliability(p[present], right[present]).error

    rng, images = np.random.default_rng(0), np.unique(found.image)
    places = {number: np.flatnonzero(found.image == number) for number in images}
    drawn = [
        values(np.concatenate([places[number] for number in rng.choice(images, len(images))])) for _ in range(DRAWS)
    ]
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    whole = values(np.arange(len(probability)))
    return [f"{value:.3f} ({a:.3f} to {b:.3f})" for value, a, b in zip(whole, low, high, strict=True)]


def diagram(path: Path, plain: dict[str, dict[str, object]]) -> None:
    """The share of right poses over the predicted probability, of objects that are there; a line for each set."""

    def draw(axes: object) -> None:
        axes.plot([0, 1], [0, 1], color="0.7", lw=1)
        for (name, bins), color in zip(plain.items(), PALETTE, strict=False):
            axes.plot(bins["predicted"], bins["seen"], "o-", color=color, label=f"{name}, ECE {bins['error']:.3f}")
        axes.set(xlabel="confidence", ylabel="share of right poses", xlim=(0, 1), ylim=(0, 1))
        axes.legend()

    with atomic_path(path) as beside:
        beside.write_bytes(plot_png(draw))


if __name__ == "__main__":
    run_cli(main)
