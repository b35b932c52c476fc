"""Your own BOP folder with annotated images. Copy this file, and change what has a comment.

Expects datasets/BOP_DATASETS/mine with models/, train/ and test/ as in docs/data.md. Look at what would be trained:
sopose samples --config-file YOUR_COPY.py
"""

_base_ = ["../lmo/gdrn_selfocc_multistep_40E.py"]

OUTPUT_DIR = "output/gdrn_selfocc/mine/annotated_images"  # a folder for each run
INPUT = dict(BG_IMGS_ROOT="")  # a folder of photographs, such as those of VOC or COCO: real training needs them
DATASETS = dict(
    OBJS=(),  # names of models to train, ("obj_000001",); empty for all
    TRAIN=("mine_train",),  # <folder>_<split>, or "path/to/bop/mine:train"
    TRAIN2=(),  # ("mine_cad",) adds images rendered from the models,
    TRAIN2_RATIO=0.0,  # in this share
    TEST=("mine_test",),
    DET_FILES_TEST=(),  # your detector's boxes, with TEST_BBOX_TYPE="est"
    SYM_OBJS=(),  # those to which models_info.json gives symmetries
)
DATALOADER = dict(NUM_WORKERS=4, FILTER_VISIB_THR=0.1)  # about one worker for each core
SOLVER = dict(IMS_PER_BATCH=24, TOTAL_EPOCHS=40)  # as many ROIs as the GPU holds
TEST = dict(TEST_BBOX_TYPE="gt")
MODEL = dict(
    POSE_NET=dict(
        NUM_CLASSES=1,  # the number of objects; counts for *_CLASS_AWARE only
        # Right with symmetric objects and without them. With none at all, HANDLE_SYM=False and Q0_DEF_LW=10.0 are as
        # published: loss_q_def knows one true pose, HANDLE_SYM all that look alike.
        LOSS_CFG=dict(PM_LOSS_SYM=True, PM_NORM_BY_EXTENT=True, HANDLE_SYM=True, Q0_DEF_LW=0.0),
    ),
)
