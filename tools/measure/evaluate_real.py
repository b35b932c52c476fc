"""What a network trained on renderings reaches on real images and on renderings it has not seen, and what limits it.

Boxes are the ground truth's. Each set is scored with the network's poses and with poses by PnP from its maps, and again
with one part of each pose put right: the part whose correction raises the score most is what holds it back. For each
there is a picture of cases from best to worst. The network runs once for all ways to a pose; what it predicted is
kept in --output, and scores and pictures are made from that (--report-only: again, without the network). It sees each
box once, whatever TEST.ROLLS says.

With --twins the real images are rendered as well: once all of it (twins), and once the wanted objects alone, pasted
into the photographs (pasted). Poses and boxes stay. Where pasted objects do better than real ones, it is their looks
that the training lacks.

Of several --weights, the checkpoints of a run, there is also curve.png: scores over the iteration.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from sopose.core.bop.records import ImageRecord
from sopose.core.bop.results import Estimate
from sopose.core.bop.scene import load_split, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.engine.distributed import select_device
from sopose.core.evaluation.evaluator import evaluate
from sopose.core.evaluation.pose_parts import CORRECTIONS, ErrorParts, error_parts
from sopose.core.evaluation.scores import Scores, finite
from sopose.core.images.files import write_image
from sopose.core.synthesis.photo_twins import render_twin
from sopose.core.synthesis.scenes import SceneDrawer
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import atomic_path, distinct_names, require_writable_dir, write_json, write_text
from sopose.core.utils.folder_lock import FolderLock
from sopose.core.vis.colors import PALETTE
from sopose.core.vis.plots import plot_png
from sopose.data.build import ObjectCache, build_backgrounds
from sopose.data.build_cad import build_scene_options
from sopose.data.build_split import RenderedSplit, render_split
from sopose.data.eval_set import EvalSet
from sopose.inference.evaluation import build_plan, build_test_sets, build_trained_model, inference_plan
from sopose.inference.pose_solver import build_pose_solver
from sopose.inference.predict import predict
from sopose.inference.predictions import read_predictions, require_rois, write_predictions
from sopose.settings import Settings, load_settings
from sopose.settings.groups import CadSettings, DatasetSettings, InputSettings
from sopose.vis.best_to_worst import draw_best_to_worst

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLE = """examples:
  python tools/measure/evaluate_real.py --config-file configs/gdrn_selfocc/lmo/cad_only_cpu.py \\
      --weights model.safetensors --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
  python tools/measure/evaluate_real.py --config-file configs/gdrn_selfocc/lmo/cad_only_cpu.py \\
      --weights model.safetensors --methods direct --images 0 --opts DATASETS.ROOT=path/to/bop

The renderings are made once, in --held-out, from the configuration's group CAD and a seed that training doesn't use;
twins are made anew in --output.
"""
METHODS = {
    "direct": ["TEST.USE_PNP=False"],
    "pnp": ["TEST.USE_PNP=True", "TEST.PNP_TYPE=ransac_pnp", "TEST.PNP_LAYERS=P"],
    "pnp, P and Q": ["TEST.USE_PNP=True", "TEST.PNP_TYPE=ransac_pnp", "TEST.PNP_LAYERS=P+Q"],
    "direct + pnp": ["TEST.USE_PNP=True", "TEST.PNP_TYPE=net_iter_pnp", "TEST.PNP_LAYERS=P"],
}
SPLIT, SEED = "held_out", 999_983  # of the renderings
METRICS = ("add", "pose")
RECALL = "ad_0.10"
CASES = 12  # of an object's picture
KINDS = ("rendered", "pasted")  # of twins, by the fields of `Twin`


@dataclass(frozen=True)
class Row:
    """Scores of one set of images by one method."""

    weights: str
    images: str
    method: str
    scores: dict[str, dict[str, float]]  # correction -> name of score -> value, of the mean over objects
    parts: ErrorParts


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="the configuration that was trained")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, help=".safetensors, .pth or .onnx with maps")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="(default: all)")
    parser.add_argument("--images", type=int, default=100, help="renderings; 0: real images alone (default: 100)")
    parser.add_argument("--twins", action="store_true", help="render the real images, too")
    parser.add_argument("--held-out", type=Path, default=Path("output/held_out"), help="folder of the renderings")
    parser.add_argument("--output", type=Path, default=Path("output/evaluate_real"), help="for table.md, scores.json")
    parser.add_argument("--report-only", action="store_true", help="of the predictions that --output keeps")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if args.images < 0:
        parser.error("--images must be at least 0")
    return args


def main(argv: list[str] | None = None) -> None:
    """Score, print the table, write it."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    require_writable_dir(args.output)
    with FolderLock(args.output) as lock:
        sets = image_sets(args)
        lock.take()
        compare(args, sets)


