"""Whether the probability that a refined pose is right tells right from wrong, and is as large as it should be.

Looks begin at true poses made wrong, from a little to far beyond what a refiner corrects, or at those of a network,
and at poses of what isn't there: another object's model in an object's place, and an object where there is none of it.
Right is a pose whose surface is within 0.1 diameters of the truth (MSSD). The covariance of poses that are probably
right is checked by how often the truth lies inside of its ellipsoids. --fit learns the probability, and by how much
covariances are too small, from every second image of each set and kind of starts, reports on the others, and writes
both into a copy of the refiner's file. --empty counts how many poses are believed in photographs that show none of the
objects, in the boxes of the test set.
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
from sopose.core.geometry.pose_covariance import moved_pose, sight_R_cam, turned_covariance
from sopose.core.geometry.rotation import rotation_log
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import atomic_path, require_writable_dir, write_json, write_text
from sopose.core.vis.colors import PALETTE
from sopose.core.vis.plots import plot_png
from sopose.data.eval_set import EvalSet
from sopose.data.look import nearest_equal_pose
from sopose.data.look_source import StartRange
from sopose.inference.checkpoint_facts import focal_length
from sopose.inference.look_test import LookTest, WithoutObjects, build_look_test, network_poses
from sopose.inference.predictions import roi_ids
from sopose.inference.refine import LookPlan, PoseRefiner, RefinedPose
from sopose.models.confidence import EVIDENCE, Confidence, fit_confidence
from sopose.models.refiner_design import INFLATION
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
SURE, DOUBTFUL, LEVELS = 0.5, 0.1, (0.68, 0.95)
FITTED = 0.8  # of the truths that ellipsoids are fitted to hold: between the levels, for errors have long tails
PARTS = slice(0, 2), slice(2, 3), slice(3, 6)  # of a motion in the frame of the line of sight: across, along, rotation
PERTURBED, NETWORK = STARTS = "perturbed", "network"  # true poses made wrong, and a network's
DRAWS = 1000  # of the bootstrap over images


@dataclass(frozen=True, eq=False)
class Looked:
    """Evidence of N poses."""

    evidence: np.ndarray  # (N, 10)
    right: np.ndarray  # (N,) bool
    present: np.ndarray  # (N,) bool, whether the object is there at all
    image: np.ndarray  # (N,) int, number of the image
    motion: np.ndarray  # (N, 6) to the truth, z along the line of sight; inf where the object isn't there
    covariance: np.ndarray  # (N, 6, 6) in the same frame, without the image's error
    pixel: np.ndarray  # (N,) metres that a pixel is there

    def of(self, chosen: np.ndarray) -> Looked:
        """Some of them."""
        return Looked(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def believed(self, factors: np.ndarray, image_error: float) -> np.ndarray:
        """(N, 6, 6) covariances with variances times factors (3,), as of `scaled_covariance`, and the image's error."""
        stretch = np.sqrt(np.repeat(factors[[1, 0, 2]], [2, 1, 3]))
        covariance = self.covariance * np.outer(stretch, stretch)
        covariance[:, :2, :2] += (image_error * self.pixel)[:, None, None] ** 2 * np.eye(2)
        return covariance


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--refiner", type=Path, required=True, help="file that sopose refiner wrote")
    parser.add_argument("--config-file", type=Path, required=True, help="of the data, and of the network of --weights")
    parser.add_argument("--weights", type=Path, help="a pose network, for starts of it")
    parser.add_argument(
        "--starts", nargs="+", choices=STARTS, default=[PERTURBED], help=f"where looks begin (default: {PERTURBED})"
    )
    parser.add_argument("--fit", type=Path, metavar="FILE", help="learn the probability, and write the refiner with it")
    parser.add_argument("--iterations", type=int, default=2, metavar="N", help="looks (default: 2)")
    parser.add_argument("--empty", type=Path, metavar="FOLDER", help="photographs without the objects")
    parser.add_argument("--images", type=int, metavar="N", help="the first N images of each set alone")
    parser.add_argument("--output", type=Path, default=Path("output/confidence"), help="table, json and diagram")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if (NETWORK in args.starts) != (args.weights is not None):
        parser.error(f"--weights and --starts {NETWORK} go together")
    if args.iterations < 1 or (args.images or 1) < 1:
        parser.error("--iterations and --images must be at least 1")
    return args


