"""From a configuration to sources of samples; below this file nothing sees the configuration."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from sopose.core.bop.models import INFO_NAME, load_models
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.data.augment import parse_augmentation
from sopose.core.data.color_ops import Augmenter
from sopose.core.data.loader import JoinedSource, MixedSource, SampleSource
from sopose.core.data.roi import check_dzi_type
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.utils.errors import UserError, nearest
from sopose.data.build_cad import build_cad_options, split_to_learn
from sopose.data.cad_source import CadSource
from sopose.data.mapper import (
    InstanceSource,
    TrainAugmentation,
    TrainMapper,
    select_instances,
)
from sopose.data.targets import RoiFormat, TrainedObject, prepare_objects
from sopose.maps.files import MapFiles
from sopose.maps.header import model_hash

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
    casters: dict[int, RayCaster]
    trained: dict[int, TrainedObject]


class ObjectCache:
    """Models and casters by folder and objects: splits of one data set share them."""

    def __init__(self, cfg: Config, classes: Sequence[str] = ()) -> None:
        """`classes`: those a network was trained with, in its order; by default the objects of `cfg`."""
        self.cfg = cfg
        self.names = class_names(cfg)
        self.classes = list(classes) if classes and is_class_aware(cfg.MODEL.POSE_NET) else self.names
        _check_classes(self.names, self.classes, cfg.MODEL.POSE_NET)
        self._loaded: dict[tuple[Path, tuple[int, ...]], SplitObjects] = {}

    def get(self, spec: SplitSpec) -> SplitObjects:
        key = spec.models_dir, tuple(spec.object_names)  # LM has splits of one object in one folder of models
        if key not in self._loaded:
            self._loaded[key] = self._load(spec)
        return self._loaded[key]

    def _load(self, spec: SplitSpec) -> SplitObjects:
        models = load_models(spec.models_dir, names=spec.object_names)
        casters = {obj_id: RayCaster(model.vertices, model.faces) for obj_id, model in models.items()}
        net = self.cfg.MODEL.POSE_NET
        place = {name: index for index, name in enumerate(self.classes)}
        chosen = {obj_id: place[spec.object_names[obj_id]] for obj_id in class_indices(self.names, spec)}
        missing = [obj_id for obj_id in chosen if obj_id not in models]
        if missing:
            raise UserError(
                f"{spec.models_dir / INFO_NAME} has no entry for the objects {missing}; complete it, or leave them "
                f"out with DATASETS.OBJS"
            )
        trained = prepare_objects(
            models,
            casters,
            chosen,
            num_regions=net.GEO_HEAD.NUM_REGIONS,
            num_points=net.LOSS_CFG.NUM_PM_POINTS,
        )
        return SplitObjects(models, casters, trained)


def class_names(cfg: Config) -> list[str]:
    """Names of the objects that the network knows, in the order of its classes.

    They are DATASETS.OBJS, or where that is empty all objects of the first split of DATASETS.TRAIN, TRAIN2
    and TEST that is there: a trained network can be tested without its training data. Raises `UserError`
    where no split is there, or none has an object of OBJS.
    """
    data = cfg.DATASETS
    specs, errors = [], []
    for name in (*data.TRAIN, *data.TRAIN2, *data.TEST):
        try:
            specs.append(resolve_split(name, Path(data.ROOT)))
        except UserError as error:
            errors.append(error)
    if not specs:
        raise errors[0] if errors else UserError("DATASETS.TRAIN and DATASETS.TEST are empty; name a split")
    known = list(dict.fromkeys(name for spec in specs for name in spec.object_names.values()))
    for name in data.OBJS:
        if name not in known:
            raise UserError(
                f"no data set has the object '{name}' of DATASETS.OBJS{nearest(name, known)} "
                f"(objects: {', '.join(known)})"
            )
    return list(data.OBJS) or list(specs[0].object_names.values())


def is_class_aware(net: Config) -> bool:
    """Whether MODEL.POSE_NET has an output for each class, so that number and order of the classes count."""
    heads = [net.GEO_HEAD, *([net.SELFOCC_HEAD] if net.SELFOCC_HEAD.ENABLED else [])]
    return any(head[key] for head in heads for key in head if key.endswith("_CLASS_AWARE"))


def _check_classes(names: Sequence[str], classes: Sequence[str], net: Config) -> None:
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UserError(
            f"the class-aware network was not trained for {', '.join(unknown)} (its classes: {', '.join(classes)}); "
            "name some of them in DATASETS.OBJS"
        )
    if is_class_aware(net) and len(classes) > net.NUM_CLASSES:
        raise UserError(
            f"MODEL.POSE_NET.NUM_CLASSES is {net.NUM_CLASSES} but the class-aware network has {len(classes)} objects "
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


def build_train_dataset(cfg: Config) -> SampleSource:
    """All training samples: DATASETS.TRAIN joined, mixed with DATASETS.TRAIN2 by TRAIN2_RATIO."""
    data = cfg.DATASETS
    if not data.TRAIN:
        raise UserError("DATASETS.TRAIN is empty; name at least one split, such as lmo_cad or toy_train")
    _check_xyz_source(cfg.INPUT.XYZ_SOURCE)
    cache = ObjectCache(cfg)
    backgrounds = build_backgrounds(cfg)

    def join(names: Sequence[str]) -> SampleSource:
        sources = [_train_source(cfg, name, cache, backgrounds) for name in names]
        return sources[0] if len(sources) == 1 else JoinedSource(sources)

    first = join(data.TRAIN)
    if not data.TRAIN2 or data.TRAIN2_RATIO == 0:
        return first
    return MixedSource(first, join(data.TRAIN2), data.TRAIN2_RATIO)


def _train_source(cfg: Config, name: str, cache: ObjectCache, backgrounds: Backgrounds) -> SampleSource:
    spec = split_to_learn(cfg, name)
    objects = cache.get(spec)
    augmentation = build_augmentation(cfg, spec.kind)
    roi_format = build_roi_format(cfg)
    if spec.kind == "cad":
        options = build_cad_options(cfg, spec.root)
        return CadSource(
            objects.trained, objects.models, objects.casters, options, roi_format, augmentation, backgrounds
        )
    records = load_split(spec, objects.trained)
    items = select_instances(records, objects.trained, cfg.DATALOADER.FILTER_VISIB_THR)
    if not items:
        raise UserError(f"'{name}' has no instance to train on; lower DATALOADER.FILTER_VISIB_THR or change OBJS")
    logger.info("%s: %d instances in %d images", name, len(items), len(records))
    map_files = _map_files(cfg, spec, objects)
    mapper = TrainMapper(objects.trained, objects.casters, roi_format, augmentation, backgrounds, map_files)
    return InstanceSource(items, mapper)


def _check_xyz_source(source: str) -> None:
    if source not in XYZ_SOURCES:
        raise UserError(
            f"unknown INPUT.XYZ_SOURCE '{source}'{nearest(str(source), list(XYZ_SOURCES))} "
            f"(known: {', '.join(XYZ_SOURCES)})"
        )


def _map_files(cfg: Config, spec: SplitSpec, objects: SplitObjects) -> MapFiles | None:
    """The map files of a split where INPUT.XYZ_SOURCE says so; else its maps are cast."""
    if cfg.INPUT.XYZ_SOURCE == "online":
        return None
    hashes = {obj_id: model_hash(target.model) for obj_id, target in objects.trained.items()}
    return MapFiles(spec.images_dir, cfg.MODEL.POSE_NET.SELFOCC_HEAD.ENABLED, hashes)


def build_roi_format(cfg: Config) -> RoiFormat:
    """Resolution and pixel values of the network's input."""
    return RoiFormat(
        input_res=cfg.MODEL.POSE_NET.INPUT_RES,
        output_res=cfg.MODEL.POSE_NET.OUTPUT_RES,
        pixel_format=cfg.INPUT.FORMAT,
        pixel_mean=tuple(cfg.MODEL.PIXEL_MEAN),
        pixel_std=tuple(cfg.MODEL.PIXEL_STD),
    )


