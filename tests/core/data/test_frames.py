"""Images one after another, from wherever they come."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sopose.core.data.frames import open_frames
from sopose.core.utils.errors import UserError


def write(path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30, 3), level, np.uint8))


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for number in (10, 9, 2):
        write(tmp_path / f"{number}.png", number)
    (tmp_path / "notes.txt").write_text("no image")
    frames = open_frames(str(tmp_path))
    assert frames.count == 3 and frames.fps == 0
    assert [(frame.im_id, int(frame.read()[0, 0, 0])) for frame in frames] == [(2, 2), (9, 9), (10, 10)]


def test_names_without_numbers_are_counted(tmp_path):
    for name in ("b.png", "a.png"):
        write(tmp_path / name, 1)
    assert [(frame.name, frame.im_id) for frame in open_frames(str(tmp_path))] == [("a.png", 0), ("b.png", 1)]


def test_a_bop_scene_names_its_ids(tmp_path):
    write(tmp_path / "000007" / "rgb" / "000003.png", 5)
    frames = open_frames(str(tmp_path / "000007"))
    assert frames.folder == tmp_path / "000007"
    assert [(frame.scene_id, frame.im_id) for frame in frames] == [(7, 3)]


def test_in_a_scene_an_image_s_name_is_its_id_whatever_else_lies_there(tmp_path):
    scene = tmp_path / "000007"
    for name, level in (("000001.png", 1), ("000004.png", 4), ("000004.jpg", 99), ("000009.png", 9)):
        write(scene / "rgb" / name, level)
    for name in ("000000 (copy).png", "._000001.png", ".hidden.png", "preview.jpg"):
        (scene / "rgb" / name).write_bytes(b"no image")
    (scene / "scene_camera.json").write_text("{}")
    for source in (scene, scene / "rgb"):
        frames = open_frames(str(source))
        assert frames.folder == scene and frames.count == 3
        found = [(frame.scene_id, frame.im_id, int(frame.read()[0, 0, 0])) for frame in frames]
        assert found == [(7, 1, 1), (7, 4, 4), (7, 9, 9)]
    (frame,) = open_frames(str(scene / "rgb" / "000004.png"))
    assert (frame.scene_id, frame.im_id) == (7, 4)


def test_an_image_named_outright_keeps_the_id_of_its_name(tmp_path):
    scene = tmp_path / "000007"
    for name in ("000004.png", "000004.jpg", "5.png"):
        write(scene / "rgb" / name, 1)
    (scene / "scene_camera.json").write_text("{}")
    for name, im_id in (("000004.jpg", 4), ("5.png", 5)):
        frames = open_frames(str(scene / "rgb" / name))
        assert [(frame.name, frame.scene_id, frame.im_id) for frame in frames] == [(name, 7, im_id)]
        assert frames.folder == scene


def test_a_scene_is_known_from_within(tmp_path, monkeypatch):
    scene = tmp_path / "000007"
    write(scene / "rgb" / "000003.png", 5)
    (scene / "scene_camera.json").write_text("{}")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/000008").symlink_to(scene)
    for place, source, scene_id in ((scene, ".", 7), (scene / "rgb", ".", 7), (scene, "rgb", 7)):
        monkeypatch.chdir(place)
        assert [(frame.scene_id, frame.im_id) for frame in open_frames(source)] == [(scene_id, 3)]
    assert [frame.scene_id for frame in open_frames(str(tmp_path / "linked/000008"))] == [8]


def test_no_file_changes_the_ids_of_others(tmp_path):
    for name in ("2.png", "9.png", "9.jpg", "9 (copy).png", "10.png"):
        write(tmp_path / name, 1)
    found = {frame.name: frame.im_id for frame in open_frames(str(tmp_path))}
    assert {name: found[name] for name in ("2.png", "10.png")} == {"2.png": 2, "10.png": 10}
    assert sorted(found[name] for name in ("9.png", "9.jpg")) in ([9, 11], [9, 12])
    assert sorted(found.values()) == [2, 9, 10, 11, 12]


def test_hidden_files_are_no_images(tmp_path):
    for name in ("a.png", "b.png"):
        write(tmp_path / name, 1)
        (tmp_path / f"._{name}").write_bytes(b"no image")
    assert [frame.name for frame in open_frames(str(tmp_path))] == ["a.png", "b.png"]


def test_images_of_a_folder_called_rgb_need_no_numbers(tmp_path):
    write(tmp_path / "rgb" / "cup.png", 1)
    assert [(frame.name, frame.im_id) for frame in open_frames(str(tmp_path))] == [("cup.png", 0)]


def test_a_single_image(tmp_path):
    write(tmp_path / "photo.jpg", 100)
    (frame,) = open_frames(str(tmp_path / "photo.jpg"))
    assert frame.read().shape == (20, 30, 3)


def test_a_video_has_its_frames_in_rgb(tmp_path):
    path = tmp_path / "a.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for _ in range(4):
        video.write(np.full((24, 32, 3), (0, 0, 255), np.uint8))  # red
    video.release()
    frames = open_frames(str(path))
    assert frames.fps == pytest.approx(10) and frames.count == 4
    red = [frame.read()[0, 0] for frame in frames]
    assert len(red) == 4 and all(r > 200 and b < 60 for r, _, b in red)


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_a_damaged_video_is_reported(tmp_path, suffix, caplog, capfd):
    path = tmp_path / f"a.{suffix}"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    rng = np.random.default_rng(0)
    for _ in range(30):
        video.write(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    video.release()
    assert len(list(open_frames(str(path)))) == 30 and not caplog.records
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = len(list(open_frames(str(path))))
    assert 0 < read < 30
    (record,) = caplog.records
    assert f"a.{suffix}: only {read} of the 30 frames that it declares can be read" in record.message
    assert capfd.readouterr().err == ""


def test_a_video_without_a_frame_is_reported(tmp_path):
    path = tmp_path / "a.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    video.write(np.zeros((24, 32, 3), np.uint8))
    video.release()
    data = bytearray(path.read_bytes())
    start = data.index(b"movi")
    data[start + 4 :] = bytes(len(data) - start - 4)
    path.write_bytes(data)
    with pytest.raises(UserError, match="cannot be opened"):
        open_frames(str(path))


def test_a_broken_image_is_reported_when_it_is_read(tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    (frame,) = open_frames(str(tmp_path))
    with pytest.raises(UserError, match="cannot be decoded"):
        frame.read()


def test_a_full_grey_folder_is_read_beside_an_empty_one(tmp_path):
    (tmp_path / "rgb").mkdir()
    write(tmp_path / "gray" / "cup.tif", 3)
    (frame,) = open_frames(str(tmp_path))
    assert frame.name == "cup.tif" and frame.read().shape == (20, 30, 3)
    for source in (tmp_path / "rgb", tmp_path / "gray"):
        write(tmp_path / "gray" / "000002.tif", 3)
        (tmp_path / "scene_camera.json").write_text("{}")
        assert [frame.im_id for frame in open_frames(str(source))] == [2]


def test_what_holds_no_frame_is_reported(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for source, message in (
        (tmp_path / "none", "is no image, folder or video"),
        (tmp_path, "holds no image"),
        (tmp_path / "broken.mp4", "cannot be opened"),
        ("webcam:97", "cannot be opened"),
    ):
        with pytest.raises(UserError, match=message):
            open_frames(str(source))
