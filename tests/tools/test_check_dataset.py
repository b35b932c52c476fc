"""The tool's words, exit codes and page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sopose.core.utils.errors import UserError
from tests.support.command import verb

main = verb("check")

SCENE = "test/000001"


@pytest.fixture
def faulty(toy_root, tmp_path) -> Path:
    """The toy's test images, with a mask that is another's, a box in corners and <b>HTML</b> in a file name."""
    root = tmp_path / "faulty"
    shutil.copytree(toy_root, root, ignore=shutil.ignore_patterns("train", "models_eval"))
    masks = root / SCENE / "mask"
    shutil.copy(masks / "000000_000001.png", masks / "000000_000000.png")
    path = root / SCENE / "scene_gt_info.json"
    infos = json.loads(path.read_text())
    x, y, w, h = infos["1"][0]["bbox_obj"]
    infos["1"][0]["bbox_obj"] = [x, y, x + w, y + h]
    path.write_text(json.dumps(infos))
    shutil.copy(masks / "000000_000001.png", masks / "<b>.png")
    return root


def test_sound_data_are_reported_in_a_few_lines(toy_root, capsys):
    main([str(toy_root), "--images", "2", "--workers", "1", "--splits", "test"])
    said = capsys.readouterr().out
    assert "4 listed, 2 looked at" in said and "no errors, no warnings, no notes" in said


def test_faults_leave_with_1_and_one_line(faulty):
    words = [sys.executable, "-m", "sopose", "check", str(faulty), "--images", "2", "--workers", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(rf"^error: {faulty} has \d errors?; repair", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


def test_findings_are_reported_by_kind_with_their_places(faulty, capsys):
    with pytest.raises(UserError, match="2 errors"):
        main([str(faulty), "--images", "0", "--workers", "1"])
    said = capsys.readouterr().out
    assert re.search(r"^error +mask-order +1 +a mask is another instance's: number masks", said, re.MULTILINE)
    assert f"{SCENE}/mask/000000_000000.png: it fits entry 1" in said
    assert f"{SCENE}/scene_gt_info.json, image 1, entry 0: bbox_obj" in said
    assert re.search(r"^warning +image-unlisted +1 ", said, re.MULTILINE)


def test_the_page_stands_alone_and_draws_the_worst(faulty, tmp_path, capsys):
    page = tmp_path / "page.html"
    with pytest.raises(UserError):
        main([str(faulty), "--images", "0", "--workers", "1", "--html", str(page)])
    html = page.read_text(encoding="utf-8")
    assert "mask-order" in html and "it fits entry 1" in html and "x1, y1, x2, y2" in html
    assert "<b>" not in html and "&lt;b&gt;.png" in html
    assert not re.search(r"https?://|//cdn|@import|url\(|<script", html)
    assert "prefers-color-scheme: dark" in html
    pictures = re.findall(r'src="data:image/\w+;base64,([^"]+)"', html)
    assert len(pictures) == html.count("<img") == 4


def test_a_picture_shows_the_label_in_blue_and_the_mask_in_orange(faulty):
    from sopose.core.doctor.examine import examine
    from sopose.core.doctor.page import LABELS, worst_cases

    found = examine(faulty, images=0)
    cases = worst_cases(found.findings, found.context, 1)
    view = dict(cases[0].panels)["close-up"].astype(int)
    for label in ("pose", "mask file"):
        color = np.array(list(bytes.fromhex(LABELS[label].removeprefix("#"))))
        assert (np.abs(view - color).max(axis=-1) < 40).sum() > 200


def test_a_damaged_image_loses_its_picture_and_not_the_page(faulty, tmp_path):
    (faulty / SCENE / "rgb/000000.png").write_bytes(b"no image")
    page = tmp_path / "page.html"
    with pytest.raises(UserError, match="3 errors"):
        main([str(faulty), "--images", "0", "--workers", "1", "--html", str(page)])
    assert page.read_text(encoding="utf-8").count("<img") == 2


def test_the_data_set_is_only_read(faulty):
    before = {path: path.stat().st_mtime_ns for path in faulty.rglob("*")}
    with pytest.raises(UserError):
        main([str(faulty), "--images", "1", "--workers", "1"])
    assert before == {path: path.stat().st_mtime_ns for path in faulty.rglob("*")}


def test_a_place_that_cannot_be_written_is_reported_before_the_work(faulty, tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        main([str(faulty), "--html", str(tmp_path)])


@pytest.mark.parametrize("words", [[], ["data", "--images", "-1"], ["data", "--workers", "0"], ["data", "--nothing"]])
def test_wrong_usage_leaves_with_2(words):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
