"""Scene folders: units and boxes, lists and targets, and one line for everything that is damaged."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from sopose.core.bop.fields import read_camera_size
from sopose.core.bop.models import load_models
from sopose.core.bop.records import ImageList, ImageRecord, Instance
from sopose.core.bop.scene import load_split, read_depth, read_image_size, read_mask, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.bop.targets import Target, load_targets, make_targets
from sopose.core.bop.unseen import is_in_view, with_unseen
from sopose.core.evaluation.bop19 import image_width
from sopose.core.geometry.pose import Pose
from sopose.core.images.files import EXIF_ORIENTATION
from sopose.core.utils.errors import UserError
from tests.support.bop_files import K, edit_json, name_sensor, of_sensors


def mini(root):
    return resolve_split("mini_test", root.parent)


def test_units_boxes_and_paths(tiny_bop):
    record = load_split(mini(tiny_bop))[0]
    assert (record.scene_id, record.im_id) == (1, 3)
    first, second = record.instances
    np.testing.assert_allclose(first.pose.cam_t_obj, [0.01, -0.02, 0.5], atol=1e-15)
    np.testing.assert_array_equal(first.pose.transform(np.array([[1.0, 0, 0]])), [[0.01, 0.98, 0.5]])
    np.testing.assert_array_equal(first.bbox_obj, [-3, 4, 7, 24])
    np.testing.assert_array_equal(first.bbox_visib, [0, 4, 7, 24])
    assert (first.visib_fract, first.px_count_visib, first.gt_index) == (0.5, 99, 0)
    assert second.bbox_visib is None, "-1 is BOP's way to say that there is no box"
    assert second.mask_path is None and first.mask_visib_path is None
    assert read_mask(second.mask_visib_path).all()
    np.testing.assert_array_equal(record.K, [[100, 0, 31.5], [0, 110, 23.5], [0, 0, 1]])
    assert read_rgb(record).shape == (48, 64, 3)
    np.testing.assert_allclose(read_depth(record), 0.5, atol=1e-12)  # 5000 steps of 0.1 mm
    assert read_camera_size(tiny_bop) == (64, 48)


def test_records_can_travel_to_workers(tiny_bop):
    record = pickle.loads(pickle.dumps(load_split(mini(tiny_bop))[1]))
    assert record.im_id == 7 and len(record.instances) == 2


def test_what_may_be_absent_is_none(tiny_bop):
    (tiny_bop / "test/000001/scene_gt_info.json").unlink()
    record = load_split(mini(tiny_bop))[1]
    instance = record.instances[0]
    assert record.depth_path is None
    assert (instance.bbox_obj, instance.visib_fract, instance.px_count_visib) == (None, None, None)
    with pytest.raises(UserError, match="no depth file"):
        read_depth(record)


def test_a_test_set_without_ground_truth_has_images_without_instances(tiny_bop):
    for name in ("scene_gt", "scene_gt_info"):
        (tiny_bop / f"test/000001/{name}.json").unlink()
    assert [record.instances for record in load_split(mini(tiny_bop))] == [(), ()]


def test_other_objects_are_kept_apart(tiny_bop):
    record = load_split(mini(tiny_bop), [2])[0]
    assert [item.obj_id for item in record.instances] == [2]
    assert [item.obj_id for item in record.others] == [1]
    assert record.instances[0].gt_index == 1


def test_grey_and_jpg_images_are_found(tiny_bop):
    scene = tiny_bop / "test/000001"
    (scene / "gray").mkdir()
    cv2.imwrite(str(scene / "gray/000003.tif"), np.full((48, 64), 9, np.uint8))
    (scene / "rgb/000003.png").unlink()
    cv2.imwrite(str(scene / "rgb/000007.jpg"), np.full((48, 64, 3), 50, np.uint8))
    (scene / "rgb/000007.png").unlink()
    records = load_split(mini(tiny_bop))
    assert [record.rgb_path.suffix for record in records] == [".tif", ".jpg"]
    assert read_rgb(records[0]).shape == (48, 64, 3)


def test_targets_and_lists_choose_images(tiny_bop):
    bop = resolve_split("mini_bop_test", tiny_bop.parent)
    assert [record.im_id for record in load_split(bop)] == [7]
    listed = tiny_bop / "list.txt"
    listed.write_text("0001/000003\n\n")
    chosen = replace(mini(tiny_bop), image_lists=(ImageList(listed),))
    assert [record.im_id for record in load_split(chosen)] == [3]
    listed.write_text("7\n")
    chosen = replace(mini(tiny_bop), image_lists=(ImageList(listed, scene_id=1),))
    assert [record.im_id for record in load_split(chosen)] == [7]


def test_in_lm_a_scene_is_its_object(tiny_bop):
    records = load_split(replace(mini(tiny_bop), scene_is_object=True))
    assert [[item.obj_id for item in record.instances] for record in records] == [[1], [1]]


def test_absent_images_are_counted_once(tiny_bop, caplog):
    (tiny_bop / "test/000001/rgb/000003.png").unlink()
    with caplog.at_level(logging.WARNING):
        records = load_split(mini(tiny_bop))
    assert [record.im_id for record in records] == [7]
    assert len(caplog.records) == 1 and "1 images are listed but have no file" in caplog.text
    assert len(load_split(mini(tiny_bop), require_images=False)) == 2
    (tiny_bop / "test/000001/rgb/000007.png").unlink()
    with pytest.raises(UserError, match="has no image"):
        load_split(mini(tiny_bop))


def first(content):
    return content["3"][0]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("scene_camera", lambda c: c["3"].pop("cam_K"), ["cam_K", "image 3"]),
        ("scene_camera", lambda c: c["3"]["cam_K"].pop(), ["cam_K", "9 numbers", "8 entries"]),
        ("scene_camera", lambda c: c["3"].update(cam_K=[0] * 9), ["focal lengths"]),
        ("scene_camera", lambda c: c["3"].update(depth_scale=0), ["depth_scale", "above zero"]),
        ("scene_camera", lambda c: c.pop("3"), ["scene_camera.json", "image 3"]),
        ("scene_camera", lambda c: c.update(x=1), ["key 'x'", "whole number"]),
        ("scene_gt", lambda c: first(c).pop("cam_R_m2c"), ["cam_R_m2c", "image 3", "entry 0"]),
        ("scene_gt", lambda c: first(c)["cam_R_m2c"].pop(), ["cam_R_m2c", "9 numbers"]),
        ("scene_gt", lambda c: first(c).update(cam_R_m2c=[1] * 9), ["must be a rotation"]),
        ("scene_gt", lambda c: first(c).update(cam_t_m2c=[0, 1]), ["cam_t_m2c", "3 numbers"]),
        ("scene_gt", lambda c: first(c).update(cam_t_m2c=[0, 1, float("nan")]), ["cam_t_m2c", "finite"]),
        ("scene_gt", lambda c: first(c).update(cam_t_m2c="far"), ["cam_t_m2c", "'far'"]),
        ("scene_gt", lambda c: first(c).pop("obj_id"), ["obj_id"]),
        ("scene_gt", lambda c: first(c).update(obj_id=1.5), ["obj_id", "whole number"]),
        ("scene_gt", lambda c: c.update({"3": {}}), ["must be a list"]),
        ("scene_gt", lambda c: c["3"].pop(), ["1 objects", "scene_gt_info.json 2"]),
        ("scene_gt_info", lambda c: first(c).update(bbox_obj=[1, 2, 3]), ["bbox_obj", "4 numbers"]),
        ("scene_gt_info", lambda c: first(c).update(visib_fract=None), ["visib_fract"]),
        ("scene_gt_info", lambda c: c["3"].__setitem__(0, 5), ["must be an object"]),
    ],
)
def test_a_damaged_annotation_is_reported_in_one_line(tiny_bop, name, change, words):
    edit_json(tiny_bop / "test/000001" / f"{name}.json", change)
    with pytest.raises(UserError) as caught:
        load_split(mini(tiny_bop))
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_json_of_another_kind_is_reported(tiny_bop):
    (tiny_bop / "test/000001/scene_camera.json").write_text("[1]")
    with pytest.raises(UserError, match="image ids as keys"):
        load_split(mini(tiny_bop))


def test_missing_files_and_folders(tiny_bop):
    scene = tiny_bop / "test/000001"
    (scene / "scene_camera.json").unlink()
    with pytest.raises(UserError, match=r"scene_camera.json is missing"):
        load_split(mini(tiny_bop))
    spec = replace(mini(tiny_bop), split="elsewhere")
    with pytest.raises(UserError, match="elsewhere is missing"):
        load_split(spec)
    (tiny_bop / "empty").mkdir()
    with pytest.raises(UserError, match="no scene folder"):
        load_split(replace(spec, split="empty"))
    with pytest.raises(UserError, match="list of image ids"):
        load_split(replace(mini(tiny_bop), image_lists=(ImageList(tiny_bop / "none.txt"),)))


@pytest.mark.parametrize("line", ["seven", "1/x", "7"])
def test_a_damaged_list_names_its_line(tiny_bop, line):
    listed = tiny_bop / "list.txt"
    listed.write_text(f"1/3\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        load_split(replace(mini(tiny_bop), image_lists=(ImageList(listed),)))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n broken"])
def test_a_corrupt_image_is_reported(tiny_bop, content):
    record = load_split(mini(tiny_bop))[0]
    record.rgb_path.write_bytes(content)
    record.depth_path.write_bytes(content)
    for read in (read_rgb, read_depth):
        with pytest.raises(UserError, match="cannot be decoded"):
            read(record)


def test_depth_must_have_one_channel(tiny_bop):
    record = load_split(mini(tiny_bop))[0]
    cv2.imwrite(str(record.depth_path), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="one channel"):
        read_depth(record)


def put_K(entry: dict, focal: float) -> None:
    entry["cam_K"][0] = focal


def test_targets_count_visible_instances(tiny_bop):
    targets = make_targets(load_split(mini(tiny_bop)))
    assert [(item.im_id, item.obj_id, item.inst_count) for item in targets] == [(3, 1, 1), (7, 1, 1)]


@pytest.mark.parametrize("t", [[10.0, -20.0, -500.0], [900.0, -20.0, 500.0], [0.0, 400.0, 500.0]])
def test_objects_behind_the_camera_and_out_of_view_are_no_targets(tiny_bop, t):
    """Where `scene_gt_info.json` is missing; what is in view counts, as nothing states how much of it is hidden."""
    scene = tiny_bop / "test/000001"
    (scene / "scene_gt_info.json").unlink()
    edit_json(scene / "scene_gt.json", lambda gt: gt["7"][0].update(cam_t_m2c=t))
    records = with_unseen(load_split(mini(tiny_bop)), mini(tiny_bop))
    assert [(item.im_id, item.obj_id) for item in make_targets(records)] == [(3, 1), (3, 2), (7, 2)]
    given = with_unseen(load_split(mini(tiny_bop)), mini(tiny_bop), load_models(tiny_bop / "models"))
    assert poses_of(given) == poses_of(records)
    assert poses_of(records)[1][2][0][1] == 0.0 and poses_of(records)[1][2][1][1] is None


def test_what_the_edge_of_an_image_cuts_is_in_view(tiny_bop):
    """The object reaches from x to x + 100 mm, the image from -157.5 to 162.5 mm at 500 mm, whatever is behind it."""
    vertices = np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0.05, 0]])

    def seen(*t: float) -> bool:
        return is_in_view(vertices, Instance(1, 0, Pose(np.eye(3), np.array(t))), np.reshape(K, (3, 3)), (64, 48))

    assert seen(-0.25, 0, 0.5) and seen(0.155, 0, 0.5) and not seen(-0.27, 0, 0.5) and not seen(0.17, 0, 0.5)
    assert not seen(0, 0, -0.5) and not is_in_view(
        vertices, Instance(1, 0, Pose(np.eye(3), np.array([0, 0, -0.5]))), np.reshape(K, (3, 3)), None
    )


def test_targets_that_name_images_alone_ask_for_all_objects_there(tiny_bop):
    """As BOP24's detection tasks have them; a split is narrowed to their images too."""
    path = tiny_bop / "test_targets_bop24.json"
    path.write_text('[{"scene_id": 1, "im_id": 7}]')
    spec = replace(mini(tiny_bop), targets_path=path)
    records = load_split(spec)
    assert [record.im_id for record in records] == [7]
    assert load_targets(path, records) == make_targets(records) == [Target(1, 7, 1, 1)]


