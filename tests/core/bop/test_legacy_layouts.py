"""Rendered single objects in the layouts `blender` and `imgn`: names of files, units, cameras, and damage."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sopose.core.bop.scene import load_split, read_depth, read_mask, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.utils.errors import UserError
from tests.support.bop_files import K, R, edit_json

CAMERA = {"fx": 572.4, "fy": 573.5, "cx": 325.2, "cy": 242.0, "width": 64, "height": 48}
CAMERA_K = [[572.4, 0, 325.2], [0, 573.5, 242.0], [0, 0, 1]]
POSE_TEXT = "1\n0 -1 0 0.01\n1 0 0 -0.02\n0 0 1 0.5\n"


def write_image(path: Path, level: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((48, 64, 3), level, np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images of the cat in each layout, and LM's camera."""
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm/camera.json").write_text(json.dumps(CAMERA))
    renders = tmp_path / "lm_renders_blender/renders/cat"
    for name in ("2.jpg", "000010.png", "2_depth.png"):
        write_image(renders / name)
    entry = {"cam_R_m2c": R, "cam_t_m2c": [10.0, -20.0, 500.0]}
    (renders / "cat_gt.json").write_text(json.dumps({"2": entry, "10": [entry | {"cam_K": K}, entry | {"obj_id": 1}]}))
    imgn = tmp_path / "lm_imgn/imgn/cat"
    for prefix in ("000001", "000005"):
        write_image(imgn / f"{prefix}-color.png")
        (imgn / f"{prefix}-pose.txt").write_text(POSE_TEXT)
    cv2.imwrite(str(imgn / "000001-depth.png"), np.full((48, 64), 500, np.uint16))
    label = np.zeros((48, 64), np.uint8)
    label[10:20, 30:50] = 1
    cv2.imwrite(str(imgn / "000001-label.png"), label)
    lists = tmp_path / "lm_imgn/image_set"
    lists.mkdir()
    (lists / "train_cat.txt").write_text("000001\n000005\n")
    return tmp_path


BLENDER, IMGN = "lm_blender_cat_train", "lm_imgn_13_cat_train_1k"


def load(root: Path, name: str):
    return load_split(resolve_split(name, root))


def test_a_blender_image_is_a_record_like_any_other(root):
    first, second = load(root, BLENDER)
    assert [(r.scene_id, r.im_id, r.rgb_path.name) for r in (first, second)] == [(6, 2, "2.jpg"), (6, 10, "000010.png")]
    assert first.depth_path is None and read_rgb(first).shape == (48, 64, 3)
    (instance,) = first.instances
    assert (instance.obj_id, instance.gt_index, instance.mask_visib_path) == (6, 0, None)
    np.testing.assert_allclose(instance.pose.cam_t_obj, [0.01, -0.02, 0.5], atol=1e-15)
    np.testing.assert_allclose(first.K, CAMERA_K)
    np.testing.assert_allclose(second.K, np.reshape(K, (3, 3)))  # the entry's own
    assert [item.obj_id for item in second.instances] == [6] and [item.obj_id for item in second.others] == [1]


def test_the_camera_of_other_images_is_scaled_to_these(root):
    """Pixel centres are integers: twice as many pixels put the principal point at 2 c + 0.5."""
    edit_json(root / "lm/camera.json", lambda camera: camera.update(width=32, height=24))
    scaled = [[2 * 572.4, 0, 2 * 325.2 + 0.5], [0, 2 * 573.5, 2 * 242.0 + 0.5], [0, 0, 1]]
    for name in (BLENDER, IMGN):
        np.testing.assert_allclose(load(root, name)[0].K, scaled)
    edit_json(root / "lm/camera.json", lambda camera: camera.update(height=32))
    with pytest.raises(UserError, match="32 x 32 pixels, and the image has 64 x 48"):
        load(root, BLENDER)


def test_the_annotation_may_stand_beside_the_folder(root):
    renders = root / "lm_renders_blender/renders"
    (renders / "cat/cat_gt.json").rename(renders / "cat_gt.json")
    assert len(load(root, BLENDER)) == 2


def test_a_folder_may_be_called_by_the_object_s_id(root):
    renders = root / "lm_renders_blender/renders"
    (renders / "cat/cat_gt.json").rename(renders / "cat/000006_gt.json")
    (renders / "cat").rename(renders / "000006")
    assert len(load(root, BLENDER)) == 2


def test_an_imgn_image_is_a_record_like_any_other(root):
    first, second = load(root, IMGN)
    assert [(r.scene_id, r.im_id, r.rgb_path.name) for r in (first, second)] == [
        (6, 1, "000001-color.png"),
        (6, 5, "000005-color.png"),
    ]
    (instance,) = first.instances
    np.testing.assert_allclose(instance.pose.cam_t_obj, [0.01, -0.02, 0.5], atol=1e-15)  # metres as written
    np.testing.assert_array_equal(instance.pose.cam_R_obj, np.reshape(R, (3, 3)))
    np.testing.assert_allclose(first.K, CAMERA_K)
    assert read_mask(instance.mask_visib_path).sum() == 200
    np.testing.assert_allclose(read_depth(first), 0.5, atol=1e-12)
    assert second.instances[0].mask_visib_path is None and second.depth_path is None


