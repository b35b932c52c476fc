"""Training from CAD models on a CPU: the pretrained network of cad_only_cpu.py with cheap heads, windows used again."""

_base_ = ["./cad_only_cpu.py"]

OUTPUT_DIR = "output/gdrn_selfocc/lmo/cad_only_lite"
CAD = dict(REUSE=8, POOL=4096)  # windows that come back sooner are remembered; this many take 1.7 GB
DATALOADER = dict(NUM_WORKERS=-1)
SOLVER = dict(AMP=dict(ENABLED=True, DTYPE="auto"))
MODEL = dict(
    POSE_NET=dict(
        BACKBONE=dict(INIT_CFG=dict(type="timm/tf_efficientnet_lite0", out_indices=(1, 2, 3))),
        NECK=dict(ENABLED=True, INIT_CFG=dict(type="TopDown", in_channels=[24, 40, 112], out_channels=64, num_outs=1)),
        # An L1 mask of random heads stays at "nowhere" for thousands of steps.
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