@pytest.mark.parametrize("key", ["obj_id", "inst_count"])
def test_an_object_has_its_count_in_targets(tmp_path, key):
    entry = {"scene_id": 1, "im_id": 3, key: 1}
    (tmp_path / "targets.json").write_text(json.dumps([entry]))
    with pytest.raises(UserError, match="needs the key"):
        load_targets(tmp_path / "targets.json")


def test_files_without_a_number_and_hidden_ones_are_no_images_of_a_scene(tiny_bop):
    folder = tiny_bop / "test/000001/rgb"
    (folder / "000003.png").rename(folder / "3.png")
    for name in ("._000007.png", "000007 (copy).png", "preview.png"):
        (folder / name).write_bytes(b"no image")
    assert [record.rgb_path.name for record in load_split(mini(tiny_bop))] == ["3.png", "000007.png"]


def test_two_folders_of_one_scene_are_reported(tiny_bop):
    shutil.copytree(tiny_bop / "test/000001", tiny_bop / "test/1")
    with pytest.raises(UserError, match=r"test/.*1 and .*test/.*1 are both scene 1; remove or rename one"):
        load_split(mini(tiny_bop))


def test_the_size_of_a_turned_image_is_that_of_its_pixels_for_all(tiny_bop):
    """Of a photograph that its EXIF entry turns: training, VSD and the scale of MSPD have one size."""
    record = load_split(mini(tiny_bop))[0]
    entry = Image.Exif()
    entry[EXIF_ORIENTATION] = 6
    Image.new("RGB", (48, 64)).save(record.rgb_path.with_suffix(".jpg"), exif=entry)
    record.rgb_path.unlink()
    record = load_split(mini(tiny_bop))[0]
    assert read_rgb(record).shape == (48, 64, 3)
    assert read_image_size(record, tiny_bop) == (64, 48) and image_width([record]) == 64


