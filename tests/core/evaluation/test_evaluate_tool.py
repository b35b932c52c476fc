"""The script on the toy data set: the truth as a csv scores 100 %, wrong input is one line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from sopose.core.bop.results import Estimate, write_results
from sopose.core.bop.scene import load_split
from sopose.core.evaluation.score_files import ScoreOptions, score_files
from sopose.core.utils.errors import UserError
from tests.support.command import verb

score = verb("score")


@pytest.fixture(scope="module")
def results(toy_root, tmp_path_factory):
    """Two csv files: the truth, and the truth of every second instance."""
    from sopose.core.bop.splits import resolve_split

    records = load_split(resolve_split("toy_test", toy_root.parent))
    truth = [Estimate(r.scene_id, r.im_id, i.obj_id, 1.0, i.pose, 0.1) for r in records for i in r.instances]
    folder = tmp_path_factory.mktemp("results")
    write_results(folder / "truth_toy-test.csv", truth)
    write_results(folder / "half_toy-test.csv", [replace(estimate, time=-1.0) for estimate in truth[::2]])
    return folder


def arguments(toy_root, *more) -> list[str]:
    return [*map(str, more), "--dataset", "toy", "--datasets-root", str(toy_root.parent)]


def test_the_truth_scores_one_hundred(toy_root, results, tmp_path, capsys):
    outputs = ("--report", tmp_path / "r.html", "--json", tmp_path / "s.json")
    score(arguments(toy_root, results / "truth_toy-test.csv", *outputs))
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["overall"]["AR_MSSD"] == scores["overall"]["AR_MSPD"] == scores["mean"]["ad_0.02"] == 1.0
    assert scores["time_per_image"] == pytest.approx(0.1)
    assert "truth_toy-test" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "100.0" in capsys.readouterr().out


def test_files_are_scored_from_python_by_name(toy_root, results):
    paths = [results / "truth_toy-test.csv", results / "half_toy-test.csv"]
    found = score_files(ScoreOptions(str(toy_root), paths, metrics=["add"]))
    assert list(found) == ["truth_toy-test", "half_toy-test"]
    truth, half = (scores.mean["ad_0.10"] for scores in found.values())
    assert truth == 1.0 and 0 < half < 1


def test_scores_that_are_no_numbers_have_a_report(toy_root, results, tmp_path):
    text = (results / "truth_toy-test.csv").read_text().replace(",1.0,", ",nan,", 3).replace(",1.0,", ",inf,", 2)
    (tmp_path / "odd_toy-test.csv").write_text(text)
    outputs = ("--report", tmp_path / "r.html", "--json", tmp_path / "s.json")
    score(arguments(toy_root, tmp_path / "odd_toy-test.csv", *outputs, "--metrics", "add", "bop19", "bop24"))
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["overall"]["AR_MSSD"] == 1.0 and "score nan" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_list_of_images_alone_asks_for_what_is_visible_there(toy_root, results, tmp_path):
    """BOP24's `test_targets_bop24.json` has scene and image, no object."""
    bop19 = json.loads((toy_root / "test_targets_bop19.json").read_text())
    images = sorted({(entry["scene_id"], entry["im_id"]) for entry in bop19})
    bop24 = tmp_path / "test_targets_bop24.json"
    bop24.write_text(json.dumps([{"im_id": im_id, "scene_id": scene_id} for scene_id, im_id in images]))
    scores = []
    for more in ((), ("--targets", bop24)):
        metrics = ("--metrics", "bop19", "bop24", "--json", tmp_path / "s.json")
        score(arguments(toy_root, results / "half_toy-test.csv", *metrics, *more))
        scores.append(json.loads((tmp_path / "s.json").read_text()))
    assert scores[0] == scores[1] and 0 < scores[0]["mean"]["AP_BOP24"] < 1


def test_two_results_stand_side_by_side(toy_root, results, tmp_path, capsys):
    files = [results / "truth_toy-test.csv", results / "half_toy-test.csv"]
    score(arguments(toy_root, *files, "--json", tmp_path / "s.json"))
    out = capsys.readouterr().out
    assert "[1] truth_toy-test" in out and "[2] half_toy-test" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "s_half_toy-test.json",
        "s_truth_toy-test.json",
    ]


def test_objects_can_be_chosen(toy_root, results, tmp_path):
    score(arguments(toy_root, results / "half_toy-test.csv", "--objects", 3, "--json", tmp_path / "s.json"))
    assert [row["obj_id"] for row in json.loads((tmp_path / "s.json").read_text())["objects"]] == [3]


@pytest.mark.slow
def test_several_results_have_a_report_each_that_compares_them(toy_root, results, tmp_path):
    files = [results / "truth_toy-test.csv", results / "half_toy-test.csv"]
    score(arguments(toy_root, *files, "--report", tmp_path / "r.html"))
    for name in ("truth", "half"):
        html = (tmp_path / f"r_{name}_toy-test.html").read_text(encoding="utf-8")
        assert "Side by side" in html and "half_toy-test" in html and "truth and estimate" in html


