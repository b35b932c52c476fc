"""The method's configuration: its schema, and the keys that are accepted without effect."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from sopose.core.config.check import KeyRules
from sopose.core.config.load import config_of, load_config, look_up
from sopose.core.utils.errors import UserError, nearest
from sopose.models.build import has_selfocc_head
from sopose.models.pnp_points import PNP_LAYERS
from sopose.models.pnp_solvers import PNP_TYPES

logger = logging.getLogger(__name__)

SCHEMA = Path(__file__).resolve().parents[1] / "configs" / "_base_" / "gdrn_base.py"

# Of the ancestor's files; each stands in the schema with the reason.
WITHOUT_EFFECT = (
    *("OUTPUT_ROOT", "DEBUG", "IM_BACKEND", "DIST_PARAMS.backend"),
    *(f"INPUT.{key}" for key in ("WITH_DEPTH", "AUG_DEPTH", "RANDOM_FLIP", "SMOOTH_XYZ", "BG_TYPE")),
    *(f"INPUT.{side}_SIZE_{split}" for side in ("MIN", "MAX") for split in ("TRAIN", "TEST")),
    *("INPUT.MIN_SIZE_TRAIN_SAMPLING", "DATASETS.PROPOSAL_FILES_TRAIN", "DATASETS.PROPOSAL_FILES_TEST"),
    *(f"DATASETS.PRECOMPUTED_PROPOSAL_TOPK_{split}" for split in ("TRAIN", "TEST")),
    *(f"DATALOADER.{key}" for key in ("MAX_OBJS_TRAIN", "ASPECT_RATIO_GROUPING", "SAMPLER_TRAIN")),
    *("DATALOADER.REPEAT_THRESHOLD", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "DATALOADER.FILTER_EMPTY_DETS"),
    *(f"SOLVER.{key}" for key in ("BASE_LR", "WEIGHT_DECAY", "MOMENTUM")),
    *("TRAIN.VERBOSE", "TRAIN.VIS", "TRAIN.VIS_IMG", "TEST.VIS"),
    *("TEST.PRECISE_BN.ENABLED", "TEST.PRECISE_BN.NUM_ITER"),
    *(f"VAL.{key}" for key in ("DATASET_NAME", "SCRIPT_PATH", "RESULTS_PATH", "ERROR_TYPES", "RENDERER_TYPE")),
    *(f"VAL.{key}" for key in ("SPLIT", "SPLIT_TYPE", "N_TOP", "EVAL_CACHED", "SCORE_ONLY", "USE_BOP")),
    *("VAL.EVAL_PRINT_ONLY", "VAL.EVAL_PRECISION"),
    *("MODEL.LOAD_DETS_TEST", "MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS", "MODEL.POSE_NET.XYZ_ONLINE"),
    *("MODEL.POSE_NET.LOSS_CFG.QD_LW", "MODEL.POSE_NET.LOSS_CFG.Q0_LOSS_MASK_GT"),
    "MODEL.POSE_NET.SELFOCC_HEAD.REGION_CLASS_AWARE",
    *("MODEL.EMA.INIT_CFG.updates", "MODEL.POSE_NET.BACKBONE.INIT_CFG.features_only"),
    *(f"MODEL.POSE_NET.SELFOCC_HEAD.INIT_CFG.{key}" for key in ("Q0_num_classes", "mask_num_classes")),
)

# Keys of the frameworks that the ancestor stood on, which the schema doesn't have. They say nothing about the method.
DETECTRON2 = (
    *("VERSION", "GLOBAL", "FLOAT32_PRECISION", "INPUT.CROP", "INPUT.MASK_FORMAT", "MODEL.META_ARCHITECTURE"),
    *(f"DATALOADER.{key}" for key in ("REPEAT_SQRT", "RANDOM_SUBSET_RATIO")),
    *(f"MODEL.{key}" for key in ("MASK_ON", "PROPOSAL_GENERATOR", "ANCHOR_GENERATOR", "RPN", "RETINANET", "RESNETS")),
    *(f"MODEL.ROI_{key}" for key in ("HEADS", "BOX_HEAD", "BOX_CASCADE_HEAD", "MASK_HEAD", "KEYPOINT_HEAD")),
    *("MODEL.FPN", "MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN", "MODEL.BACKBONE.NAME"),
    *(f"SOLVER.{key}" for key in ("MAX_ITER", "STEPS", "NESTEROV", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS")),
    *(f"SOLVER.{key}" for key in ("BASE_LR_END", "NUM_DECAYS", "RESCALE_INTERVAL", "REFERENCE_WORLD_SIZE")),
    *(f"TEST.{key}" for key in ("EXPECTED_RESULTS", "KEYPOINT_OKS_SIGMAS", "DETECTIONS_PER_IMAGE", "AUG")),
)
MMCV = (
    *("cudnn_benchmark", "opencv_num_threads", "mp_start_method", "dist_params", "workflow"),
    *("log_level", "log_config", "checkpoint_config", "find_unused_parameters"),
)
# Switches of Horovod and BytePS, whatever they are called and wherever they stand.
DISTRIBUTED_WORDS = ("HVD", "HOROVOD", "BPS", "BYTEPS", "ADASUM", "FP16_ALLREDUCE")
RULES = KeyRules(
    without_effect=WITHOUT_EFFECT,
    retired=(*DETECTRON2, *MMCV),
    retired_words=DISTRIBUTED_WORDS,
    refused={
        "MODEL.CDPN": (
            "is the network of GDR-Net's first release, which is laid out otherwise; write it as MODEL.POSE_NET "
            "(BACKBONE, GEO_HEAD, PNP_NET, LOSS_CFG), starting from a file of configs/gdrn"
        ),
    },
)
# VAL.TARGETS_FILENAME in the ancestor's defaults: a file for its own evaluation script that no BOP folder has.
ANCESTOR_TARGETS = "lm_test_targets_bb8.json"

# What a key's type doesn't tell: its least value, how many entries a list has, and that they are names.
LEAST = {
    **{f"SOLVER.{key}": 1 for key in ("IMS_PER_BATCH", "TOTAL_EPOCHS", "MAX_TO_KEEP")},
    **{f"SOLVER.{key}": 0 for key in ("CHECKPOINT_PERIOD", "WARMUP_ITERS", "CLIP_GRADIENTS")},
    **{f"DATASETS.{source}_TOPK_PER_{key}": 1 for source in ("DET", "INIT_POSE") for key in ("OBJ", "IM")},
    **{"DATALOADER.NUM_WORKERS": 0, "TRAIN.PRINT_FREQ": 0, "CAD.MAX_OCCLUDERS": 0, "INPUT.DZI_PAD_SCALE": 0.1},
    **{"TRAIN.MAX_SKIPPED": 1, "VIS_PERIOD": 0},
    **{"TEST.IMS_PER_BATCH": 1, "TEST.EVAL_PERIOD": 0, "TEST.BBOX_JITTER": 0, "VAL.REPORT_CASES": 0},
    **{"TEST.PNP_ITERATIONS": 1, "TEST.PNP_REPROJ_ERROR": 0.01},
    **{"MODEL.POSE_NET.NUM_CLASSES": 1, "MODEL.POSE_NET.LOSS_CFG.NUM_PM_POINTS": 1},
}
ENTRIES = {
    **{f"MODEL.PIXEL_{key}": 3 for key in ("MEAN", "STD")},
    **{f"CAD.{key}": 2 for key in ("Z_RANGE", "CENTER_RANGE", "ELEVATION", "OCCLUDER_SPACING", "BLUR", "NOISE")},
}
NAMES = tuple(
    f"DATASETS.{key}" for key in ("OBJS", "TRAIN", "TRAIN2", "TEST", "DET_FILES_TEST", "INIT_POSE_FILES_TEST")
)


def load_settings(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a run: `path` over the defaults, then `overrides`; see `core.config.load.load_config`.

    EXP_NAME is filled from the file's name. Options that exist but are not built yet are a `UserError` here, so that
    no run goes on without what its file asks for, and so are values that only later code would stumble over.
    """
    config = load_config(Path(path), SCHEMA, overrides, RULES)
    return _finished(config, Path(path).stem)


