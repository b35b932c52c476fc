"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import mmengine.config  # noqa: F401  its formatter caches a grammar at the first import: here, before workers share it
import pytest
import torch
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_REAL_DATA = REPOSITORY.parent / "shared" / "data"

# Workers of pytest-xdist are the parallelism; threads of their own would only compete.
torch.set_num_threads(1)

# The first call of anything in torch or Embree is slow, and machines are shared; examples are the same every run.
settings.register_profile("project", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("project")


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
    from core.bop.toy import make_toy_dataset

    root = tmp_path_factory.mktemp("bop") / "toy"
    make_toy_dataset(root, num_train=8, num_test=4, seed=7)
    return root
