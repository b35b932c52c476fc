"""Your own objects from their CAD models, with a small network that has seen others: where there is no GPU.

The network is that of LM-O's eight objects and starts with what it learned there. Expects datasets/BOP_DATASETS/mine as
sopose new makes it, see docs/own_object.md. Copy this file, and change what has a comment.
"""

_base_ = ["../lmo/cad_only_eight.py"]

OUTPUT_DIR = "output/gdrn_selfocc/mine/cad_only_small"  # a folder for each run
INPUT = dict(BG_IMGS_ROOT="", BG_LEFT_OUT=())  # a folder of photographs; real images need them
DATASETS = dict(
    OBJS=(),  # names of models to train, ("obj_000001",); empty for all
    TRAIN=("mine_cad",),  # <folder>_cad, or "path/to/bop/mine:cad"
    TEST=(),  # ("mine_test",) once there are annotated images to score on
)
CAD = dict(
    Z_RANGE=(0.4, 1.2),  # distances at which the camera will see the objects, metres
    ROTATIONS="uniform",  # "upper" for objects that stand on a table, their z axes up
    STANDING_PROB=0.0,
    EPOCH_LENGTH=4000,
    POOL=1024,  # a quarter of the eight's: a short training would wait for its windows
)
TEST = dict(ROLLS=(), REFINE=dict(STARTS=4))  # looks begin at the pose and at three by PnP
SOLVER = dict(TOTAL_EPOCHS=20)  # of 4000 crops each
MODEL = dict(
    DEVICE="cuda",  # the CPU where there is no GPU
    START="configs/gdrn_selfocc/lmo/cad_only_eight.safetensors",  # "" for a backbone with ImageNet's weights alone
    POSE_NET=dict(
        # One output for all objects; with True in the four *_CLASS_AWARE of GEO_HEAD and SELFOCC_HEAD one for each.
        NUM_CLASSES=1,
        GEO_HEAD=dict(XYZ_CLASS_AWARE=False, MASK_CLASS_AWARE=False, REGION_CLASS_AWARE=False),
        SELFOCC_HEAD=dict(Q0_CLASS_AWARE=False),
    ),
)
