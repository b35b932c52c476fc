"""The method's configuration: its schema, and the keys that are accepted without effect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from core.config.load import load_config
from core.utils.errors import UserError

SCHEMA = Path(__file__).resolve().parents[1] / "configs" / "_base_" / "gdrn_base.py"

# Of the ancestor's files; each stands in the schema with the reason.
WITHOUT_EFFECT = (
    *("OUTPUT_ROOT", "DEBUG", "IM_BACKEND", "DIST_PARAMS.backend"),
    *(f"INPUT.{key}" for key in ("WITH_DEPTH", "AUG_DEPTH", "RANDOM_FLIP", "SMOOTH_XYZ", "BG_TYPE")),
    *(f"INPUT.{side}_SIZE_{split}" for side in ("MIN", "MAX") for split in ("TRAIN", "TEST")),
    *("INPUT.MIN_SIZE_TRAIN_SAMPLING", "DATASETS.PROPOSAL_FILES_TRAIN", "DATASETS.PROPOSAL_FILES_TEST"),
    *(f"DATASETS.INIT_POSE_{key}" for key in ("FILES_TEST", "TOPK_PER_OBJ", "TOPK_PER_IM", "THR")),
    *(f"DATASETS.PRECOMPUTED_PROPOSAL_TOPK_{split}" for split in ("TRAIN", "TEST")),
    *(f"DATALOADER.{key}" for key in ("MAX_OBJS_TRAIN", "ASPECT_RATIO_GROUPING", "SAMPLER_TRAIN")),
    *("DATALOADER.REPEAT_THRESHOLD", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "DATALOADER.FILTER_EMPTY_DETS"),
    *(f"SOLVER.{key}" for key in ("BASE_LR", "WEIGHT_DECAY", "MOMENTUM", "BIAS_LR_FACTOR")),
    *("TRAIN.VERBOSE", "TRAIN.VIS", "TRAIN.VIS_IMG", "TEST.VIS", "TEST.PRECISE_BN.ENABLED"),
    *(f"VAL.{key}" for key in ("DATASET_NAME", "SCRIPT_PATH", "RESULTS_PATH", "ERROR_TYPES", "RENDERER_TYPE")),
    *(f"VAL.{key}" for key in ("SPLIT", "SPLIT_TYPE", "N_TOP", "EVAL_CACHED", "SCORE_ONLY", "USE_BOP")),
    *("VAL.EVAL_PRINT_ONLY", "VAL.EVAL_PRECISION"),
    *("MODEL.LOAD_DETS_TEST", "MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS", "MODEL.POSE_NET.XYZ_ONLINE"),
    *("MODEL.POSE_NET.LOSS_CFG.QD_LW", "MODEL.POSE_NET.LOSS_CFG.Q0_LOSS_MASK_GT"),
    "MODEL.POSE_NET.SELFOCC_HEAD.REGION_CLASS_AWARE",
)


def load_settings(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a run: `path` over the defaults, then `overrides`; see `core.config.load.load_config`.

    EXP_NAME is filled from the file's name. Options that exist but are not built yet are a `UserError` here, so that
    no run goes on without what its file asks for.
    """
    config = load_config(Path(path), SCHEMA, overrides, WITHOUT_EFFECT)
    if not config.EXP_NAME:
        # BOP's result names are METHOD_DATASET-SPLIT.csv, so the method's own name has no underscore.
        config.EXP_NAME = re.sub(r"[^0-9A-Za-z-]+", "-", Path(path).stem)
    for key, wanted, reason in (
        ("TEST.USE_PNP", False, "poses come from the network"),
        ("SOLVER.REFERENCE_BS", -1, "gradients are not accumulated yet; raise SOLVER.IMS_PER_BATCH"),
    ):
        section, name = key.split(".")
        if config[section][name] != wanted:
            raise UserError(f"{key}={config[section][name]} is not available: {reason}; set it to {wanted}")
    return config
