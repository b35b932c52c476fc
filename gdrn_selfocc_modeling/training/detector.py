"""A 2D detector on the data of a pose configuration: its objects, its images, its first weights, its score."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import nn
from tqdm import tqdm

from sopose.core.bop.models import load_models
from sopose.core.bop.records import ImageRecord
from sopose.core.bop.scene import load_split, read_image_size
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.bop.targets import Target, with_truth
from sopose.core.bop.unseen import with_unseen
from sopose.core.data.sources import SampleSource, mixed_sources
from sopose.core.detection.data import CadDetectionSource, DetectionAugmentation, DetectionSource
from sopose.core.detection.evaluate import detect_images, report
from sopose.core.detection.facts import USUAL_THRESHOLD, DetectorDesign, DetectorFacts
from sopose.core.detection.infer import Detector
from sopose.core.detection.labels import Labeler
from sopose.core.detection.model import build_detector, stage_indices
from sopose.core.detection.sample import DetectionSample
from sopose.core.detection.threshold import RANGE, Threshold, choose_threshold, scores_of_nothing, scores_of_objects
from sopose.core.making.parts import PartRange, plain_part
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.many_objects import CrowdRange
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import M_TO_MM
from sopose.data.build import build_augmentation, build_backgrounds, class_indices
from sopose.data.build_cad import build_scene_options, cad_camera, split_to_learn
from sopose.data.eval_set import evaluation_targets
from sopose.models.backbone import LITE0_NAME, LITE0_PACKAGE, leading_modules, make_backbone
from sopose.settings import Settings
from sopose.settings.groups import CadSettings, DatasetSettings, InputSettings

logger = logging.getLogger(__name__)
LARGEST_SIDE = 640  # of an input whose size is not given
LEAST_VISIBLE = 0.1  # of an object that is learned; scores ignore what is less visible
HELD_OUT = 10  # each so many-th photograph is kept for choosing the threshold
STRANGERS = (101, 202)  # seeds of the parts that images have beside the objects: in training, and held out
STRANGE_PARTS = 12
TRIED = 400  # images that a threshold is chosen on
FROZEN_STAGES = 2  # of a pretrained backbone: their features are general, and half of a step's time


@dataclass(frozen=True)
class DetectorData:
    """What of a detector's training images the configuration of poses does not say."""

    objects_per_image: tuple[int, int] = (3, 10)  # of rendered ones
    mirror: bool = True  # False for objects that are mirror images of each other
    least: int = 1  # rendered images of an epoch
    empty_share: float = 0.2  # of images that hold none of the objects; of rendered ones half have others in them


@dataclass(frozen=True, eq=False)
class DetectionSplit:
    """A split to score on; `obj_ids` are its ids of the detector's objects, by name."""

    spec: SplitSpec
    records: list[ImageRecord]
    targets: list[Target]
    obj_ids: dict[str, int]


def evaluate_detector(detector: Detector, split: DetectionSplit, output: Path) -> None:
    """Score the detector on a split; the files go to a folder of the split's name."""
    folder = output / split.spec.name.replace("/", "-").replace(":", "-")
    print(f"\n{split.spec.name}: {len(split.records)} images")
    detections = detect_images(detector, split.records, split.obj_ids)
    if split.spec.scene_is_object:  # its other objects are not annotated
        detections = [item for item in detections if item.obj_id == item.scene_id]
    names = {obj_id: name for name, obj_id in split.obj_ids.items()}
    report(detections, split.records, split.targets, names, folder)


def build_test_splits(datasets: DatasetSettings, targets_filename: str, names: Sequence[str]) -> list[DetectionSplit]:
    """The splits of DATASETS.TEST with the objects `names` that are trained."""
    splits = []
    for name in datasets.test:
        spec = resolve_split(name, Path(datasets.root))
        obj_ids = {spec.object_names[obj_id]: obj_id for obj_id in class_indices(names, spec)}
        records = with_unseen(load_split(spec, obj_ids.values()), spec)
        targets = evaluation_targets(targets_filename, spec, records, obj_ids.values())
        splits.append(DetectionSplit(spec, records, with_truth(targets, records), obj_ids))
    return splits


def training_specs(datasets: DatasetSettings) -> list[SplitSpec]:
    """The splits of DATASETS.TRAIN. Raises `UserError` without any."""
    if not datasets.train:
        raise UserError("DATASETS.TRAIN is empty; name at least one split, such as lmo_cad or toy_train")
    return [split_to_learn(datasets, name) for name in datasets.train]


def input_side(cad: CadSettings, spec: SplitSpec) -> int:
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


