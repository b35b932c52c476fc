"""The files of a scene: an id is a name, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from sopose.core.images.scene_images import ids_by_place, ids_of, images_by_ids, scene_images, scene_of, sensors_of
from sopose.core.utils.errors import UserError


@pytest.fixture
def scene(tmp_path) -> Path:
    """A scene with the files that people's folders have besides BOP's."""
    names = ["rgb/000003.png", "rgb/000004.jpg", "rgb/000004.png", "rgb/5.png", "rgb/000005.png", "rgb/07.jpg"]
    odd = ["rgb/000000 (copy).png", "rgb/._000003.png", "rgb/000003_mask.png", "rgb/.png", "rgb/Thumbs.db", "rgb/x.png"]
    grey = ["gray/000004.tif", "gray/000009.tif", "mask/000003_000001.png", "mask/3_2.png", "mask/000003.png"]
    for name in (*names, *odd, *grey):
        path = tmp_path / "000001" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "000001"


def test_an_image_s_id_is_its_name_and_other_files_are_none(scene):
    found = {im_id: str(path.relative_to(scene)) for im_id, path in scene_images(scene).items()}
    assert found == {
        3: "rgb/000003.png",
        4: "rgb/000004.png",  # before the jpg
        5: "rgb/000005.png",  # BOP's name before another
        7: "rgb/07.jpg",
        9: "gray/000009.tif",
    }
    assert list(found) == sorted(found)


def test_a_full_grey_folder_beside_an_empty_one_is_read(scene):
    for path in (scene / "rgb").iterdir():
        path.unlink()
    assert list(scene_images(scene)) == [4, 9]


def test_masks_are_named_by_image_and_place(scene):
    assert {ids: path.name for ids, path in images_by_ids(scene / "mask", 2).items()} == {
        (3, 1): "000003_000001.png",
        (3, 2): "3_2.png",
    }
    assert images_by_ids(scene / "nowhere", 2) == {}


def test_a_scene_is_known_by_its_folders(scene, tmp_path):
    assert scene_of(scene) == (scene, "")
    assert scene_of(scene / "rgb") is None and scene_of(tmp_path) is None
    (scene / "scene_camera.json").write_text("{}")
    assert scene_of(scene / "rgb") == (scene, "") == scene_of(scene / "gray") and scene_of(scene / "mask") is None


def test_a_scene_of_several_sensors_is_known_by_the_folders_of_one(tmp_path):
    for name in ("rgb_cam1", "gray_cam1", "aria", "mask_cam1"):
        (tmp_path / name).mkdir()
    (tmp_path / "scene_camera_cam1.json").write_text("{}")
    assert sensors_of(tmp_path) == ["cam1"] and scene_of(tmp_path) == (tmp_path, "cam1")
    assert scene_of(tmp_path / "aria") is None is scene_of(tmp_path / "mask_cam1")
    (tmp_path / "scene_camera_aria.json").write_text("{}")
    assert scene_of(tmp_path / "rgb_cam1") == scene_of(tmp_path / "gray_cam1") == (tmp_path, "cam1")
    assert scene_of(tmp_path / "aria") == (tmp_path, "aria") and scene_of(tmp_path / "mask_cam1") is None
    with pytest.raises(UserError, match="several sensors; name the folder of one of them: aria, rgb_cam1, gray_cam1"):
        scene_of(tmp_path)


def test_names_hold_their_numbers_and_others_are_counted_on():
    assert [ids_of(stem) for stem in ("000003", "3_12", "3a", "", "٣", "9" * 30)] == [(3,), (3, 12), (), (), (), ()]
    assert ids_by_place(["000003", "cup", "3", "1"]) == [3, 4, 5, 1]
    assert ids_by_place(["b", "a"]) == [0, 1] and ids_by_place([]) == []
