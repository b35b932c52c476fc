"""SO-Pose on LM-O as released: eight objects, one network, real and PBR images, 40 epochs."""

_base_ = ["../../_base_/gdrn_base.py"]

OUTPUT_DIR = "output/gdrn_selfocc/lmo/multistep_40E"
INPUT = dict(
    DZI_PAD_SCALE=1.5,
    TRUNCATE_FG=True,
    CHANGE_BG_PROB=0.5,
    COLOR_AUG_PROB=0.8,
    COLOR_AUG_TYPE="code",
    COLOR_AUG_CODE=(
        "Sequential(["
        "Sometimes(0.5, CoarseDropout(p=0.2, size_percent=0.05)),"
        "Sometimes(0.5, GaussianBlur(1.2*np.random.rand())),"
        "Sometimes(0.5, Add((-25, 25), per_channel=0.3)),"
        "Sometimes(0.3, Invert(0.2, per_channel=True)),"
        "Sometimes(0.5, Multiply((0.6, 1.4), per_channel=0.5)),"
        "Sometimes(0.5, Multiply((0.6, 1.4))),"
        "Sometimes(0.5, LinearContrast((0.5, 2.2), per_channel=0.3))"
        "], random_order=False)"
    ),
)
DATASETS = dict(
    TRAIN=("lmo_train",),
    TRAIN2=("lmo_pbr_train",),
    TRAIN2_RATIO=0.1,
    TEST=("lmo_bop_test",),  # BOP's 200 images; the released file says lmo_test, all 1214
    # boxes of GDR-Net's Faster R-CNN, from its authors' page
    DET_FILES_TEST=(
        "datasets/BOP_DATASETS/lmo/test/faster_R50_FPN_AugCosyAAE_HalfAnchor_lmo_pbr_lmo_fuse_real_all_8e_test_480x640.json",
    ),
)
DATALOADER = dict(NUM_WORKERS=12)
SOLVER = dict(
    IMS_PER_BATCH=24,
    TOTAL_EPOCHS=40,
    LR_SCHEDULER_NAME="flat_and_anneal",
    ANNEAL_METHOD="cosine",
    ANNEAL_POINT=0.72,
    OPTIMIZER_CFG=dict(_delete_=True, type="Ranger", lr=1e-4, weight_decay=0),
)
MODEL = dict(
    POSE_NET=dict(
        NUM_CLASSES=8,
        BACKBONE=dict(INIT_CFG=dict(type="timm/resnest50d")),
        GEO_HEAD=dict(INIT_CFG=dict(in_dim=2048)),
        SELFOCC_HEAD=dict(INIT_CFG=dict(in_dim=2048)),
        PNP_NET=dict(
            INIT_CFG=dict(act="gelu"),
            REGION_ATTENTION=True,
            WITH_2D_COORD=True,
            ROT_TYPE="allo_rot6d",
            TRANS_TYPE="centroid_z",
        ),
        LOSS_CFG=dict(
            XYZ_LOSS_MASK_GT="erode",
            REGION_LOSS_MASK_GT="erode",
            Q0_LW=1.0,
            Q0_DEF_LW=10.0,
            CT_LW=10.0,
            CT_P_LW=1.0,
        ),
    ),
)
