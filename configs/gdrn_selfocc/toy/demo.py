"""The demo: a minute or two of training on the toy data set, from the weights beside this file, and four looks."""

_base_ = ["./from_cad.py"]

OUTPUT_DIR = "output/gdrn_selfocc/toy/demo"
DATASETS = dict(TRAIN=("toy_train",))
SOLVER = dict(TOTAL_EPOCHS=6, OPTIMIZER_CFG=dict(lr=1e-4), WARMUP_ITERS=20, ANNEAL_POINT=0.3)
TRAIN = dict(PRINT_FREQ=10)
TEST = dict(REFINE=dict(ITERATIONS=4))
MODEL = dict(
    WEIGHTS="configs/gdrn_selfocc/toy/demo.safetensors",
    EMA=dict(INIT_CFG=dict(decay=0.97)),
    POSE_NET=dict(BACKBONE=dict(PRETRAINED="")),
)
