"""SO-Pose on T-LESS: thirty objects without texture, most of them symmetric; real and PBR images."""

_base_ = ["../lmo/gdrn_selfocc_multistep_40E.py"]

OUTPUT_DIR = "output/gdrn_selfocc/tless/all"
DATASETS = dict(
    TRAIN=("tless_train_primesense",),  # one object on black in each image; CHANGE_BG_PROB gives them backgrounds
    TRAIN2=("tless_train_pbr",),
    TRAIN2_RATIO=0.75,  # the clutter and the occlusion of the test scenes are in the PBR images only
    TEST=("tless_bop_test",),
    DET_FILES_TEST=(),  # a detection json, with TEST_BBOX_TYPE="est"
    SYM_OBJS=(),  # those to which models_info.json gives symmetries
)
DATALOADER = dict(FILTER_VISIB_THR=0.1)
TEST = dict(TEST_BBOX_TYPE="gt")
MODEL = dict(
    POSE_NET=dict(
        NUM_CLASSES=30,
        # loss_q_def knows one true pose, HANDLE_SYM all that look alike: it is left out.
        LOSS_CFG=dict(PM_LOSS_SYM=True, PM_NORM_BY_EXTENT=True, HANDLE_SYM=True, Q0_DEF_LW=0.0),
    ),
)