def build_backgrounds(cfg: Config) -> Backgrounds:
    """Photographs of INPUT.BG_IMGS_ROOT, or procedural backgrounds where it is empty."""
    given = cfg.INPUT
    folder = Path(given.BG_IMGS_ROOT) if given.BG_IMGS_ROOT else None
    return Backgrounds(folder, given.NUM_BG_IMGS, given.BG_KEEP_ASPECT_RATIO)


def build_augmentation(cfg: Config, kind: str) -> TrainAugmentation:
    """Augmentation of a training split of a kind: real, pbr, syn (black background) or cad."""
    given = cfg.INPUT
    # Rendered scenes have occluders already and need less truncation than replaced backgrounds do.
    truncate_prob = cfg.CAD.TRUNCATE_PROB if kind == "cad" else REPLACED_TRUNCATE_PROB
    colored = given.COLOR_AUG_PROB > 0 and not (given.COLOR_AUG_SYN_ONLY and kind == "real")
    return TrainAugmentation(
        pad_scale=given.DZI_PAD_SCALE,
        dzi_type=check_dzi_type(given.DZI_TYPE),
        dzi_scale_ratio=given.DZI_SCALE_RATIO,
        dzi_shift_ratio=given.DZI_SHIFT_RATIO,
        color=_color_augmenter(given.COLOR_AUG_TYPE, given.COLOR_AUG_CODE) if colored else None,
        color_prob=given.COLOR_AUG_PROB,
        change_bg_prob={"real": given.CHANGE_BG_PROB, "syn": 1.0}.get(kind, 0.0),
        truncate_prob=truncate_prob if given.TRUNCATE_FG else 0.0,
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
