"""Train a 2D detector on the data of a pose configuration, so that prediction needs only an image and its camera.

DATASETS.TRAIN (and TRAIN2) give the images, annotated or rendered from models, DATASETS.OBJS the objects. The trained
detector is scored on DATASETS.TEST by COCO's AP; its detections there are a file for DATASETS.DET_FILES_TEST.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from sopose.core.bop.models import load_models
from sopose.core.bop.records import ImageRecord
from sopose.core.bop.scene import load_split, read_image_size
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.bop.targets import Target
from sopose.core.data.loader import JoinedSource, MixedSource, SampleSource
from sopose.core.detection.data import CadDetectionSource, DetectionAugmentation, DetectionSource
from sopose.core.detection.evaluate import detect_images, report
from sopose.core.detection.facts import DetectorDesign, DetectorFacts
from sopose.core.detection.infer import Detector
from sopose.core.detection.labels import Labeler
from sopose.core.detection.model import build_detector, stage_indices
from sopose.core.detection.training import TrainingOptions, build_trainer
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import launched_world, select_device
from sopose.core.engine.random_state import seed_everything
from sopose.core.engine.run_record import record_start
from sopose.core.engine.signals import StopSignals
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import remove_parts, require_writable_dir
from sopose.data.build import build_augmentation, build_backgrounds, class_indices, class_names
from sopose.data.build_cad import build_scene_options, cad_camera, split_to_learn
from sopose.data.eval_set import evaluation_targets
from sopose.models.backbone import LITE0_NAME, LITE0_PACKAGE, leading_modules, make_backbone
from sopose.settings import Settings, load_settings, save_settings
from sopose.settings.groups import CadSettings, DatasetSettings, InputSettings

logger = logging.getLogger(__name__)
EXAMPLES = """examples:
  python tools/train_detector.py --config-file configs/gdrn_selfocc/toy/from_cad.py --output output/detector/toy
  python tools/train_detector.py --config-file configs/gdrn_selfocc/lmo/cad_only.py --output output/detector/lmo \\
      --epochs 30 --size 640 --opts DATASETS.ROOT=path/to/bop INPUT.BG_IMGS_ROOT=path/to/photos
  python gdrn_selfocc_modeling/main_gdrn.py --config-file configs/gdrn_selfocc/toy/demo.py --eval-only \\
      --opts TEST.TEST_BBOX_TYPE=est DATASETS.DET_FILES_TEST=[output/detector/toy/toy_test/detections.json]

Ctrl-C writes a checkpoint; --resume goes on from it with the same bits.
"""
FINAL = "detector.safetensors"
LARGEST_SIDE = 640  # of an input whose size is not given
LEAST_VISIBLE = 0.1  # of an object that is learned; scores ignore what is less visible
FROZEN_STAGES = 2  # of a pretrained backbone: their features are general, and half of a step's time


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=Path, required=True, help="a pose configuration, .py, .yaml or .json")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="(default 20)")
    parser.add_argument("--batch-size", type=int, default=4, metavar="B", help="images of a step (default 4)")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of AdamW (default 0.002)")
    parser.add_argument(
        "--size", type=int, metavar="PX", help="longer side of the input (default: that of the images, at most 640)"
    )
    parser.add_argument("--backbone", default=LITE0_NAME, help=f"a model of timm (default {LITE0_NAME})")
    parser.add_argument(
        "--pretrained",
        metavar="FROM",
        help=f"the backbone's first weights: none, timm (downloaded), a file, or {LITE0_PACKAGE}, the default where "
        "that package is installed",
    )
    parser.add_argument("--objects-per-image", type=int, nargs=2, default=(3, 10), metavar=("LOW", "HIGH"))
    parser.add_argument("--no-mirror", action="store_true", help="for objects that are mirror images of each other")
    parser.add_argument("--workers", type=int, metavar="N", help="(default: DATALOADER.NUM_WORKERS)")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another run (default 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --output")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY=VALUE", help="override configuration keys")
    args = parser.parse_args(argv)
    if min(args.epochs, args.batch_size) < 1 or args.lr <= 0 or args.seed < 0 or (args.workers or 0) < 0:
        parser.error("--epochs and --batch-size must be at least 1, --lr above 0, --seed and --workers not below 0")
    return args


@dataclass(frozen=True, eq=False)
class TestSplit:
    """A split to score on; `obj_ids` are its ids of the detector's objects, by name."""

    spec: SplitSpec
    records: list[ImageRecord]
    targets: list[Target]
    obj_ids: dict[str, int]


