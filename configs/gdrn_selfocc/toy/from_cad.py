"""The toy objects from scratch: rendered views and the training images, half and half.

This made the weights that the demo starts from; see README.md beside this file.
"""

_base_ = ["../short_run.py"]

OUTPUT_DIR = "output/gdrn_selfocc/toy/from_cad"
INPUT = dict(COLOR_AUG_PROB=0.5, TRUNCATE_FG=False, CHANGE_BG_PROB=0.3)
DATASETS = dict(TRAIN=("toy_cad",), TRAIN2=("toy_train",), TRAIN2_RATIO=0.5, TEST=("toy_test",))
CAD = dict(
    Z_RANGE=(0.35, 1.0),
    # The toy images are renderings as well: looks need to vary as theirs do, and no more.
    AMBIENT=(0.2, 0.6),
    AMBIENT_SLOPE=0.0,
    SPECULAR=(0.0, 0.06),
    ROUGHNESS=(0.2, 0.9),
    HUE=8.0,
    SATURATION=0.3,
    BRIGHTNESS=0.3,
    STAINS=0.0,
    BLUR=(0.4, 1.4),
    GAIN=0.15,
    GAMMA=0.2,
    SHARPEN=(0.0, 0.0),
)
SOLVER = dict(TOTAL_EPOCHS=16)
MODEL = dict(
    POSE_NET=dict(
        NUM_CLASSES=4,
        INPUT_RES=96,
        OUTPUT_RES=24,
        # loss_q_def knows one true pose; two of the objects have several.
        LOSS_CFG=dict(NUM_PM_POINTS=500, PM_LOSS_SYM=True, HANDLE_SYM=True, Q0_DEF_LW=0.0),
    ),
)
