"""The demo's weights, their evaluation, and a photograph of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sopose.core.bop.scene import read_rgb
from sopose.data.eval_set import EvalSet
from sopose.inference.found import Box
from sopose.main_gdrn import main
from sopose.settings import load_settings
from tests.support.builders import eval_set_of
from tests.support.shared import shared_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, repository, toy_root) -> dict[str, Any]:
    """The demo's weights, and their evaluation on the small toy set."""
    config = repository / "configs" / "gdrn_selfocc" / "toy" / "demo.py"
    weights = config.with_name("demo.safetensors")
    opts = [f"DATASETS.ROOT={toy_root.parent}", f"MODEL.WEIGHTS={weights}", "MODEL.DEVICE=cpu"]
    opts.append("TEST.REFINE.ITERATIONS=0")  # the weights' own configuration has no second looks

    def make(folder: Path) -> None:
        words = ["--eval-only", "--opts", *opts, f"OUTPUT_DIR={folder}", "VAL.REPORT_CASES=0"]
        main(["--config-file", str(config), *words])

    folder = shared_folder(tmp_path_factory, "estimator", make)
    csv = next(folder.rglob("*.csv"))
    return {"cfg": load_settings(config, opts), "opts": opts, "weights": weights, "csv": csv}


@pytest.fixture(scope="module")
def test_set(run) -> EvalSet:
    return eval_set_of(run["cfg"], "toy_test")


@pytest.fixture(scope="module")
def photo(test_set) -> tuple[np.ndarray, np.ndarray, Box]:
    """An image, its K, and a box in it."""
    item = test_set.source.items[0]
    return (
        read_rgb(item.record)[..., ::-1],
        item.record.K,
        Box(test_set.source.objects[item.obj_id].model.name, item.box),
    )