def main(argv: list[str] | None = None) -> None:
    """Train, then evaluate."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if launched_world().size > 1:
        raise UserError("a detector is trained by one process; start it without torchrun")
    settings = load_settings(args.config_file, args.opts)
    resumed = last_checkpoint(args.output) is not None
    if resumed and not args.resume:
        raise UserError(f"{args.output} holds a run already; add --resume to go on, or name another --output")
    require_writable_dir(args.output)
    device = select_device(settings.model.device)
    with StopSignals() as signals:
        seed_everything(args.seed)
        names = class_names(settings.datasets)
        test_splits = build_test_splits(settings.datasets, settings.val.targets_filename, names)
        specs = _training_specs(settings.datasets)
        design = DetectorDesign(args.size or _input_side(settings.cad, specs[0]), args.backbone)
        facts = build_facts(names, specs, design)
        source = build_source(settings, args, facts)
        network = build_network(args, facts, start_anew=not resumed).to(device, memory_format=torch.channels_last)
        options = training_options(args, settings.dataloader.num_workers)
        options = replace(options, max_skipped=settings.train.max_skipped, picture_period=settings.vis_period)
        trainer = build_trainer(network, source, facts, options, args.output, args.resume, signals.asked)
        remove_parts(args.output)
        save_settings(settings, args.output / "config.py")
        record_start(args.output, {"iteration": trainer.iteration, "seed": args.seed, "images": len(source)}, device)
        with signals.deferred():
            finished = trainer.train()
        if not finished:
            logger.warning("stopped after iteration %d; go on with --resume", trainer.iteration)
            signals.leave()
        Detector(network, facts, device).save(args.output / FINAL)
        detector = Detector.from_checkpoint(args.output / FINAL, device)
        print(f"detector   {args.output / FINAL}")
        for split in test_splits:
            evaluate(detector, split, args.output)


def evaluate(detector: Detector, split: TestSplit, output: Path) -> None:
    """Score the detector on a split; the files go to a folder of the split's name."""
    folder = output / split.spec.name.replace("/", "-").replace(":", "-")
    print(f"\n{split.spec.name}: {len(split.records)} images")
    detections = detect_images(detector, split.records, split.obj_ids)
    if split.spec.scene_is_object:  # its other objects are not annotated
        detections = [item for item in detections if item.obj_id == item.scene_id]
    names = {obj_id: name for name, obj_id in split.obj_ids.items()}
    report(detections, split.records, split.targets, names, folder)


def build_test_splits(datasets: DatasetSettings, targets_filename: str, names: Sequence[str]) -> list[TestSplit]:
    """The splits of DATASETS.TEST with the objects `names` that are trained."""
    splits = []
    for name in datasets.test:
        spec = resolve_split(name, Path(datasets.root))
        obj_ids = {spec.object_names[obj_id]: obj_id for obj_id in class_indices(names, spec)}
        records = load_split(spec, obj_ids.values())
        targets = evaluation_targets(targets_filename, spec, records, obj_ids.values())
        splits.append(TestSplit(spec, records, targets, obj_ids))
    return splits


def _training_specs(datasets: DatasetSettings) -> list[SplitSpec]:
    if not datasets.train:
        raise UserError("DATASETS.TRAIN is empty; name at least one split, such as lmo_cad or toy_train")
    return [split_to_learn(datasets, name) for name in datasets.train]


def _input_side(cad: CadSettings, spec: SplitSpec) -> int:
    """The longer side of a split's images, pixels, at most `LARGEST_SIDE`."""
    if spec.kind == "cad":
        return min(max(cad_camera(cad, spec.root)[1]), LARGEST_SIDE)
    return min(max(read_image_size(load_split(spec)[0], spec.root)), LARGEST_SIDE)