def test_a_scene_without_annotations_is_read_unless_half_of_them_are_there(tiny_bop):
    """`scene_gt_info.json` alone is a lost `scene_gt.json`, not a scene that never had one."""
    scene = tiny_bop / "test/000001"
    (scene / "scene_gt.json").unlink()
    with pytest.raises(UserError, match=r"scene_gt\.json is missing"):
        load_split(mini(tiny_bop))
    (scene / "scene_gt_info.json").unlink()
    assert all(not record.instances for record in load_split(mini(tiny_bop)))


def poses_of(records: list[ImageRecord]) -> list:
    return [
        (r.im_id, r.K.tolist(), [(i.obj_id, i.visib_fract, *i.pose.cam_t_obj) for i in r.instances]) for r in records
    ]


def test_a_sensor_of_several_is_named_by_the_split(tiny_bop):
    """HOT3D, IPD, XYZ-IBD and ITODD-MV have `scene_camera_cam1.json`, `rgb_cam1`, … of each sensor in a scene."""
    scene = tiny_bop / "test/000001"
    plain = load_split(mini(tiny_bop))
    of_sensors(scene, "cam1", "gray2")
    (scene / "rgb_gray2").rename(scene / "gray2")  # as HOT3D calls it
    edit_json(scene / "scene_camera_gray2.json", lambda cameras: [put_K(entry, 80.0) for entry in cameras.values()])
    files = {path.name for path in scene.glob("scene_gt*")}
    assert files == {f"scene_gt{part}_{sensor}.json" for part in ("", "_info") for sensor in ("cam1", "gray2")}
    with pytest.raises(UserError, match=r"several sensors; choose one \(splits: test_cam1, test_gray2, cad\)"):
        resolve_split("mini_test", tiny_bop.parent)
    cam1, grey = (resolve_split(f"mini_test_{sensor}", tiny_bop.parent) for sensor in ("cam1", "gray2"))
    assert (cam1.split, cam1.sensor, cam1.kind) == ("test", "cam1", "real")
    assert poses_of(load_split(cam1)) == poses_of(plain)
    first = load_split(grey)[0]
    assert first.rgb_path == scene / "gray2/000003.png" and first.K[0, 0] == 80
    assert first.depth_path == scene / "depth_gray2/000003.png"
    assert first.instances[1].mask_visib_path == scene / "mask_visib_gray2/000003_000001.png"
    targets = resolve_split(f"{tiny_bop}:bop_test_gray2", tiny_bop.parent)
    assert [record.im_id for record in load_split(targets)] == [7]


