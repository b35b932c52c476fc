"""Your own objects from their CAD models alone. Copy this file, and change what has a comment.

Expects datasets/BOP_DATASETS/mine with models/ and camera.json as in docs/data.md; nothing is annotated.
"""

_base_ = ["./annotated_images.py"]

OUTPUT_DIR = "output/gdrn_selfocc/mine/cad_only"  # a folder for each run
DATASETS = dict(
    TRAIN=("mine_cad",),  # <folder>_cad, or "path/to/bop/mine:cad"
    TEST=(),  # ("mine_test",) once there are annotated images to score on
)
CAD = dict(
    Z_RANGE=(0.4, 1.2),  # distances at which the camera will see the objects, metres
    ROTATIONS="uniform",  # "upper" for objects that stand on a table, their z axes up
)