def main(argv: list[str] | None = None) -> None:
    """Look, learn, report, write."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    require_writable_dir(args.output)
    test = build_look_test(args.config_file, args.opts, args.refiner, args.images, args.weights)
    looked = {
        f"{one.spec.name}, {kind}": gather(
            *(test.refiner, one, starts_of(test, args.weights if kind == NETWORK else None, one)),
            *(test.plan(args.iterations), f"{one.spec.name}, {kind}"),
        )
        for one in test.sets
        for kind in args.starts
    }
    empty = {}
    for one, kind in ((one, kind) for one in test.sets for kind in args.starts if args.empty):
        bare = replace(one, source=WithoutObjects(one.source, args.empty))
        name, plan = f"{one.spec.name}, {kind}", test.plan(args.iterations)
        starts = starts_of(test, args.weights if kind == NETWORK else None, bare)
        empty[name] = gather_empty(test.refiner, bare, starts, plan, f"{name}, nothing there")
    confidence, factors = test.refiner.confidence, np.ones(3)
    if args.fit:
        halves = {name: found.image % 2 == 0 for name, found in looked.items()}
        known = [found.of(halves[name]) for name, found in looked.items()]
        evidence, right = (np.concatenate([getattr(one, key) for one in known]) for key in ("evidence", "right"))
        confidence = fit_confidence(evidence, right)
        factors = fitted_factors([one.of(confidence(one.evidence) >= SURE) for one in known])
        looked = {name: found.of(~halves[name]) for name, found in looked.items()}
        write_fitted(args.refiner, args.fit, confidence.numbers, factors)
    if confidence is None:
        raise UserError(f"{args.refiner} has no confidence yet; learn it: --fit FILE")
    heads = ["AUC right/wrong", "AUC present/absent", "ECE", "ECE of present", f"right ones below {DOUBTFUL:g}"]
    rows, plain = [["set", "poses", "right", *heads]], {}
    for name, found in looked.items():
        probability = confidence(found.evidence)
        lost = f"{100 * np.mean(probability[found.right] < DOUBTFUL):.1f} %"
        share = f"{100 * found.right.mean():.0f} %"
        rows.append([name, str(len(found.right)), share, *measures(found, probability), lost])
        bins = reliability(probability[found.present], found.right[found.present])
        plain[name] = {"predicted": bins.predicted.tolist(), "seen": bins.seen.tolist(), "error": bins.error}
    image_error = test.settings.test.refine.image_error
    text = "\n".join([*aligned(rows), "", *aligned(sureness(looked, confidence, factors, image_error))])
    if empty:
        text += "\n\n" + "\n".join(aligned(beliefs(empty, confidence)))
    print(text)
    write_text(args.output / "table.txt", text + "\n")
    write_json(args.output / "reliability.json", finite(plain))
    diagram(args.output / "reliability.png", plain)


def squares(motion: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(N,) squared Mahalanobis distances of motions (N, k)."""
    return np.einsum("ni,ni->n", motion, np.linalg.solve(covariance, motion[..., None])[..., 0])


def fitted_factors(found: Sequence[Looked]) -> np.ndarray:
    """(3,) factors of variances, along, across and of the rotation, for which `FITTED` of the truths are inside.

    First of each part alone, then of all of it.
    """
    motion, covariance = (np.concatenate([getattr(one, key) for one in found]) for key in ("motion", "covariance"))
    there = np.isfinite(motion).all(axis=1)
    motion, covariance = motion[there], covariance[there]

    def factor(part: slice, covariance: np.ndarray) -> float:
        distances = squares(motion[:, part], covariance[:, part, part])
        return float(np.quantile(distances, FITTED) / chdtri(part.stop - part.start, 1 - FITTED))

    across, along, rotation = (factor(part, covariance) for part in PARTS)
    stretch = np.sqrt(np.repeat([across, along, rotation], [2, 1, 3]))
    return np.array([along, across, rotation]) * factor(slice(0, 6), covariance * np.outer(stretch, stretch))


def sureness(
    looked: dict[str, Looked], confidence: Confidence, factors: np.ndarray, image_error: float
) -> list[list[str]]:
    """Of poses that are probably right: how often the truth is inside of ellipsoids, and errors beside deviations."""
    heads = [f"poses of confidence {SURE:g}", *(f"inside {level:.0%}" for level in LEVELS)]
    rows = [["set", *heads, "depth", "across", "rotation"]]
    for name, whole in looked.items():
        found = whole.of(confidence(whole.evidence) >= SURE)
        covariance = found.believed(factors, image_error)
        there = np.isfinite(found.motion).all(axis=1)  # what isn't there is outside of every ellipsoid
        distances = np.full(len(there), np.inf)
        distances[there] = squares(found.motion[there], covariance[there])
        inside = [f"{100 * np.mean(distances < chdtri(6, 1 - level)):.0f} %" for level in LEVELS]
        errors = [np.linalg.norm(found.motion[:, part], axis=1) for part in PARTS]
        deviations = [np.sqrt(covariance[:, part, part].trace(axis1=1, axis2=2)) for part in PARTS]
        across, along, turn = (
            (np.median(error), np.median(deviation)) for error, deviation in zip(errors, deviations, strict=True)
        )
        lengths = [f"{1e3 * error:.1f} mm, σ {1e3 * sigma:.1f} mm" for error, sigma in (along, across)]
        angle = f"{np.degrees(turn[0]):.1f}°, σ {np.degrees(turn[1]):.1f}°"
        rows.append([name, str(len(found.right)), *inside, *lengths, angle])
    return rows


