"""From settings to sources of samples."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from sopose.core.bop.models import INFO_NAME, load_models
from sopose.core.bop.scene import ImageRecord, Instance, load_split
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.bop.unseen import with_unseen
from sopose.core.data.augment import parse_augmentation
from sopose.core.data.color_ops import Augmenter
from sopose.core.data.replay import ReplaySchedule
from sopose.core.data.roi import check_dzi_type
from sopose.core.data.sources import SampleSource, mixed_sources
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.hiding import HidingRange
from sopose.core.synthesis.scenes import SceneDrawer
from sopose.core.utils.errors import UserError, nearest
from sopose.data.build_cad import build_scene_options, cad_camera, split_to_learn
from sopose.data.cad_source import CadSource
from sopose.data.look_source import LookSource, StartRange
from sopose.data.mapper import (
    InstanceSource,
    TrainAugmentation,
    TrainMapper,
    select_instances,
)
from sopose.data.roi_input import RoiFormat, build_roi_format
from sopose.data.targets import TrainedObject, prepare_objects
from sopose.maps.files import MapFiles
from sopose.maps.header import model_hash
from sopose.settings.groups import CadSettings, DatasetSettings, InputSettings, Settings
from sopose.settings.network import PoseNetSettings

logger = logging.getLogger(__name__)

REPLACED_TRUNCATE_PROB = 0.8  # GDR-Net's share of truncated objects where TRUNCATE_FG is on
XYZ_SOURCES = ("online", "files")  # where P and Q of annotated images come from; those of CAD models are cast
# Augmented Autoencoders (Sundermeyer et al., ECCV 2018); the LM-O and YCB-V configurations write it out.
AAE_CODE = (
    "Sequential([Sometimes(0.5, CoarseDropout(p=0.2, size_percent=0.05)), "
    "Sometimes(0.5, GaussianBlur(1.2*np.random.rand())), Sometimes(0.5, Add((-25, 25), per_channel=0.3)), "
    "Sometimes(0.3, Invert(0.2, per_channel=True)), Sometimes(0.5, Multiply((0.6, 1.4), per_channel=0.5)), "
    "Sometimes(0.5, Multiply((0.6, 1.4))), Sometimes(0.5, LinearContrast((0.5, 2.2), per_channel=0.3))])"
)

# ROI-10D (Manhardt et al., CVPR 2019), in any order: brightness, contrast, saturation and lighting.
ROI10D_CODE = (
    "Sequential([Add((-32, 32)), MeanContrast((0.95, 1.05)), Grayscale((-0.05, 0.05)), PCALighting(0.3)], "
    "random_order=True)"
)
COLOR_AUG_CODES = {"aae": AAE_CODE, "roi10d": ROI10D_CODE}


@dataclass(frozen=True, eq=False)
class SplitObjects:
    """A split's models and those of its objects that the network is trained for."""

    models: dict[int, ObjectModel]  # every model of the folder that the split needs
    trained: dict[int, TrainedObject]


