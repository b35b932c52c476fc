"""Training from CAD models on a CPU: one object of LM-O, a small network at 128 pixels."""

_base_ = ["../short_run.py"]

OUTPUT_DIR = "output/gdrn_selfocc/lmo/cad_only_cpu"
# These are kept to measure what it does where no object is; they train nothing.
INPUT = dict(BG_LEFT_OUT=("*8.jpg", "*9.jpg"))
DATASETS = dict(OBJS=("can",), TRAIN=("lmo_cad",), TEST=("lmo_bop_test",))
CAD = dict(ROTATIONS="upper", STANDING_PROB=0.5, MAX_OCCLUDERS=2, TINT=0.1)
DATALOADER = dict(NUM_WORKERS=2)  # drawing a crop takes longer than learning from it
SOLVER = dict(TOTAL_EPOCHS=40)
TEST = dict(USE_PNP=True, PNP_TYPE="net_iter_pnp")  # the best on renderings, see docs/results.md
MODEL = dict(
    DEVICE="cpu",
    POSE_NET=dict(
        NUM_CLASSES=1,
        BACKBONE=dict(FREEZE_DEPTHWISE=True),
        # PnP takes P and Q alone; with the released weights regions and depth outweigh them in the shared backbone.
        LOSS_CFG=dict(XYZ_LW=5.0, Q0_LW=3.0, REGION_LW=0.5),
    ),
)