def test_files_that_name_no_sensor_are_the_split_itself(tiny_bop):
    of_sensors(tiny_bop / "test/000001", "", "cam1", "cam2")
    assert [record.rgb_path.parent.name for record in load_split(mini(tiny_bop))] == ["rgb", "rgb"]
    with pytest.raises(UserError, match=r"splits: test, test_cam1, test_cam2, cad"):
        resolve_split("mini_test_cam3", tiny_bop.parent)


def test_scenes_that_a_sensor_did_not_take_are_left_out(tiny_bop):
    """In HOT3D some scenes are of another headset; a set with one sensor alone needs no word for it."""
    shutil.copytree(tiny_bop / "test/000001", tiny_bop / "test/000002")
    name_sensor(tiny_bop / "test/000001", "cam1")
    name_sensor(tiny_bop / "test/000002", "cam2")
    assert [r.scene_id for r in load_split(resolve_split("mini_test_cam2", tiny_bop.parent))] == [2, 2]
    shutil.rmtree(tiny_bop / "test/000002")
    assert resolve_split("mini_test", tiny_bop.parent).sensor == "cam1"
    record = load_split(resolve_split("mini_test", tiny_bop.parent))[0]
    (tiny_bop / "camera_cam1.json").write_text('{"width": 99, "height": 48}')
    assert read_image_size(replace(record, rgb_path=tiny_bop / "absent.png"), tiny_bop) == (99, 48)