def test_vsd_is_scored_where_depth_is_there(toy_root, results, tmp_path, capsys):
    csv = results / "truth_toy-test.csv"
    score(arguments(toy_root, csv, "--metrics", "bop19", "--workers", "1", "--json", tmp_path / "s.json"))
    overall = json.loads((tmp_path / "s.json").read_text())["overall"]
    assert overall["AR_VSD"] == overall["AR"] == 1.0
    assert "VSD is left out" not in capsys.readouterr().out


def test_tables_are_written_as_csv_and_latex(toy_root, results, tmp_path):
    files = [results / "truth_toy-test.csv", results / "half_toy-test.csv"]
    outputs = ("--csv", tmp_path / "t.csv", "--latex", tmp_path / "t.tex", "--metrics", "add")
    score(arguments(toy_root, *files, *outputs))
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert rows[0] == "result,object,targets,found,column,value,low,high"
    assert any(row.startswith("truth_toy-test,mean over objects,,,ad_0.10,1.0,1.0,1.0") for row in rows)
    tex = (tmp_path / "t.tex").read_text()
    assert "truth\\_toy-test & 100.0" in tex and tex.count("\\begin") == tex.count("\\end") == 1


def test_detections_of_the_true_boxes_score_one(toy_root, tmp_path, capsys):
    info = json.loads((toy_root / "test/000001/scene_gt_info.json").read_text())
    gt = json.loads((toy_root / "test/000001/scene_gt.json").read_text())
    found = [
        {"scene_id": 1, "image_id": int(im), "category_id": g["obj_id"], "bbox": i["bbox_obj"], "score": 0.5, "time": 1}
        for im in gt
        for g, i in zip(gt[im], info[im], strict=True)
    ]
    (tmp_path / "d.json").write_text(json.dumps(found))
    score(arguments(toy_root, "--detections", tmp_path / "d.json", "--json", tmp_path / "s.json"))
    assert "COCO bbox: AP 100.0" in capsys.readouterr().out
    assert json.loads((tmp_path / "s_coco.json").read_text())["bbox"]["ap"] == pytest.approx(1)


def test_without_the_official_package_its_engine_is_one_line(toy_root, results, monkeypatch):
    monkeypatch.setitem(sys.modules, "bop_toolkit_lib", None)
    with pytest.raises(UserError, match="install it by"):
        score(arguments(toy_root, results / "truth_toy-test.csv", "--engine", "bop_toolkit"))


def test_both_engines_stand_side_by_side(toy_root, results, toolkit, capsys):
    score(arguments(toy_root, results / "half_toy-test.csv", "--engine", "bop_toolkit", "--metrics", "add"))
    out = capsys.readouterr().out
    assert "[1] core" in out and "[2] bop_toolkit" in out and "largest difference of any score: 0 " in out
    assert "add" in toolkit and "adi" in toolkit


@pytest.mark.parametrize("words", [(), ("r.csv", "--metrics", "coco"), ("r.csv", "--metrics", "nothing")])
def test_wrong_usage_leaves_with_2(toy_root, words):
    with pytest.raises(SystemExit) as left:
        score(arguments(toy_root, *words))
    assert left.value.code == 2


@pytest.mark.parametrize("words", [("paper",), ("bop",), ("3", "4")])
def test_symmetric_objects_can_be_named(toy_root, results, tmp_path, words):
    outputs = ("--symmetric", *words, "--json", tmp_path / "s.json", "--metrics", "add")
    score(arguments(toy_root, results / "half_toy-test.csv", *outputs))
    rows = json.loads((tmp_path / "s.json").read_text())["objects"]
    assert {row["obj_id"] for row in rows if row["symmetric"]} == {3, 4}


def test_a_wrong_path_is_one_line_and_exit_code_1(toy_root):
    command = [sys.executable, "-m", "sopose", "score", *arguments(toy_root, "no_toy-test.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "no_toy-test.csv is missing" in done.stderr


def test_results_of_one_name_in_two_folders_are_distinguished(toy_root, results, tmp_path, capsys):
    files = [tmp_path / folder / "m_toy-test.csv" for folder in ("one", "other")]
    for file, name in zip(files, ("truth", "half"), strict=True):
        file.parent.mkdir()
        file.write_bytes((results / f"{name}_toy-test.csv").read_bytes())
    score(arguments(toy_root, *files, "--json", tmp_path / "out" / "s.json"))
    assert "[2] other-m_toy-test" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["s_one-m_toy-test.json", "s_other-m_toy-test.json"]


@pytest.mark.parametrize("option", ["--report", "--json"])
def test_results_and_folders_are_not_written_over(toy_root, results, tmp_path, option):
    csv = results / "truth_toy-test.csv"
    before = csv.read_bytes()
    for output, message in ((csv, "overwritten"), (tmp_path, "is a folder"), (csv / "x", "is a file")):
        with pytest.raises(UserError, match=message):
            score(arguments(toy_root, csv, option, output))
    assert csv.read_bytes() == before


def test_a_width_below_one_is_wrong_usage(toy_root, results):
    with pytest.raises(SystemExit) as left:
        score(arguments(toy_root, results / "truth_toy-test.csv", "--image-width", 0))
    assert left.value.code == 2
