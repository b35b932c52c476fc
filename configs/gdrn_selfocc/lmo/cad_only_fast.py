"""Training from CAD models on a CPU, several times as fast: a network made for CPUs, rendered windows used again."""

_base_ = ["./cad_only_cpu.py"]

OUTPUT_DIR = "output/gdrn_selfocc/lmo/cad_only_fast"
CAD = dict(REUSE=8, POOL=4096)  # windows that come back sooner are remembered; this many take 1.7 GB
DATALOADER = dict(NUM_WORKERS=-1)
SOLVER = dict(IMS_PER_BATCH=32, AMP=dict(ENABLED=True, DTYPE="auto"))
MODEL = dict(
    POSE_NET=dict(
        BACKBONE=dict(
            PRETRAINED="",
            FREEZE_AT=0,
            FREEZE_DEPTHWISE=False,
            INIT_CFG=dict(type="own/plain_light", out_indices=(0, 1, 2)),
        ),
        NECK=dict(ENABLED=True, INIT_CFG=dict(type="TopDown", in_channels=[32, 96, 192], out_channels=64, num_outs=1)),
        # An L1 mask of random weights stays at "nowhere" for thousands of steps.
        LOSS_CFG=dict(MASK_LOSS_TYPE="BCE"),
        PNP_NET=dict(INIT_CFG=dict(featdim=64, act="relu")),
        GEO_HEAD=dict(
            NUM_REGIONS=16,
            INIT_CFG=dict(in_dim=64, feat_dim=64, up_types=(), num_conv_per_block=0, norm="BN", act="relu"),
        ),
        SELFOCC_HEAD=dict(
            INIT_CFG=dict(in_dim=64, feat_dim=64, up_types=(), num_conv_per_block=0, norm="BN", act="relu"),
        ),
    ),
)
