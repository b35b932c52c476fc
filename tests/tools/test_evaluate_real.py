"""Real images beside renderings, on the toy set with the demo's weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sopose.core.images.files import read_image
from sopose.core.utils.errors import UserError
from tools.measure import evaluate_real
from tools.measure.evaluate_real import main

CONFIG, WEIGHTS = "configs/gdrn_selfocc/toy/demo.py", "configs/gdrn_selfocc/toy/demo.safetensors"


@pytest.fixture
def words(repository: Path, toy_root: Path, tmp_path: Path) -> list[str]:
    files = ["--config-file", str(repository / CONFIG), "--weights", str(repository / WEIGHTS)]
    folders = ["--output", str(tmp_path / "out"), "--held-out", str(tmp_path / "held_out")]
    return [*files, *folders, "--opts", f"DATASETS.ROOT={toy_root.parent}", "DATALOADER.NUM_WORKERS=0"]


@pytest.mark.slow
def test_both_sets_are_scored_with_each_part_put_right(words, tmp_path, capsys):
    main(["--images", "2", "--methods", "direct", "pnp", *words])
    said = capsys.readouterr().out
    assert (tmp_path / "out" / "table.md").read_text().strip() in said
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [(row["images"], row["method"]) for row in rows] == [
        (images, method) for images in ("real", "rendered") for method in ("direct", "pnp")
    ]
    for row in rows:
        scores = row["scores"]
        now, placed, turned = (scores[key] for key in ("as estimated", "true translation", "true rotation"))
        assert now["targets"] > 0 and row["parts"]["depth"] >= abs(row["parts"]["depth_bias"]) - 1e-9
        # Rotations depend on which estimate goes to which of several objects of a kind, and on symmetries.
        assert placed["te_cm"] == 0 and placed["ad_0.10"] >= now["ad_0.10"]
        assert turned["te_cm"] > 0


def test_the_same_is_reported_of_what_is_kept(words, tmp_path, monkeypatch):
    settings = ["--images", "0", "--methods", "direct", "pnp, P and Q", *words]
    main(settings)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {"demo-real-direct.npz", "demo-real-pnp-P-and-Q.npz", "demo-real-direct.jpg"} < set(before)
    monkeypatch.setattr(evaluate_real, "build_trained_model", None)  # no network is opened
    main(["--report-only", *settings])
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_renderings_can_be_left_out_and_photographs_rendered(words, tmp_path):
    main(["--images", "0", "--twins", "--methods", "direct", *words])
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [row["images"] for row in rows] == ["real", "twins", "pasted"]
    assert len({row["scores"]["as estimated"]["targets"] for row in rows}) == 1  # they are the same targets
    assert len({row["scores"]["as estimated"]["te_cm"] for row in rows}) == 3
    assert not (tmp_path / "held_out").exists()
    for images in ("real", "twins", "pasted"):
        assert read_image(tmp_path / "out" / f"demo-{images}-direct.jpg").shape[0] > 4 * 160  # a row of each object
    assert not (tmp_path / "out" / "curve.png").exists()


@pytest.mark.slow
def test_several_weights_make_a_curve(words, tmp_path):
    for number in (100, 200):
        shutil.copy(words[3], tmp_path / f"model_{number:07d}.safetensors")
    words[3:4] = [str(tmp_path / "model_0000100.safetensors"), str(tmp_path / "model_0000200.safetensors")]
    main(["--images", "0", "--methods", "direct", *words])
    rows = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [row["weights"] for row in rows] == ["model_0000100", "model_0000200"]
    assert rows[0]["scores"] == rows[1]["scores"]
    assert read_image(tmp_path / "out" / "curve.png").size


def test_without_real_images_there_is_nothing_to_say(words):
    with pytest.raises(UserError, match=r"DATASETS\.TEST is empty"):
        main([*words, "DATASETS.TEST=[]"])