def compare(args: argparse.Namespace, sets: Mapping[str, ImageSet]) -> None:
    """Predict, score, print and write."""
    if not args.report_only:
        for images, image_set in sets.items():
            write_all_predictions(args, images, image_set)
    rows = [row for images, image_set in sets.items() for row in score(args, images, image_set)]
    table = format_rows(rows)
    print(table)
    write_text(args.output / "table.md", table + "\n")
    write_json(args.output / "scores.json", finite([asdict(row) for row in rows]))
    if len(args.weights) > 1:
        with atomic_path(args.output / "curve.png") as beside:
            beside.write_bytes(plot_png(partial(draw_curve, rows=rows)))
    print(f"\nwritten to {args.output}: table.md, scores.json, predictions, pictures")


@dataclass(frozen=True)
class ImageSet:
    """What to test on."""

    words: list[str]  # overrides that choose the split
    twins: Path | None = None  # folder of images that take the place of the split's own


def image_sets(args: argparse.Namespace) -> dict[str, ImageSet]:
    """The sets of images by their names; the renderings are made where they aren't yet."""
    boxes = ["TEST.TEST_BBOX_TYPE=gt", "TEST.BBOX_JITTER=0.0"]
    settings = load_settings(args.config_file, args.opts)
    if not settings.datasets.test:
        raise UserError("DATASETS.TEST is empty; name the split of real images")
    sets = {"real": ImageSet(boxes)}
    if args.twins:
        if not args.report_only:
            cache = ObjectCache(settings.datasets, settings.model.pose_net)
            write_twins(settings.cad, settings.datasets, settings.input, cache, args.output / "twins")
        names = {"rendered": "twins", "pasted": "pasted"}
        sets |= {names[kind]: ImageSet(boxes, args.output / "twins" / kind) for kind in KINDS}
    if args.images:
        # Floating objects turn any way; a network that learns those seen from above is asked for no others.
        floating = 0.0 if settings.cad.rotations != "uniform" else RenderedSplit.floating
        split = RenderedSplit(
            name=SPLIT,
            images=args.images,
            images_per_scene=args.images,
            floating=floating,
            seed=SEED,
            photos=settings.input.bg_imgs_root,
            photos_left_out=settings.input.bg_left_out,
        )
        render_split(settings.cad, settings.datasets, split, args.held_out)
        sets["rendered"] = ImageSet([*boxes, f"DATASETS.TEST=[{args.held_out.absolute()}:{SPLIT}]"])
    return sets


def write_twins(
    cad: CadSettings, datasets: DatasetSettings, images: InputSettings, cache: ObjectCache, folder: Path
) -> None:
    """Render the test images' twins into folders of their kinds, each drawn by the seed and its number alone."""
    # Each twin has the camera of its photograph.
    options = build_scene_options(cad, datasets, (np.eye(3), (0, 0)))
    backgrounds = build_backgrounds(images)
    for name in datasets.test:
        spec = resolve_split(name, Path(datasets.root))
        objects = cache.get(spec)
        drawer = SceneDrawer(objects.models, options, backgrounds)
        for record in tqdm(load_split(spec, objects.trained), desc=f"twins of {name}", unit="image"):
            if record.instances:
                rng = np.random.default_rng([SEED, record.scene_id, record.im_id])
                twin = render_twin(read_rgb(record), record, drawer, rng)
                for kind in KINDS:
                    write_image(twin_path(folder / kind, name, record), getattr(twin, kind))