def write_fitted(source: Path, target: Path, numbers: tuple[float, ...], factors: np.ndarray) -> None:
    """A copy of a refiner's file with a model of confidence."""
    network, design = load_refiner(source)
    inflation = tuple(np.clip(factors * design.inflation, *INFLATION).tolist())
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
        found.append(starts.of_model(item.truth.pose, test_set.source.models[item.obj_id], rng))
    return found


def gather(refiner: PoseRefiner, test_set: EvalSet, starts: Sequence[Pose], plan: LookPlan, name: str) -> Looked:
    """Evidence of the set's objects at their starts, and of what isn't there."""
    source = test_set.source
    models = {obj_id: target.model for obj_id, target in source.objects.items()}
    errors = {obj_id: ErrorModel(model, False) for obj_id, model in models.items()}
    numbers = {key: number for number, key in enumerate(sorted({roi_ids(item)[:2] for item in source.items}))}
    evidence, right, present, image, errors_of = [], [], [], [], []
    for item, own in tqdm(list(zip(source.items, starts, strict=True)), desc=name, unit="object"):
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
        found = refiner(pixels, K, [models[obj_id] for obj_id in ids], list(poses), replace(plan, starts=1))
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
            truth, middle = nearest_truth(models[obj_id], truths, one.pose), models[obj_id].middle
            pose, covariance = moved_pose(one.pose, one.covariance, middle)
            truth = None if truth is None else truth.with_origin(middle)
            errors_of.append(in_sight(replace(one, pose=pose, covariance=covariance), truth, K))
    columns = map(np.array, zip(*errors_of, strict=True))
    return Looked(np.array(evidence), np.array(right), np.array(present), np.array(image), *columns)


def gather_empty(
    refiner: PoseRefiner, test_set: EvalSet, starts: Sequence[Pose], plan: LookPlan, name: str
) -> np.ndarray:
    """(N, 10) evidence of poses where nothing is."""
    evidence = []
    for item, own in tqdm(list(zip(test_set.source.items, starts, strict=True)), desc=name, unit="object"):
        model = test_set.source.models[item.obj_id]
        (found,) = refiner(test_set.source.image(item), item.record.K, [model], [own], replace(plan, starts=1))
        evidence += [] if found.evidence is None else [found.evidence]
    return np.array(evidence).reshape(-1, len(EVIDENCE))


def beliefs(empty: dict[str, np.ndarray], confidence: Confidence) -> list[list[str]]:
    """How many poses are believed where nothing is."""
    rows = [["photographs without the objects", "poses", f"of confidence {SURE:g}", f"of {DOUBTFUL:g}", "most"]]
    for name, evidence in empty.items():
        probability = confidence(evidence)
        counts = [str(int((probability >= level).sum())) for level in (SURE, DOUBTFUL)]
        rows.append([name, str(len(evidence)), *counts, f"{probability.max(initial=0):.2f}"])
    return rows


def nearest_truth(model: ObjectModel, truths: Sequence[Pose], near: Pose) -> Pose | None:
    """Of an image's poses of an object, and their equal ones, the nearest; None without any."""
    equal = [nearest_equal_pose(model, truth, near) for truth in truths]
    return min(equal, key=lambda pose: float(np.linalg.norm(pose.cam_t_obj - near.cam_t_obj)), default=None)


def in_sight(found: RefinedPose, truth: Pose | None, K: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Motion to the truth (6,) and covariance (6, 6) with z along the line of sight, and the metres of a pixel."""
    t = found.pose.cam_t_obj
    R = sight_R_cam(t)
    covariance, pixel = turned_covariance(found.covariance, R), float(np.linalg.norm(t) / focal_length(K))
    if truth is None:
        return np.full(6, np.inf), covariance, pixel
    turn = rotation_log(truth.cam_R_obj @ found.pose.cam_R_obj.T)
    return np.concatenate([R @ (truth.cam_t_obj - t), R @ turn]), covariance, pixel


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
