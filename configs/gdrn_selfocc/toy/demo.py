"""The demo: a few minutes of training on the toy data set, from the weights beside this file."""

_base_ = ["./from_cad.py"]

OUTPUT_DIR = "output/gdrn_selfocc/toy/demo"
DATASETS = dict(TRAIN=("toy_train",), TRAIN2=(), TRAIN2_RATIO=0.0)
SOLVER = dict(
    TOTAL_EPOCHS=12,
    OPTIMIZER_CFG=dict(lr=3e-4),
    ANNEAL_POINT=0.3,
)
TRAIN = dict(PRINT_FREQ=10, CT_START=0.0, CT_P_START=0.0)
MODEL = dict(
    WEIGHTS="configs/gdrn_selfocc/toy/demo.safetensors",
    POSE_NET=dict(BACKBONE=dict(PRETRAINED="")),
)
