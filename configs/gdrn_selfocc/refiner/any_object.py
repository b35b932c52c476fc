"""A second look for any object, learned from the models of LM-O, YCB-V and generated parts: two hours or more on a CPU.

sopose toy --parts 60 makes the parts. Driller and cat are left out, so that what it does for objects it never saw can
be measured on LM-O.
"""

_base_ = ["./toy.py"]

OUTPUT_DIR = "output/gdrn_selfocc/refiner/any_object"
# These are kept to measure what it does where no object is; they train nothing.
INPUT = dict(BG_LEFT_OUT=("*8.jpg", "*9.jpg"))
DATASETS = dict(
    TRAIN=("lmo_cad", "ycbv_cad", "parts_cad"), OBJS=("ape", "can", "duck", "eggbox", "glue", "holepuncher")
)
CAD = dict(EPOCH_LENGTH=1000, POOL=960, TINT=0.1, HIDE_PROB=0.75, STANDING_PROB=0.5)
SOLVER = dict(IMS_PER_BATCH=32, TOTAL_EPOCHS=68)
MODEL = dict(REFINE=dict(CAUTION=3.0, START=dict(FACTORS=(0.1, 0.35, 1.0, 1.0, 2.0))))