class ObjectCache:
    """Models by folder and objects: all that a start reads of them is read once."""

    def __init__(
        self, datasets: DatasetSettings, net: PoseNetSettings, classes: Sequence[str] = (), centered: bool = True
    ) -> None:
        """Nothing is read yet.

        classes: those a network was trained with, in its order; by default the objects of `datasets`. centered:
        whether it knows objects in the frames at their middles, see `TrainedObject`.
        """
        self._datasets, self._net, self._trained, self.centered = datasets, net, classes, centered
        self._loaded: dict[tuple[Path, tuple[int, ...]], SplitObjects] = {}

    @cached_property
    def names(self) -> list[str]:
        """See `class_names`."""
        return class_names(self._datasets)

    @cached_property
    def classes(self) -> list[str]:
        """The network's classes in its order. Raises `UserError` where it has not enough of them."""
        classes = list(self._trained) if self._trained and self._net.class_aware else self.names
        _check_classes(self.names, classes, self._net)
        return classes

    def get(self, spec: SplitSpec) -> SplitObjects:
        key = spec.models_dir, tuple(spec.object_names)  # LM has splits of one object in one folder of models
        if key not in self._loaded:
            self._loaded[key] = self._load(spec)
        return self._loaded[key]

    def _load(self, spec: SplitSpec) -> SplitObjects:
        place = {name: index for index, name in enumerate(self.classes)}
        models = load_models(spec.models_dir, names=spec.object_names)
        chosen = {obj_id: place[spec.object_names[obj_id]] for obj_id in class_indices(self.names, spec)}
        missing = [obj_id for obj_id in chosen if obj_id not in models]
        if missing:
            raise UserError(
                f"{spec.models_dir / INFO_NAME} has no entry for the objects {missing}; complete it, or leave them "
                f"out with DATASETS.OBJS"
            )
        trained = prepare_objects(
            models,
            chosen,
            num_regions=self._net.geo_head.num_regions,
            num_points=self._net.loss_cfg.num_pm_points,
            canonical=self._net.loss_cfg.canonical_sym,
            centered=self.centered,
        )
        return SplitObjects(models, trained)


def build_training_cache(settings: Settings, centered: bool = True) -> ObjectCache:
    """The objects to learn, `centered` where that can be: files of P and Q are in the frames of the models."""
    given = settings.input.xyz_source == "online" and centered
    return ObjectCache(settings.datasets, settings.model.pose_net, centered=given)


def class_names(datasets: DatasetSettings) -> list[str]:
    """Names of the objects that the network knows, in the order of its classes.

    They are DATASETS.OBJS, or where that is empty all objects of the first split of DATASETS.TRAIN, TRAIN2
    and TEST that is there: a trained network can be tested without its training data. Raises `UserError`
    where no split is there, or none has an object of OBJS.
    """
    specs, errors = [], []
    for name in (*datasets.train, *datasets.train2, *datasets.test):
        try:
            specs.append(resolve_split(name, Path(datasets.root)))
        except UserError as error:
            errors.append(error)
    if not specs:
        raise errors[0] if errors else UserError("DATASETS.TRAIN and DATASETS.TEST are empty; name a split")
    known = list(dict.fromkeys(name for spec in specs for name in spec.object_names.values()))
    for name in datasets.objs:
        if name not in known:
            raise UserError(
                f"no data set has the object '{name}' of DATASETS.OBJS{nearest(name, known)} "
                f"(objects: {', '.join(known)})"
            )
    return list(datasets.objs) or list(specs[0].object_names.values())


def _check_classes(names: Sequence[str], classes: Sequence[str], net: PoseNetSettings) -> None:
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UserError(
            f"the class-aware network was not trained for {', '.join(unknown)} (its classes: {', '.join(classes)}); "
            "name some of them in DATASETS.OBJS"
        )
    if net.class_aware and len(classes) > net.num_classes:
        raise UserError(
            f"MODEL.POSE_NET.NUM_CLASSES is {net.num_classes} but the class-aware network has {len(classes)} objects "
            f"({', '.join(classes)}); raise it or name fewer in DATASETS.OBJS"
        )


def class_indices(names: Sequence[str], spec: SplitSpec) -> dict[int, int]:
    """Class index by object id, for the objects of a split among the network's classes `names`."""
    index = {name: place for place, name in enumerate(names)}
    found = {obj_id: index[name] for obj_id, name in spec.object_names.items() if name in index}
    if not found:
        known = ", ".join(spec.object_names.values())
        raise UserError(
            f"'{spec.name}' has none of the objects {', '.join(names)} (it has: {known}); correct DATASETS.OBJS"
        )
    return found