def test_the_line_of_the_class_may_be_absent(root):
    path = root / "lm_imgn/imgn/cat/000005-pose.txt"
    path.write_text(POSE_TEXT[2:])
    poses = [record.instances[0].pose for record in load(root, IMGN)]
    np.testing.assert_array_equal(poses[0].cam_t_obj, poses[1].cam_t_obj)


def test_prefixes_that_are_no_numbers_are_counted(root):
    folder, image_list = root / "lm_imgn/imgn/cat", root / "lm_imgn/image_set/train_cat.txt"
    for path in folder.iterdir():
        path.rename(folder / path.name.replace("-", "_0-", 1))
    image_list.write_text("cat/000005_0\ncat/000001_0\n")
    assert [(r.im_id, r.rgb_path.name) for r in load(root, IMGN)] == [
        (0, "000005_0-color.png"),
        (1, "000001_0-color.png"),
    ]


def test_one_prefix_that_is_no_number_changes_no_other_id(root):
    folder, image_list = root / "lm_imgn/imgn/cat", root / "lm_imgn/image_set/train_cat.txt"
    for path in sorted(folder.glob("000001-*")):
        path.rename(folder / path.name.replace("-", "_0-", 1))
    image_list.write_text("cat/000001_0\ncat/000005\n")
    assert {r.rgb_path.name: r.im_id for r in load(root, IMGN)} == {"000001_0-color.png": 6, "000005-color.png": 5}


def test_listed_images_without_a_file_are_left_out(root, caplog):
    (root / "lm_imgn/image_set/train_cat.txt").write_text("1000\n000005\n")
    assert [record.im_id for record in load(root, IMGN)] == [5]
    assert "1 images are listed but have no file" in caplog.text
    (root / "lm_renders_blender/renders/cat/2.jpg").unlink()
    assert [record.im_id for record in load(root, BLENDER)] == [10]


def test_lmo_s_camera_serves_too(root):
    (root / "lmo").mkdir()
    (root / "lm/camera.json").rename(root / "lmo/camera.json")
    np.testing.assert_allclose(load(root, IMGN)[0].K, CAMERA_K)
    (root / "lmo/camera.json").unlink()
    for name in (BLENDER, IMGN):
        with pytest.raises(UserError, match=r"images without cam_K, and neither .*lm/camera\.json nor .* is there"):
            load(root, name)


def test_an_object_without_a_folder_is_reported(root):
    with pytest.raises(UserError, match=r"ape is missing, .*DATASETS\.OBJS"):
        load(root, "lm_blender_13_train")
    assert len(load_split(resolve_split("lm_blender_13_train", root), [6])) == 2


def entry(content):
    return content["10"][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: entry(c).pop("cam_R_m2c"), ["image 10, entry 0", "cam_R_m2c"]),
        (lambda c: entry(c).update(cam_R_m2c=[1] * 9), ["must be a rotation"]),
        (lambda c: entry(c).update(cam_t_m2c=[0, 1]), ["cam_t_m2c", "3 numbers"]),
        (lambda c: entry(c).update(cam_t_m2c=[0, 0, float("nan")]), ["finite"]),
        (lambda c: entry(c).update(cam_K=[0] * 9), ["focal lengths"]),
        (lambda c: entry(c).update(obj_id="cat"), ["obj_id", "whole number"]),
        (lambda c: c.update({"2": 5}), ["must be an object"]),
        (lambda c: c.update(x=1), ["key 'x'"]),
    ],
)
def test_a_damaged_annotation_is_reported_in_one_line(root, change, words):
    edit_json(root / "lm_renders_blender/renders/cat/cat_gt.json", change)
    with pytest.raises(UserError) as caught:
        load(root, BLENDER)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "12 numbers"),
        ("1\n1 0 0\n0 1 0\n0 0 1\n", "12 numbers"),
        ("1 0 0 0\n0 1 0 x\n0 0 1 1\n", "12 numbers"),
        ("1 0 0 0\n0 1 0 nan\n0 0 1 1\n", "finite"),
        ("2 0 0 0\n0 1 0 0\n0 0 1 1\n", "must be a rotation"),
        ("\xff\x00", "12 numbers"),
    ],
)
def test_a_damaged_pose_is_reported_in_one_line(root, text, words):
    (root / "lm_imgn/imgn/cat/000005-pose.txt").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        load(root, IMGN)
    assert "000005-pose.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_are_reported(root):
    (root / "lm_imgn/imgn/cat/000005-pose.txt").unlink()
    with pytest.raises(UserError, match=r"000005-pose\.txt is missing"):
        load(root, IMGN)
    (root / "lm_imgn/image_set/train_cat.txt").unlink()
    with pytest.raises(UserError, match="list of image ids"):
        load(root, IMGN)
    (root / "lm_renders_blender/renders/cat/cat_gt.json").unlink()
    with pytest.raises(UserError, match=r"cat_gt\.json is missing"):
        load(root, BLENDER)


@pytest.mark.parametrize(("key", "value"), [("fx", 0), ("cy", None), ("fy", "x")])
def test_a_damaged_camera_is_reported(root, key, value):
    edit_json(root / "lm/camera.json", lambda camera: camera.update({key: value}))
    with pytest.raises(UserError, match=r"camera\.json"):
        load(root, IMGN)