def twin_path(folder: Path, split: str, record: ImageRecord) -> Path:
    """Where the twin of an image is."""
    return folder / re.sub("[/:]", "-", split) / f"{record.scene_id:06d}_{record.im_id:06d}.png"


def with_twins(split: EvalSet, folder: Path) -> EvalSet:
    """The same split with twins for its images."""
    items = [
        replace(item, record=replace(item.record, rgb_path=twin_path(folder, split.spec.name, item.record)))
        for item in split.source.items
    ]
    return replace(split, source=split.source.of_items(items))


def write_all_predictions(args: argparse.Namespace, images: str, image_set: ImageSet) -> None:
    """Run every network once over a set of images, and keep its poses by each method."""
    settings = {name: method_settings(args, image_set, name) for name in args.methods}
    first = settings[args.methods[0]]
    device, plan = select_device(first.model.device), build_plan(first)
    for label, weights in weights_by_label(args).items():
        model, cache = build_trained_model(first, weights, device, with_maps=plan.report_cases > 0)
        solvers = {name: build_pose_solver(own.test, plan.net) for name, own in settings.items()}
        for name, split in open_splits(first, images, image_set, cache).items():
            found = predict(model, split, solvers, inference_plan(plan), device)
            for method, predictions in found.items():
                kept = replace(predictions, facts={"weights": str(weights), "images": name, "poses": method})
                write_predictions(kept_path(args.output, label, name, method), kept)


def method_settings(args: argparse.Namespace, image_set: ImageSet, method: str) -> Settings:
    """The configuration of a way to a pose on a set of images."""
    return load_settings(args.config_file, [*args.opts, *image_set.words, *METHODS[method]])


def open_splits(
    settings: Settings, images: str, image_set: ImageSet, trained: ObjectCache | None = None
) -> dict[str, EvalSet]:
    """The splits of a set of images by the names of their rows; trained: the objects as a network knows them."""
    known = {} if trained is None else {"classes": trained.classes, "centered": trained.centered}
    splits = build_test_sets(settings, ObjectCache(settings.datasets, settings.model.pose_net, **known))
    if image_set.twins is not None:
        splits = [with_twins(split, image_set.twins) for split in splits]
    return {images if len(splits) == 1 else f"{images}, {split.spec.name}": split for split in splits}


def weights_by_label(args: argparse.Namespace) -> dict[str, Path]:
    """The checkpoints by their names, which differ."""
    return {label: path for path, label in distinct_names(args.weights).items()}


def kept_path(output: Path, label: str, name: str, method: str) -> Path:
    """Where the predictions behind a row are; its picture is beside them."""
    words = re.findall(r"\w+", f"{name} {method}")
    return output / f"{'-'.join([label, *words])}.npz"


def score(args: argparse.Namespace, images: str, image_set: ImageSet) -> list[Row]:
    """Rows of a set of images, from the predictions that are kept; their pictures are written."""
    settings = method_settings(args, image_set, args.methods[0])
    splits = open_splits(settings, images, image_set)
    rows = []
    for method, label in product(args.methods, weights_by_label(args)):
        for name, split in splits.items():
            path = kept_path(args.output, label, name, method)
            predictions = read_predictions(path)
            require_rois(predictions, split.source, path)
            estimates, symmetric = predictions.estimates, split.symmetric_ids(settings.datasets.sym_objs)
            rows.append(Row(label, name, method, *score_split(estimates, split, symmetric)))
            picture = draw_best_to_worst(split, estimates, symmetric, CASES)
            write_image(path.with_suffix(".jpg"), picture)
    return rows