def build_train_dataset(settings: Settings, cache: ObjectCache) -> SampleSource:
    """All training samples: DATASETS.TRAIN joined, mixed with DATASETS.TRAIN2 by TRAIN2_RATIO."""
    given, cad, datasets = settings.input, settings.cad, settings.datasets
    if not datasets.train:
        raise UserError("DATASETS.TRAIN is empty; name at least one split, such as lmo_cad or toy_train")
    _check_xyz_source(given.xyz_source)
    backgrounds, roi_format = build_backgrounds(given), build_roi_format(given, settings.model)

    def source_of(name: str) -> SampleSource:
        """The samples of one split."""
        spec = split_to_learn(datasets, name)
        objects, augmentation = cache.get(spec), build_augmentation(given, cad, spec.kind)
        if spec.kind == "cad":
            drawer = build_scene_drawer(settings, spec, objects, backgrounds)
            replay = _replay(cad, settings.solver.ims_per_batch, share_of(datasets, name))
            return CadSource(objects.trained, drawer, roi_format, augmentation, cad.epoch_length, replay)
        items = _instances(spec, objects, settings.dataloader.filter_visib_thr)
        with_Q = settings.model.pose_net.selfocc_head.enabled
        map_files = None if given.xyz_source == "online" else _map_files(spec, objects, with_Q)
        return InstanceSource(
            items, TrainMapper(objects.trained, objects.models, roi_format, augmentation, backgrounds, map_files)
        )

    return mixed_sources(source_of, datasets.train, datasets.train2, datasets.train2_ratio)


@dataclass(frozen=True, eq=False)
class LookData:
    """What second looks are learned from."""

    source: SampleSource
    objects: list[str]  # names of the objects that are looked at


def build_look_data(settings: Settings) -> LookData:
    """Second looks at rendered scenes of DATASETS.TRAIN's objects, from wrong poses as MODEL.REFINE says.

    Of a split that has some of DATASETS.OBJS those are looked at, of another one all. Raises `UserError` for splits
    that are not rendered from CAD models.
    """
    given, cad, datasets, refine = settings.input, settings.cad, settings.datasets, settings.model.refine
    backgrounds, start = build_backgrounds(given), refine.start
    starts = StartRange(start.rotation, start.depth, start.across, start.factors)
    size = refine.input_res, refine.output_res
    roi_format = RoiFormat(*size, given.format, settings.model.pixel_mean, settings.model.pixel_std)
    if not datasets.train:
        raise UserError("DATASETS.TRAIN is empty; name at least one split of CAD models, such as lmo_cad")
    class_names(datasets)  # refuses a name that no split has
    found: list[str] = []

    def source_of(name: str) -> SampleSource:
        """The looks of one split."""
        spec = split_to_learn(datasets, name)
        if spec.kind != "cad":
            raise UserError(f"second looks are learned from CAD models, '{name}' has images; name splits as lmo_cad")
        own = list(spec.object_names.values())
        names = [each for each in own if each in datasets.objs] or own
        found.extend(names)
        cache = ObjectCache(replace(datasets, objs=tuple(names)), settings.model.pose_net)
        objects, augmentation = cache.get(spec), build_augmentation(given, cad, spec.kind)
        drawer = build_scene_drawer(settings, spec, objects, backgrounds)
        pictures = CadSource(objects.trained, drawer, roi_format, augmentation, cad.epoch_length)
        replay = _replay(cad, settings.solver.ims_per_batch, 1 / len(datasets.train))
        return LookSource(pictures, starts, refine.pad_scale, replay)

    source = mixed_sources(source_of, datasets.train, (), 0.0)
    return LookData(source, list(dict.fromkeys(found)))


def build_scene_drawer(
    settings: Settings, spec: SplitSpec, objects: SplitObjects, backgrounds: Backgrounds
) -> SceneDrawer:
    """What draws scenes of a split of CAD models."""
    options = build_scene_options(settings.cad, settings.datasets, cad_camera(settings.cad, spec.root))
    return SceneDrawer(objects.models, options, backgrounds)


def share_of(datasets: DatasetSettings, name: str) -> float:
    """The share of a training's samples that a split gives, if the splits of TRAIN, and of TRAIN2, are equally long."""
    second = datasets.train2_ratio if datasets.train2 else 0.0
    given = ((datasets.train, 1 - second), (datasets.train2, second))
    return sum(share / len(names) for names, share in given if name in names)


