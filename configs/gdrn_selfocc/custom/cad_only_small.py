"""Your own objects from their CAD models, with a small network: for a first look, or where there is no GPU.

Expects datasets/BOP_DATASETS/mine as sopose new makes it, see docs/own_object.md. Copy this file, and change
what has a comment.
"""

_base_ = ["../short_run.py"]

OUTPUT_DIR = "output/gdrn_selfocc/mine/cad_only_small"  # a folder for each run
INPUT = dict(BG_IMGS_ROOT="")  # a folder of photographs; real images need them
DATASETS = dict(
    OBJS=(),  # names of models to train, ("obj_000001",); empty for all
    TRAIN=("mine_cad",),  # <folder>_cad, or "path/to/bop/mine:cad"
    TEST=(),  # ("mine_test",) once there are annotated images to score on
)
CAD = dict(
    Z_RANGE=(0.4, 1.2),  # distances at which the camera will see the objects, metres
    ROTATIONS="uniform",  # "upper" for objects that stand on a table, their z axes up
)
SOLVER = dict(TOTAL_EPOCHS=20)  # of 4000 crops each
MODEL = dict(
    POSE_NET=dict(
        NUM_CLASSES=1,  # the number of objects; counts for *_CLASS_AWARE only
        # Right with symmetric objects and without them.
        LOSS_CFG=dict(PM_LOSS_SYM=True, HANDLE_SYM=True, Q0_DEF_LW=0.0),
    ),
)
