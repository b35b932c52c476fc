"""Training from LM-O's CAD models alone; every ROI is drawn on the fly."""

_base_ = ["./gdrn_selfocc_multistep_40E.py"]

OUTPUT_DIR = "output/gdrn_selfocc/lmo/cad_only"
DATASETS = dict(TRAIN=("lmo_cad",), TRAIN2=(), TRAIN2_RATIO=0.0, TEST=("lmo_bop_test",), DET_FILES_TEST=())
CAD = dict(ROTATIONS="upper", STANDING_PROB=0.5)  # LM-O's objects stand on a table, their z axes up
DATALOADER = dict(NUM_WORKERS=2)
TEST = dict(TEST_BBOX_TYPE="gt")