def test_an_image_that_a_file_names_twice_is_reported(tiny_bop):
    edit_json(tiny_bop / "test/000001/scene_camera.json", lambda cameras: cameras.update({"000003": cameras["3"]}))
    with pytest.raises(UserError, match=r"scene_camera\.json has the id 3 twice"):
        load_split(mini(tiny_bop))


@pytest.mark.parametrize(
    ("content", "words"),
    [("[]", "has none"), ('[{"scene_id": 1}]', "im_id"), ('{"a": 1}', "list of targets")],
)
def test_damaged_targets(tmp_path, content, words):
    (tmp_path / "targets.json").write_text(content)
    with pytest.raises(UserError, match=words):
        load_targets(tmp_path / "targets.json")


def test_lmo_bop_test(real_data):
    spec = resolve_split("lmo_bop_test", real_data)
    assert list(spec.object_names) == [1, 5, 6, 8, 9, 10, 11, 12] and spec.symmetric_ids == (10, 11)
    records = load_split(spec)
    assert len(records) == 30 and all(record.rgb_path.is_file() for record in records)
    everything = load_split(spec, require_images=False)
    assert len(everything) == 200
    ids = [(record.scene_id, record.im_id) for record in everything]
    assert ids == sorted(ids)
    targets = load_targets(real_data / "lmo" / "test_targets_bop19.json")
    assert len(targets) == 1445 and {(item.scene_id, item.im_id) for item in targets} == set(ids)
    sub30 = json.loads((real_data / "lmo" / "test_targets_sub30.json").read_text())
    assert {item["im_id"] for item in sub30} == {record.im_id for record in records}
    assert read_rgb(records[0]).shape == (480, 640, 3)
    assert read_camera_size(spec.root) == (640, 480)
    assert 0.5 < np.median(read_depth(records[0])) < 2.0, "metres"


def test_ycbv_depth_has_its_own_scale(real_data):
    records = load_split(resolve_split(f"{real_data / 'ycbv'}:test", real_data))
    assert {record.scene_id for record in records} == {51, 54}
    depth = read_depth(records[0])
    assert 0.3 < np.median(depth[depth > 0]) < 2.0, "metres; the file's step is 0.1 mm"


def test_an_images_size_without_its_file_is_the_cameras(tiny_bop):
    record = load_split(mini(tiny_bop))[0]
    cv2.imwrite(str(record.rgb_path), np.zeros((30, 40, 3), np.uint8))
    assert read_image_size(record, tiny_bop) == (40, 30)
    record.rgb_path.write_bytes(b"no image")
    with pytest.raises(UserError, match="cannot be decoded as an image"):
        read_image_size(record, tiny_bop)
    record.rgb_path.unlink()
    assert read_image_size(record, tiny_bop) == (64, 48)
    (tiny_bop / "camera.json").unlink()
    with pytest.raises(UserError, match=r"size of image 3 of scene 1 is not known: neither .*rgb.* nor .*camera\.json"):
        read_image_size(record, tiny_bop)


@pytest.mark.parametrize(
    "K", [[100, 0, 32, 0, 100, 24, 0, 0, 0], [100, 100, 32, 100, 100, 24, 0, 0, 1], [100, 0, 32, 0, 100, 24, 0, 1, 1]]
)
def test_a_camera_without_inverse_is_reported(tiny_bop, K):
    edit_json(tiny_bop / "test/000001/scene_camera.json", lambda cameras: cameras["3"].update(cam_K=K))
    with pytest.raises(UserError, match=r"image 3: cam_K must have an inverse and end in 0, 0, 1"):
        load_split(mini(tiny_bop))