def score_split(
    estimates: Sequence[Estimate], split: EvalSet, symmetric: Collection[int]
) -> tuple[dict[str, dict[str, float]], ErrorParts]:
    """Scores of poses in ground-truth boxes, as they are and with each part put right; and the errors' parts."""
    truths = [item.truth.pose for item in split.source.items]
    found = {}
    for name, correct in CORRECTIONS.items():
        corrected = [
            replace(estimate, pose=correct(estimate.pose, truth))
            for estimate, truth in zip(estimates, truths, strict=True)
        ]
        found[name] = mean_scores(score_of(corrected, split, symmetric))
    return found, error_parts([estimate.pose for estimate in estimates], truths)


def score_of(estimates: Sequence[Estimate], split: EvalSet, symmetric: Collection[int]) -> Scores:
    """Errors and recalls of estimates on a split; objects of the ids `symmetric` are scored by ADD-S."""
    return evaluate(estimates, split.records, split.targets, split.models_eval, symmetric, metrics=METRICS)


def mean_scores(scores: Scores) -> dict[str, float]:
    """Means over objects of recalls and of median errors, and the interval of ADD(-S)."""
    medians = ("re_deg", "te_cm")
    low, high = scores.mean_intervals[RECALL]
    return {**scores.mean, "targets": scores.targets, "low": low, "high": high} | {
        key: sum(row.values[key] for row in scores.objects) / len(scores.objects) for key in medians
    }


def draw_curve(axes: Axes, rows: Sequence[Row]) -> None:
    """ADD(-S) over the iteration in the weights' names, or over their place: a line for each set and method."""
    names = list(dict.fromkeys(row.weights for row in rows))
    numbers = [re.search(r"(\d+)$", name) for name in names]
    numbered = all(numbers)
    places = [int(number[1]) for number in numbers] if numbered else list(range(len(names)))
    for index, method in enumerate(dict.fromkeys(row.method for row in rows)):
        for style, images in zip(("-", "--", "-.", ":"), dict.fromkeys(row.images for row in rows), strict=False):
            chosen = [row for row in rows if (row.method, row.images) == (method, images)]
            values = [100 * row.scores["as estimated"][RECALL] for row in chosen]
            label = f"{images}, {method}"
            axes.plot(places, values, style, color=PALETTE[index], marker="o", markersize=3, label=label)
    axes.set(xlabel="iteration" if numbered else "weights", ylabel="ADD(-S) 0.1 d, %", ylim=(0, None))
    axes.legend(fontsize=7, ncols=2)


def format_rows(rows: Sequence[Row]) -> str:
    """Two markdown tables: scores, and what they would be with a part put right."""
    headings = ["weights", "images", "poses", "targets", "ADD(-S) 0.1 d, 95 %", "5° 5 cm", "rotation", "translation"]
    headings += ["depth", "across", "depth bias"]
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    for row in rows:
        now, parts = row.scores["as estimated"], row.parts
        lines.append(
            f"| {row.weights} | {row.images} | {row.method} | {now['targets']} | "
            f"{100 * now[RECALL]:.1f} % ({100 * now['low']:.0f} to {100 * now['high']:.0f}) | "
            f"{100 * now['deg_cm_sym_5']:.1f} % | {now['re_deg']:.1f}° | {now['te_cm']:.2f} cm | "
            f"{100 * parts.depth:.2f} cm | {100 * parts.lateral:.2f} cm | {100 * parts.depth_bias:+.2f} cm "
            f"({100 * parts.depth_bias_share:+.1f} %) |"
        )
    names = list(CORRECTIONS)
    lines += ["", f"ADD(-S) 0.1 d | {' | '.join(names)}", "|".join(["---"] * (1 + len(names)))]
    for row in rows:
        values = [f"{100 * row.scores[name][RECALL]:.1f} %" for name in names]
        lines.append(f"{row.weights}, {row.images}, {row.method} | {' | '.join(values)}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_cli(main)