def settings_of(values: Mapping[str, Any], where: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration that a checkpoint carries, `values` of plain types, checked as a file's is.

    `where` they are from, for messages.
    """
    return _finished(config_of(values, where, SCHEMA, overrides, RULES), Path(where).stem)


def _finished(config: Config, name: str) -> Config:
    # BOP's result names are METHOD_DATASET-SPLIT.csv, so the method's own name has no underscore.
    config.EXP_NAME = re.sub(r"[^0-9A-Za-z-]+", "-", config.EXP_NAME or name)
    if config.VAL.TARGETS_FILENAME == ANCESTOR_TARGETS:
        logger.info("VAL.TARGETS_FILENAME=%s is a default of old, the data set's own targets count", ANCESTOR_TARGETS)
        config.VAL.TARGETS_FILENAME = ""
    _check_values(config)
    if config.TEST.USE_PNP:
        _check_pnp(config)
    return config


def _check_pnp(config: Config) -> None:
    """`UserError` where TEST asks for a PnP that doesn't exist, or for maps that the network doesn't have."""
    test = config.TEST
    for key, known in (("PNP_TYPE", list(PNP_TYPES)), ("PNP_LAYERS", list(PNP_LAYERS))):
        if test[key] not in known:
            hint = nearest(test[key], known)
            raise UserError(f"TEST.{key} is '{test[key]}'{hint} (known: {', '.join(known)})")
    if not 0 < test.PNP_CONFIDENCE < 1:
        raise UserError(f"TEST.PNP_CONFIDENCE must be between 0 and 1, got {test.PNP_CONFIDENCE}")
    if test.PNP_LAYERS == "P+Q" and not has_selfocc_head(config.MODEL.POSE_NET):
        raise UserError("TEST.PNP_LAYERS is 'P+Q' but SELFOCC_HEAD.ENABLED is False, there is no Q; set PNP_LAYERS=P")


def _check_values(config: Config) -> None:
    """`UserError` for a value that its type allows and its meaning doesn't."""
    for key, least in LEAST.items():
        if look_up(config, key) < least:
            raise UserError(f"{key} must be at least {least}, got {look_up(config, key)}")
    for key, count in ENTRIES.items():
        if len(look_up(config, key)) != count:
            raise UserError(f"{key} must have {count} entries, got {look_up(config, key)}")
    for key in NAMES:
        if not all(isinstance(name, str) for name in look_up(config, key)):
            raise UserError(f"{key} must be a list of names, got {look_up(config, key)}")
