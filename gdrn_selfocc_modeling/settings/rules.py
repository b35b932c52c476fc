"""Keys of older files that the schema doesn't have: some are dropped with a warning, others are refused."""

from __future__ import annotations

from sopose.core.config.check import KeyRules

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
# What it said, a limit that knew nothing of boxes, is TEST.REFINE.CONFIDENCE_AT_THRESHOLD in another way.
EARLIER = ("TEST.REFINE.LEAST_CONFIDENCE",)
# Switches of Horovod and BytePS, whatever they are called and wherever they stand.
DISTRIBUTED_WORDS = ("HVD", "HOROVOD", "BPS", "BYTEPS", "ADASUM", "FP16_ALLREDUCE")
RULES = KeyRules(
    retired=(*DETECTRON2, *MMCV, *EARLIER),
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
