"""SO-Pose on LM: thirteen objects, one network, the usual 15 % of the real images."""

_base_ = ["../lmo/gdrn_selfocc_multistep_40E.py"]

OUTPUT_DIR = "output/gdrn_selfocc/lm/all"
DATASETS = dict(
    TRAIN=("lm_13_train",),
    TRAIN2=("lm_pbr_13_train",),
    TRAIN2_RATIO=0.1,
    TEST=("lm_13_test",),
    DET_FILES_TEST=(),
)
TEST = dict(TEST_BBOX_TYPE="gt")
MODEL = dict(POSE_NET=dict(NUM_CLASSES=13))