def build_source(settings: Settings, data: DetectorData, facts: DetectorFacts, held_out: bool = False) -> SampleSource:
    """DATASETS.TRAIN joined, mixed with TRAIN2 by TRAIN2_RATIO.

    held_out: with the photographs and the strange objects that training never sees, to choose a threshold by. Where
    there are fewer than `HELD_OUT` photographs, or none, backgrounds are those of training.
    """
    images, cad, datasets, side = settings.input, settings.cad, settings.datasets, facts.design.side
    min_visib = max(settings.dataloader.filter_visib_thr, LEAST_VISIBLE)
    backgrounds = build_backgrounds(images).parted(HELD_OUT)[int(held_out)]

    def source_of(name: str) -> SampleSource:
        """The samples of one split."""
        spec = split_to_learn(datasets, name)
        classes, models = class_indices(facts.objects, spec), load_models(spec.models_dir, names=spec.object_names)
        labeler = Labeler(classes, models, min_visib)
        augmentation = detection_augmentation(images, cad, data, spec)
        if spec.kind == "cad":
            others = strangers(models, STRANGERS[int(held_out)]) if data.empty_share > 0 else {}
            augmentation = replace(augmentation, empty_prob=data.empty_share / 2)
            crowd = CrowdRange(
                data.objects_per_image,
                gap=cad.gap,
                strangers=frozenset(others),
                alone_prob=data.empty_share / 2 / (1 - data.empty_share / 2),  # of those that are rendered
            )
            options = build_scene_options(cad, datasets, cad_camera(cad, spec.root), crowd)
            # EPOCH_LENGTH counts objects.
            count = max(cad.epoch_length * 2 // sum(data.objects_per_image), data.least)
            return CadDetectionSource(models | others, labeler, options, side, count, augmentation, backgrounds)
        common = augmentation, backgrounds
        source = DetectionSource(load_split(spec, classes), labeler, side, *common)
        if not len(source):
            raise UserError(f"'{spec.name}' has no object to learn; lower DATALOADER.FILTER_VISIB_THR or change OBJS")
        return source

    return mixed_sources(source_of, datasets.train, datasets.train2, datasets.train2_ratio)


def detection_augmentation(
    images: InputSettings, cad: CadSettings, data: DetectorData, spec: SplitSpec
) -> DetectionAugmentation:
    """The configuration's colours and backgrounds, and the detector's own zoom."""
    given = build_augmentation(images, cad, spec.kind)
    # Where a scene has annotations of one object alone, the others in it would be taught to be nothing.
    unlabelled = spec.scene_is_object and len(spec.object_names) > 1
    return DetectionAugmentation(
        mirror_prob=0.5 if data.mirror else 0.0,
        color=given.color,
        color_prob=given.color_prob,
        change_bg_prob=1.0 if unlabelled else given.change_bg_prob,
        empty_prob=data.empty_share,
    )


def strangers(models: Mapping[int, ObjectModel], seed: int) -> dict[int, ObjectModel]:
    """Generated parts about as large as some objects, by ids that none of them has."""
    size = M_TO_MM * float(np.median([model.diameter for model in models.values()]))
    drawn = PartRange(diameter=(size / 2, 2 * size))
    ids = range(max(models) + 1, max(models) + 1 + STRANGE_PARTS)
    return {obj_id: replace(plain_part(seed, obj_id, drawn).model, obj_id=obj_id) for obj_id in ids}


@dataclass(frozen=True, eq=False)
class Trial:
    """What a threshold is chosen on."""

    objects: SampleSource  # images with objects
    nothing: SampleSource  # images without any
    least: float  # threshold that may be chosen


def build_trial(settings: Settings, data: DetectorData, facts: DetectorFacts) -> Trial:
    """Images of both kinds as training has them, with what it never saw where there is such; see `build_source`."""
    sources = (build_source(settings, replace(data, empty_share=share), facts, held_out=True) for share in (0.0, 1.0))
    has_photographs = len(build_backgrounds(settings.input).paths) >= HELD_OUT
    return Trial(*sources, RANGE[0] if has_photographs else USUAL_THRESHOLD)


def choose_detector_threshold(detector: Detector, trial: Trial, seed: int, learned: int) -> Threshold:
    """The threshold that as many images with objects as without suggest; where few were learned, no more than that."""
    each = max(min(TRIED, learned) // 2, 1)
    with tqdm(total=2 * each, desc="threshold", unit="image") as bar:

        def samples(source: SampleSource) -> Iterator[DetectionSample]:
            for number in range(each):
                rng = np.random.default_rng([seed, HELD_OUT, number])
                yield source.sample(int(rng.integers(len(source))), rng)
                bar.update()

        nothing = scores_of_nothing(detector, samples(trial.nothing))
        return choose_threshold(nothing, scores_of_objects(detector, samples(trial.objects)), trial.least)


def build_network(facts: DetectorFacts, pretrained: str | None, start_anew: bool) -> nn.Module:
    """The network with the backbone's first weights; a run that is resumed reads its own later.

    `pretrained` as in `make_backbone`; None takes the weights of an installed package where they are the backbone's.
    """
    backbone = facts.design.backbone
    pretrained = pretrained or _default_weights(backbone)
    first = pretrained if start_anew else "none"
    features = make_backbone(f"timm/{backbone}", stage_indices(backbone), pretrained=first)
    frozen = [] if pretrained == "none" else leading_modules(features, FROZEN_STAGES)
    return build_detector(len(facts.objects), facts.design, features, frozen)


def _default_weights(backbone: str) -> str:
    if backbone == LITE0_NAME and find_spec(LITE0_PACKAGE) is not None:
        return LITE0_PACKAGE
    logger.warning("the backbone starts from random weights, which takes many more images; see --pretrained")
    return "none"
