"""Training from CAD models on a CPU with units for bfloat16: a network made for these, from random weights."""

_base_ = ["./cad_only_lite.py"]

OUTPUT_DIR = "output/gdrn_selfocc/lmo/cad_only_fast"
SOLVER = dict(IMS_PER_BATCH=32)
MODEL = dict(
    POSE_NET=dict(
        BACKBONE=dict(
            PRETRAINED="",
            FREEZE_AT=0,
            FREEZE_DEPTHWISE=False,
            INIT_CFG=dict(type="own/plain_light", out_indices=(0, 1, 2)),
        ),
        NECK=dict(INIT_CFG=dict(in_channels=[32, 96, 192])),
    ),
)
