"""The demo: four toy objects, one small network that a CPU trains in minutes."""

_base_ = ["../lmo/gdrn_selfocc_multistep_40E.py"]

OUTPUT_DIR = "output/gdrn_selfocc/toy/demo"
SEED = 0
INPUT = dict(COLOR_AUG_PROB=0.5, TRUNCATE_FG=False, CHANGE_BG_PROB=0.3)
DATASETS = dict(
    TRAIN=("toy_train",),
    TRAIN2=(),
    TRAIN2_RATIO=0.0,
    TEST=("toy_test",),
    DET_FILES_TEST=(),
)
CAD = dict(EPOCH_LENGTH=1000, Z_RANGE=(0.4, 0.9))
DATALOADER = dict(NUM_WORKERS=1)
SOLVER = dict(
    IMS_PER_BATCH=16,
    TOTAL_EPOCHS=6,
    WARMUP_ITERS=50,
    OPTIMIZER_CFG=dict(_delete_=True, type="Ranger", lr=1e-3, weight_decay=0),
    CHECKPOINT_PERIOD=2,
    MAX_TO_KEEP=2,
)
TRAIN = dict(PRINT_FREQ=10)
TEST = dict(TEST_BBOX_TYPE="gt")
MODEL = dict(
    POSE_NET=dict(
        NUM_CLASSES=4,
        INPUT_RES=96,
        OUTPUT_RES=24,
        BACKBONE=dict(PRETRAINED="", INIT_CFG=dict(type="timm/mobilenetv4_conv_small", out_indices=(3,))),
        GEO_HEAD=dict(
            INIT_CFG=dict(in_dim=96, feat_dim=64, up_types=("deconv", "bilinear")),
        ),
        SELFOCC_HEAD=dict(INIT_CFG=dict(in_dim=96, feat_dim=64, up_types=("deconv", "bilinear"))),
        LOSS_CFG=dict(NUM_PM_POINTS=500, PM_LOSS_SYM=True, PM_NORM_BY_EXTENT=True),
    ),
)
