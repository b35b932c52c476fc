"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.shared import shared_folder

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_REAL_DATA = REPOSITORY.parent / "shared" / "data"

# The first call of anything in torch or Embree is slow, and machines are shared; examples are the same every run.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("project")


TINY_CONFIG = """
_base_ = ["{base}"]
SEED = 1
CPU_THREADS = 1
OUTPUT_DIR = "{output}"
INPUT = dict(DZI_PAD_SCALE=1.5)
DATASETS = dict(ROOT="{root}", TRAIN=("toy_train",), TRAIN2=("toy_cad",), TRAIN2_RATIO=0.5, TEST=("toy_test",))
DATALOADER = dict(NUM_WORKERS=0)
SOLVER = dict(IMS_PER_BATCH=4, TOTAL_EPOCHS=1, LR_SCHEDULER_NAME="flat_and_anneal", ANNEAL_METHOD="cosine",
              CLIP_GRADIENTS=10.0, OPTIMIZER_CFG=dict(_delete_=True, type="Ranger", lr=1e-4))
TRAIN = dict(PRINT_FREQ=1)
VAL = dict(REPORT_CASES=2)
TEST = dict(TEST_BBOX_TYPE="gt")
CAD = dict(EPOCH_LENGTH=8, Z_RANGE=(0.4, 0.9))
MODEL = dict(
    DEVICE="cpu",
    POSE_NET=dict(
        NUM_CLASSES=4, INPUT_RES=64, OUTPUT_RES=16,
        BACKBONE=dict(PRETRAINED="", INIT_CFG=dict(type="timm/resnet10t", out_indices=(3,))),
        GEO_HEAD=dict(INIT_CFG=dict(in_dim=256, feat_dim=32, up_types=("deconv", "bilinear"))),
        SELFOCC_HEAD=dict(INIT_CFG=dict(in_dim=256, feat_dim=32, up_types=("deconv", "bilinear"))),
        PNP_NET=dict(WITH_2D_COORD=True, REGION_ATTENTION=True, ROT_TYPE="allo_rot6d"),
        LOSS_CFG=dict(NUM_PM_POINTS=64, PM_LOSS_SYM=True, Q0_DEF_LW=10.0, CT_LW=10.0, CT_P_LW=1.0),
    ),
)
"""

# Of `toy_run`, and of what starts from its configuration.
TOY_RUN = """
SOLVER = dict(TOTAL_EPOCHS=2, IMS_PER_BATCH=6, BEST_METRIC="AR_MSPD")
MODEL = dict(
    EMA=dict(ENABLED=True, INIT_CFG=dict(decay=0.5)),
    POSE_NET=dict(PNP_NET=dict(INIT_CFG=dict(drop_prob=0.3))),  # draws random numbers while training
)
TEST = dict(EVAL_PERIOD=1)
VIS_PERIOD = 5
"""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Workers of pytest-xdist are the parallelism; threads of their own would only compete."""
    import torch  # here, so that the process that deals the tests out starts without it

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The project's root folder."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real LM-O and YCB-V data; tests that need it are skipped without it."""
    folder = Path(os.environ.get("SOPOSE_REAL_DATA", DEFAULT_REAL_DATA))
    if not (folder / "lmo").is_dir():
        pytest.skip(f"no real data at {folder}; name its folder by SOPOSE_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small toy data set: `BOP_DATASETS/toy` of the returned folder's parent layout, i.e. the folder `toy`."""
    from sopose.core.making.toy import make_toy_dataset

    def make(folder: Path) -> None:
        make_toy_dataset(folder / "toy", num_train=8, num_test=4, seed=7)

    return shared_folder(tmp_path_factory, "bop", make) / "toy"


@pytest.fixture(scope="session")
def write_tiny_config(toy_root: Path, repository: Path) -> Callable[..., Path]:
    """`write_tiny_config(folder, more="")`: a configuration `tiny.py` there, of a run of seconds on the toy set.

    Its OUTPUT_DIR is `folder/out`; `more` are lines of a file that is based on it.
    """

    def write(folder: Path, more: str = "") -> Path:
        path, below = folder / "tiny.py", folder / "below.py"
        base = repository / "configs" / "_base_" / "gdrn_base.py"
        (below if more else path).write_text(TINY_CONFIG.format(base=base, output=folder / "out", root=toy_root.parent))
        if more:
            path.write_text(f'_base_ = ["{below}"]\n{more}')
        return path

    return write


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory, write_tiny_config: Callable[..., Path]) -> dict[str, Path]:
    """A finished run of two epochs with all that a run offers, to be read only: its configuration and `output` folder.

    It has dropout, a moving average, a profile, pictures, and an evaluation after each epoch.
    """
    from sopose.main_gdrn import main

    def make(folder: Path) -> None:
        main(["--config-file", str(write_tiny_config(folder, TOY_RUN)), "--profile"])

    folder = shared_folder(tmp_path_factory, "toy_run", make)
    return {"config": folder / "tiny.py", "output": folder / "out"}
