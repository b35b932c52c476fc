"""The method's configuration: its schema, and the keys that are accepted without effect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from core.config.load import load_config, look_up
from core.utils.errors import UserError

SCHEMA = Path(__file__).resolve().parents[1] / "configs" / "_base_" / "gdrn_base.py"

# Of the ancestor's files; each stands in the schema with the reason.
WITHOUT_EFFECT = (
    *("OUTPUT_ROOT", "DEBUG", "IM_BACKEND", "VIS_PERIOD", "DIST_PARAMS.backend"),
    *(f"INPUT.{key}" for key in ("WITH_DEPTH", "AUG_DEPTH", "RANDOM_FLIP", "SMOOTH_XYZ", "BG_TYPE")),
    *(f"INPUT.{side}_SIZE_{split}" for side in ("MIN", "MAX") for split in ("TRAIN", "TEST")),
    *("INPUT.MIN_SIZE_TRAIN_SAMPLING", "DATASETS.PROPOSAL_FILES_TRAIN", "DATASETS.PROPOSAL_FILES_TEST"),
    *(f"DATASETS.INIT_POSE_{key}" for key in ("FILES_TEST", "TOPK_PER_OBJ", "TOPK_PER_IM", "THR")),
    *(f"DATASETS.PRECOMPUTED_PROPOSAL_TOPK_{split}" for split in ("TRAIN", "TEST")),
    *(f"DATALOADER.{key}" for key in ("MAX_OBJS_TRAIN", "ASPECT_RATIO_GROUPING", "SAMPLER_TRAIN")),
    *("DATALOADER.REPEAT_THRESHOLD", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "DATALOADER.FILTER_EMPTY_DETS"),
    *(f"SOLVER.{key}" for key in ("BASE_LR", "WEIGHT_DECAY", "MOMENTUM")),
    *("TRAIN.VERBOSE", "TRAIN.VIS", "TRAIN.VIS_IMG", "TEST.VIS"),
    *("TEST.PNP_TYPE", "TEST.PRECISE_BN.ENABLED", "TEST.PRECISE_BN.NUM_ITER"),
    *(f"VAL.{key}" for key in ("DATASET_NAME", "SCRIPT_PATH", "RESULTS_PATH", "ERROR_TYPES", "RENDERER_TYPE")),
    *(f"VAL.{key}" for key in ("SPLIT", "SPLIT_TYPE", "N_TOP", "EVAL_CACHED", "SCORE_ONLY", "USE_BOP")),
    *("VAL.EVAL_PRINT_ONLY", "VAL.EVAL_PRECISION"),
    *("MODEL.LOAD_DETS_TEST", "MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS", "MODEL.POSE_NET.XYZ_ONLINE"),
    *("MODEL.POSE_NET.LOSS_CFG.QD_LW", "MODEL.POSE_NET.LOSS_CFG.Q0_LOSS_MASK_GT"),
    *(f"MODEL.POSE_NET.{head}.MASK_THR_TEST" for head in ("GEO_HEAD", "SELFOCC_HEAD")),
    "MODEL.POSE_NET.SELFOCC_HEAD.REGION_CLASS_AWARE",
)

# What a key's type doesn't tell: its least value, how many entries a list has, and that they are names.
LEAST = {
    **{f"SOLVER.{key}": 1 for key in ("IMS_PER_BATCH", "TOTAL_EPOCHS", "MAX_TO_KEEP")},
    **{f"SOLVER.{key}": 0 for key in ("CHECKPOINT_PERIOD", "WARMUP_ITERS", "CLIP_GRADIENTS")},
    **{f"DATASETS.DET_TOPK_PER_{key}": 1 for key in ("OBJ", "IM")},
    **{"DATALOADER.NUM_WORKERS": 0, "TRAIN.PRINT_FREQ": 0, "CAD.MAX_OCCLUDERS": 0, "INPUT.DZI_PAD_SCALE": 0.1},
    **{"TEST.IMS_PER_BATCH": 1, "TEST.EVAL_PERIOD": 0, "VAL.REPORT_CASES": 0},
    **{"MODEL.POSE_NET.NUM_CLASSES": 1, "MODEL.POSE_NET.LOSS_CFG.NUM_PM_POINTS": 1},
}
ENTRIES = {
    **{f"MODEL.PIXEL_{key}": 3 for key in ("MEAN", "STD")},
    **{f"CAD.{key}": 2 for key in ("Z_RANGE", "CENTER_RANGE", "ELEVATION", "OCCLUDER_SPACING", "BLUR", "NOISE")},
}
NAMES = tuple(f"DATASETS.{key}" for key in ("OBJS", "TRAIN", "TRAIN2", "TEST", "DET_FILES_TEST"))


def load_settings(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a run: `path` over the defaults, then `overrides`; see `core.config.load.load_config`.

    EXP_NAME is filled from the file's name. Options that exist but are not built yet are a `UserError` here, so that
    no run goes on without what its file asks for, and so are values that only later code would stumble over.
    """
    config = load_config(Path(path), SCHEMA, overrides, WITHOUT_EFFECT)
    # BOP's result names are METHOD_DATASET-SPLIT.csv, so the method's own name has no underscore.
    config.EXP_NAME = re.sub(r"[^0-9A-Za-z-]+", "-", config.EXP_NAME or Path(path).stem)
    _check_values(config)
    for key, wanted, reason in (
        ("TEST.USE_PNP", False, "poses come from the network"),
        ("SOLVER.REFERENCE_BS", -1, "gradients are not accumulated yet; raise SOLVER.IMS_PER_BATCH"),
    ):
        section, name = key.split(".")
        if config[section][name] != wanted:
            raise UserError(f"{key}={config[section][name]} is not available: {reason}; set it to {wanted}")
    return config


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
