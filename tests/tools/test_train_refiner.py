"""From CAD models to a refiner, and from that to refined poses, by the commands of the documentation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sopose.core.bop.results import read_results
from sopose.core.utils.errors import UserError
from sopose.inference.predictions import FILE_NAME, read_predictions
from sopose.main_gdrn import main as main_gdrn
from tests.support.command import verb
from tools.measure.evaluate_refiner import main as evaluate_refiner

train_refiner = verb("refiner")

SMALL = """
SOLVER = dict(IMS_PER_BATCH=2, TOTAL_EPOCHS=1, OPTIMIZER_CFG=dict(_delete_=True, type="AdamW", lr=1e-3))
DATASETS = dict(TRAIN=("toy_cad",), TRAIN2=(), TEST=("toy_test",))
CAD = dict(EPOCH_LENGTH=4, REUSE=2, POOL=8)
VIS_PERIOD = 1
MODEL = dict(REFINE=dict(CHANNELS=8, INPUT_RES=64, OUTPUT_RES=16))
"""


@pytest.fixture(scope="module")
def refiner(tmp_path_factory, write_tiny_config) -> Path:
    folder = tmp_path_factory.mktemp("refiner")
    train_refiner(["--config-file", str(write_tiny_config(folder, SMALL))])
    return folder / "out" / "refiner.safetensors"


def test_a_refiner_is_trained_and_used_for_evaluation(refiner, toy_run, tmp_path, capsys):
    assert {path.name for path in refiner.parent.iterdir()} >= {"config.py", "metrics.json", "run.json", "tensorboard"}
    words = [f"OUTPUT_DIR={tmp_path}", f"MODEL.WEIGHTS={toy_run['output'] / 'model_final.safetensors'}"]
    looks = ["TEST.REFINE.ITERATIONS=2", f"TEST.REFINE.WEIGHTS={refiner}"]
    main_gdrn(["--config-file", str(toy_run["config"]), "--eval-only", "--opts", *words, *looks])
    predictions = read_predictions(next(tmp_path.rglob(FILE_NAME)))
    (csv,) = tmp_path.rglob("*.csv")
    assert len(read_results(csv)) == len(predictions.coarse) == len(predictions.estimates)
    assert "second looks: 2 by" in predictions.facts["poses"]
    assert "before second looks" in next(tmp_path.rglob("report.html")).read_text()


def test_what_looks_do_is_shown_in_a_table(refiner, toy_run, tmp_path, capsys):
    evaluate_refiner(
        [
            *("--refiner", str(refiner), "--config-file", str(toy_run["config"]), "--output", str(tmp_path)),
            *("--weights", str(toy_run["output"] / "model_final.safetensors"), "--iterations", "1", "--images", "2"),
        ]
    )
    table = (tmp_path / "table.txt").read_text()
    assert table.strip() == capsys.readouterr().out.strip()
    for start in ("network", "perturbed", "true"):
        assert f"from {start} poses" in table
    written = json.loads((tmp_path / "results.json").read_text())
    from_true = next(entry["results"] for entry in written if entry["start"] == "true")
    assert all(target["mssd"] < 1e-9 for target in from_true["0"]) and len(from_true["0"]) == len(from_true["1"])


def test_a_run_is_not_begun_twice(refiner):
    words = ["--config-file", str(refiner.parent.parent / "tiny.py")]
    with pytest.raises(UserError, match="holds a run already; add --resume"):
        train_refiner(words)