def _replay(cad: CadSettings, batch: int, share: float) -> ReplaySchedule | None:
    """Which rendered window a sample uses, of batches of a size, some share of whose samples are of one source.

    None where each sample has a window of its own. The schedule counts the samples of all sources.
    """
    if cad.reuse == 1:
        return None
    if cad.device:
        logger.info(
            "CAD.REUSE=%d is for rendering on the CPU; on CAD.DEVICE=%s it has no effect", cad.reuse, cad.device
        )
        return None
    return ReplaySchedule(cad.pool, round(cad.reuse / max(share, 1e-3)), batch)


def _instances(spec: SplitSpec, objects: SplitObjects, min_visib: float) -> list[tuple[ImageRecord, Instance]]:
    """The annotated objects of a split to train on. `UserError` where there are none."""
    records = with_unseen(load_split(spec, objects.trained), spec, objects.models)
    items = select_instances(records, objects.trained, min_visib)
    if not items:
        raise UserError(f"'{spec.name}' has no instance to train on; lower DATALOADER.FILTER_VISIB_THR or change OBJS")
    logger.info("%s: %d instances in %d images", spec.name, len(items), len(records))
    return items


def _check_xyz_source(source: str) -> None:
    if source not in XYZ_SOURCES:
        raise UserError(
            f"unknown INPUT.XYZ_SOURCE '{source}'{nearest(str(source), list(XYZ_SOURCES))} "
            f"(known: {', '.join(XYZ_SOURCES)})"
        )


def _map_files(spec: SplitSpec, objects: SplitObjects, with_Q: bool) -> MapFiles:
    hashes = {obj_id: model_hash(target.model) for obj_id, target in objects.trained.items()}
    return MapFiles(spec.images_dir, with_Q, hashes, spec.sensor)


def build_backgrounds(given: InputSettings) -> Backgrounds:
    """Photographs of INPUT.BG_IMGS_ROOT, or procedural backgrounds where it is empty."""
    folder = Path(given.bg_imgs_root) if given.bg_imgs_root else None
    return Backgrounds(folder, given.num_bg_imgs, given.bg_keep_aspect_ratio, given.bg_left_out)


def build_augmentation(given: InputSettings, cad: CadSettings, kind: str) -> TrainAugmentation:
    """Augmentation of a training split of a kind: real, pbr, syn (black background) or cad."""
    # Rendered scenes have occluders already and need less truncation than replaced backgrounds do.
    truncate_prob = cad.truncate_prob if kind == "cad" else REPLACED_TRUNCATE_PROB
    colored = given.color_aug_prob > 0 and not (given.color_aug_syn_only and kind == "real")
    return TrainAugmentation(
        pad_scale=given.dzi_pad_scale,
        dzi_type=check_dzi_type(given.dzi_type),
        dzi_scale_ratio=given.dzi_scale_ratio,
        dzi_shift_ratio=given.dzi_shift_ratio,
        color=_color_augmenter(given.color_aug_type, given.color_aug_code) if colored else None,
        color_prob=given.color_aug_prob,
        change_bg_prob={"real": given.change_bg_prob, "syn": 1.0}.get(kind, 0.0),
        truncate_prob=truncate_prob if given.truncate_fg else 0.0,
        hiding=HidingRange(prob=cad.hide_prob),
    )


def _color_augmenter(aug_type: str, code: str) -> Augmenter | None:
    if aug_type.lower() != "code":
        known = ["code", "AAE", "ROI10D"]
        if aug_type.lower() not in COLOR_AUG_CODES:
            raise UserError(
                f"INPUT.COLOR_AUG_TYPE '{aug_type}' is not known{nearest(aug_type, known)} "
                f"(known: {', '.join(known)}); write the operations as INPUT.COLOR_AUG_CODE with type 'code'"
            )
        code = COLOR_AUG_CODES[aug_type.lower()]
    return parse_augmentation(code) if code.strip() else None