def build_facts(names: Sequence[str], specs: list[SplitSpec], design: DetectorDesign) -> DetectorFacts:
    """The objects by the ids that the first training split with them has."""
    known: dict[str, int] = {}
    for spec in specs:
        known = {name: obj_id for obj_id, name in spec.object_names.items()} | known
    absent = [name for name in names if name not in known]
    if absent:
        raise UserError(f"no split of DATASETS.TRAIN has {', '.join(absent)}; correct DATASETS.OBJS or TRAIN")
    return DetectorFacts(tuple(names), tuple(known[name] for name in names), design)


def build_source(settings: Settings, args: argparse.Namespace, facts: DetectorFacts) -> SampleSource:
    """DATASETS.TRAIN joined, mixed with TRAIN2 by TRAIN2_RATIO."""
    images, cad, datasets, side = settings.input, settings.cad, settings.datasets, facts.design.side
    backgrounds, min_visib = build_backgrounds(images), max(settings.dataloader.filter_visib_thr, LEAST_VISIBLE)

    def source_of(name: str) -> SampleSource:
        spec = split_to_learn(datasets, name)
        classes, models = class_indices(facts.objects, spec), load_models(spec.models_dir, names=spec.object_names)
        labeler = Labeler(classes, {obj_id: model.caster for obj_id, model in models.items()}, min_visib)
        common = (detection_augmentation(images, cad, args, spec), backgrounds)
        if spec.kind == "cad":
            crowd = CrowdRange(tuple(args.objects_per_image), gap=cad.gap)
            options = build_scene_options(cad, datasets, cad_camera(cad, spec.root), crowd)
            # EPOCH_LENGTH counts objects.
            count = max(cad.epoch_length * 2 // sum(args.objects_per_image), args.batch_size)
            return CadDetectionSource(models, labeler, options, side, count, *common)
        source = DetectionSource(load_split(spec, classes), labeler, side, *common)
        if not len(source):
            raise UserError(f"'{spec.name}' has no object to learn; lower DATALOADER.FILTER_VISIB_THR or change OBJS")
        return source

    def join(names: Sequence[str]) -> SampleSource:
        sources = [source_of(name) for name in names]
        return sources[0] if len(sources) == 1 else JoinedSource(sources)

    first = join(datasets.train)
    if not datasets.train2 or datasets.train2_ratio == 0:
        return first
    return MixedSource(first, join(datasets.train2), datasets.train2_ratio)


def detection_augmentation(
    images: InputSettings, cad: CadSettings, args: argparse.Namespace, spec: SplitSpec
) -> DetectionAugmentation:
    """The configuration's colours and backgrounds, and the detector's own zoom."""
    given = build_augmentation(images, cad, spec.kind)
    # Where a scene has annotations of one object alone, the others in it would be taught to be nothing.
    unlabelled = spec.scene_is_object and len(spec.object_names) > 1
    return DetectionAugmentation(
        mirror_prob=0.0 if args.no_mirror else 0.5,
        color=given.color,
        color_prob=given.color_prob,
        change_bg_prob=1.0 if unlabelled else given.change_bg_prob,
    )


def build_network(args: argparse.Namespace, facts: DetectorFacts, start_anew: bool) -> nn.Module:
    """The network with the backbone's first weights; a run that is resumed reads its own later."""
    pretrained = args.pretrained or _default_weights(args.backbone)
    indices = stage_indices(args.backbone)
    features = make_backbone(f"timm/{args.backbone}", indices, pretrained=pretrained if start_anew else "none")
    frozen = [] if pretrained == "none" else leading_modules(features, FROZEN_STAGES)
    return build_detector(len(facts.objects), facts.design, features, frozen)


def _default_weights(backbone: str) -> str:
    if backbone == LITE0_NAME and find_spec(LITE0_PACKAGE) is not None:
        return LITE0_PACKAGE
    logger.warning("the backbone starts from random weights, which takes many more images; see --pretrained")
    return "none"


def training_options(args: argparse.Namespace, workers: int) -> TrainingOptions:
    """How the detector learns; `workers` where the command line says nothing of them."""
    workers = workers if args.workers is None else args.workers
    return TrainingOptions(args.epochs, args.batch_size, args.lr, seed=args.seed, workers=workers)


if __name__ == "__main__":
    run_cli(main)
