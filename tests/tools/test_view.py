"""The viewer's command line: what it shows of an image, of results, and of a mesh alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from sopose.core.bop.models import load_models, write_model
from sopose.core.bop.records import ImageRecord
from sopose.core.bop.results import Estimate, write_results
from sopose.core.bop.scene import load_split, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, write_json
from tests.support.command import verb

main = verb("view")

SHIFT = np.array([0.006, 0.0, 0.008])  # metres; 10 mm long


@pytest.fixture(scope="module")
def record(toy_root) -> ImageRecord:
    return load_split(resolve_split("toy_test", toy_root.parent))[-1]


@pytest.fixture
def words(toy_root, record, tmp_path) -> list[str]:
    image = ["--scene", str(record.scene_id), "--image", str(record.im_id)]
    return ["--dataset", str(toy_root), *image, "--html", str(tmp_path / "view.html")]


@pytest.fixture(scope="module")
def results(record, tmp_path_factory) -> Path:
    """Every instance of the image, each 10 mm off, and one estimate that is no number."""
    path = tmp_path_factory.mktemp("results") / "mine_toy-test.csv"
    poses = [(item.obj_id, Pose(item.pose.cam_R_obj, item.pose.cam_t_obj + SHIFT)) for item in record.instances]
    poses.append((poses[0][0], Pose(np.eye(3), np.full(3, np.nan))))
    write_results(path, [Estimate(record.scene_id, record.im_id, obj_id, 0.5, pose) for obj_id, pose in poses])
    return path


def page_of(folder: Path) -> tuple[str, dict]:
    text = (folder / "view.html").read_text(encoding="utf-8")
    return text, json.loads(re.search(r'id="data">(.*?)</script>', text)[1])


def test_truth_and_estimates_are_shown_with_their_errors(words, record, results, tmp_path):
    main([*words, "--estimates", str(results)])
    page, data = page_of(tmp_path)
    count = len(record.instances)
    assert [pose["series"] for pose in data["poses"]] == ["truth", results.stem] * count
    assert page.count("<td>10.0 mm</td>") >= count and page.count("<td>0.0°</td>") == count
    np.testing.assert_allclose(data["photo"]["K"], record.K)
    shift = np.subtract(data["poses"][1]["matrix"], data["poses"][0]["matrix"])[12:15]
    np.testing.assert_allclose(shift, SHIFT, atol=1e-9)  # metres


def test_objects_are_chosen_by_name_or_id(words, toy_root, record, results, tmp_path):
    names = resolve_split("toy_test", toy_root.parent).object_names
    obj_id = record.instances[0].obj_id
    for word in (str(obj_id), names[obj_id]):
        main([*words, "--estimates", str(results), "--objects", word])
        page, data = page_of(tmp_path)
        wanted = [item for item in record.instances if item.obj_id == obj_id]
        assert len(data["poses"]) == 2 * len(wanted) and names[obj_id] in page


@pytest.fixture
def other_set(toy_root, record, tmp_path) -> Path:
    """A copy of the toy set in which object 4 is absent from the image and object 1 is there twice."""
    root = tmp_path / "other"
    shutil.copytree(toy_root, root)
    scene = root / "test" / f"{record.scene_id:06d}" / "scene_gt.json"
    content = read_json(scene)
    ones, fours = ([e for e in content[str(record.im_id)] if e["obj_id"] == obj_id] for obj_id in (1, 4))
    assert len(ones) == len(fours) == 1
    fours[0]["obj_id"] = 1
    write_json(scene, content)
    return root


def test_an_estimate_without_truth_stands_alone(words, other_set, record, tmp_path):
    write_results(tmp_path / "wrong.csv", [Estimate(record.scene_id, record.im_id, 4, 0.5, record.instances[0].pose)])
    choice = ["--dataset", str(other_set), "--objects", "4"]
    main([*words, *choice, "--estimates", str(tmp_path / "wrong.csv")])
    page, data = page_of(tmp_path)
    assert "(no truth)" in page and [pose["series"] for pose in data["poses"]] == ["wrong"]
    with pytest.raises(UserError, match="none of the objects"):
        main([*words, *choice])


def test_of_two_instances_each_has_its_nearest_estimate(words, other_set, record, tmp_path):
    split = load_split(resolve_split(f"{other_set}:test", other_set.parent))[-1]
    poses = [item.pose for item in split.instances if item.obj_id == 1]
    moved = [Pose(pose.cam_R_obj, pose.cam_t_obj + SHIFT) for pose in poses]
    rows = [
        Estimate(record.scene_id, record.im_id, 1, score, pose) for score, pose in zip((0.2, 0.9), moved, strict=True)
    ]
    write_results(tmp_path / "two.csv", [*rows, Estimate(record.scene_id, record.im_id, 1, 0.1, poses[0])])
    main([*words, "--dataset", str(other_set), "--objects", "1", "--estimates", str(tmp_path / "two.csv")])
    page, data = page_of(tmp_path)
    assert len(data["poses"]) == 4 and page.count("<td>10.0 mm</td>") >= 2  # the worst-scored row is one too many
    assert len(re.findall(r">[^<]+ [12]</button>", page)) == 2


def test_the_picture_has_outlines_beside_the_drawn_models(words, record, results, tmp_path):
    main([*words[:-2], "--estimates", str(results), "--picture", str(tmp_path / "view.png")])
    assert not (tmp_path / "view.html").exists()
    photograph = read_rgb(record)
    outlined, drawn = np.split(cv2.imread(str(tmp_path / "view.png")), 2, axis=1)
    for picture in (outlined, drawn):
        changed = (picture != photograph).any(-1)
        assert 0.005 < changed.mean() < 0.7


def test_a_mesh_alone_has_the_symmetries_of_its_folder(toy_root, tmp_path, capsys):
    models = load_models(toy_root / "models")
    symmetric = next(model for model in models.values() if model.is_symmetric)
    folder = toy_root / "models"
    main(["--mesh", str(folder / f"obj_{symmetric.obj_id:06d}.ply"), "--html", str(tmp_path / "view.html")])
    _, data = page_of(tmp_path)
    mesh = data["meshes"][0]
    assert mesh["symmetries"] and mesh["diameter"] == symmetric.diameter and data["photo"] is None
    write_model(tmp_path / "part.ply", symmetric)
    main(["--mesh", str(tmp_path / "part.ply"), "--html", str(tmp_path / "view.html")])
    alone = page_of(tmp_path)[1]["meshes"][0]
    assert not alone["symmetries"] and alone["diameter"] == pytest.approx(symmetric.diameter, abs=1e-5)  # metres
    assert str(tmp_path / "view.html") in capsys.readouterr().out


def test_a_flat_mesh_is_shown(tmp_path):
    lines = ["ply", "format ascii 1.0", "element vertex 4", *(f"property float {axis}" for axis in "xyz")]
    lines += ["element face 2", "property list uchar int vertex_indices", "end_header"]
    lines += ["0 0 0", "30 0 0", "30 40 0", "0 40 0", "3 0 1 2", "3 0 2 3"]
    (tmp_path / "flat.ply").write_text("\n".join(lines) + "\n")
    main(["--mesh", str(tmp_path / "flat.ply"), "--html", str(tmp_path / "view.html")])
    assert page_of(tmp_path)[1]["meshes"][0]["diameter"] == pytest.approx(0.05, abs=1e-9)  # metres


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--objects", "brackett"], "did you mean 'bracket'"),
        (["--scene", "77"], "no image of scene 77; choose among scenes"),
        (["--image", "777777"], "no image 777777; choose among"),
        (["--split", "nothing"], "no split 'nothing'"),
        (["--estimates", "nothing.csv"], "nothing.csv is missing"),
        (["--picture", "view.txt"], "names no image format"),
        (["--html", "/"], "is a folder"),
    ],
)
def test_wrong_choices_are_reported_in_a_line(words, tmp_path, wrong, message):
    with pytest.raises(UserError, match=re.escape(message)) as error:
        main([*words, *wrong])
    assert "\n" not in str(error.value) and not (tmp_path / "view.html").exists()


@pytest.mark.parametrize(
    "wrong", [[], ["--dataset", "toy", "--mesh", "a.ply"], ["--mesh", "a.ply", "--picture", "a.png"]]
)
def test_wrong_usage_leaves_with_2(wrong):
    with pytest.raises(SystemExit) as left:
        main(wrong)
    assert left.value.code == 2
