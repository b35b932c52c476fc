"""The command that estimates poses: whose camera and whose ids it takes, and that nothing of it fails in silence."""

from __future__ import annotations

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from sopose.cli.main import load_verb, verb_parser
from sopose.core.bop.results import read_results
from sopose.core.data.frames import open_frames
from sopose.core.engine.checkpoint import save_weights
from sopose.core.utils.errors import UserError
from sopose.inference import pose_files
from sopose.inference.estimator import PoseEstimator
from sopose.inference.found import ObjectPose
from sopose.inference.pose_inputs import PredictOptions, look_words, open_camera
from tests.support.bop_files import of_sensors
from tests.support.command import verb

main = verb("predict")


def options_of(source, *words: str) -> PredictOptions:
    parser = verb_parser("predict", load_verb("predict", {}))
    args = parser.parse_args([str(source), "--checkpoint", "x.pth", "--box", "can,0,0,9,9", *words])
    return PredictOptions(**vars(args))


def camera_of(source, *words: str):
    return open_camera(options_of(source, *words), open_frames(str(source)))


@pytest.fixture
def scene(tmp_path):
    """A scene with image 3, 32 wide and 24 high, and its camera."""
    (tmp_path / "000007/rgb").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "000007/rgb/000003.png"), np.zeros((24, 32, 3), np.uint8))
    entry = {"cam_K": [50, 0, 15.5, 0, 51, 11.5, 0, 0, 1]}
    (tmp_path / "000007/scene_camera.json").write_text(json.dumps({"000003": entry}))
    return tmp_path / "000007"


def test_a_scene_s_own_camera_is_taken_by_the_image_s_id(scene):
    (frame,) = open_frames(str(scene))
    assert camera_of(scene)(frame, (32, 24)).tolist() == [[50, 0, 15.5], [0, 51, 11.5], [0, 0, 1]]
    edited = {"4": {"cam_K": [50, 0, 15.5, 0, 51, 11.5, 0, 0, 1]}}
    (scene / "scene_camera.json").write_text(json.dumps(edited))
    with pytest.raises(UserError, match="needs the key '3' and has: 4"):
        camera_of(scene)(frame, (32, 24))


def test_a_sensor_s_folder_has_its_ids_and_its_camera(scene):
    of_sensors(scene, "cam1", "xyz")
    path = scene / "scene_camera_xyz.json"
    path.write_text(path.read_text().replace("15.5", "14.5"))
    for name in ("rgb_xyz", "rgb_xyz/000003.png"):
        (frame,) = open_frames(str(scene / name))
        assert (frame.scene_id, frame.im_id) == (7, 3)
        assert camera_of(scene / name)(frame, (32, 24))[0].tolist() == [50, 0, 14.5]
    with pytest.raises(UserError, match="several sensors; name the folder of one of them: rgb_cam1, rgb_xyz"):
        open_frames(str(scene))


def test_a_camera_file_is_scaled_to_the_images_and_a_given_K_is_not(scene):
    path = scene / "camera.json"
    content = {"fx": 500, "fy": 500, "cx": 199.5, "cy": 149.5}
    path.write_text(json.dumps({**content, "width": 400, "height": 300}))
    (frame,) = open_frames(str(scene))
    scaled = camera_of(scene, "--camera", str(path))(frame, (320, 240))
    np.testing.assert_allclose(scaled, [[400, 0, 159.5], [0, 400, 119.5], [0, 0, 1]], atol=1e-12)
    with pytest.raises(UserError, match=r"camera\.json is the camera of images of 400 x 300 pixels.*320 x 180"):
        camera_of(scene, "--camera", str(path))(frame, (320, 180))
    path.write_text(json.dumps(content))
    assert camera_of(scene, "--camera", str(path))(frame, (320, 240))[0, 0] == 500
    assert camera_of(scene, "--K", "500,500,199.5,149.5")(frame, (320, 240))[0, 2] == 199.5


class Known:
    finder = None
    """An estimator of one object that answers every box with one pose."""

    def __init__(self, depth: float = 0.5) -> None:
        self.objects = {"can": SimpleNamespace(name="can", obj_id=2)}
        self.depth = depth

    def __call__(self, rgb, K, boxes, *_) -> list[ObjectPose]:
        t = np.array([0, 0, self.depth])
        return [ObjectPose(box.object, 2, box.score, np.eye(3), t, np.array(box.xyxy)) for box in boxes]


def unpainted(rgb, poses):
    return np.ascontiguousarray(rgb[..., ::-1])


@pytest.fixture
def known(monkeypatch) -> Known:
    known = Known()
    monkeypatch.setattr(PoseEstimator, "from_checkpoint", lambda *_: known)
    monkeypatch.setattr(pose_files, "draw_poses", unpainted)
    return known


def predict(source, output, *words) -> None:
    main([str(source), "--checkpoint", "x.pth", "--output", str(output), *map(str, words)])


def write_boxes(path, scene_id=7, im_id=3, obj_id=2, score=0.5):
    entry = {"scene_id": scene_id, "image_id": im_id, "category_id": obj_id, "bbox": [1, 2, 9, 9], "score": score}
    path.write_text(json.dumps([entry]))
    return path


def test_boxes_of_a_scene_are_those_of_its_ids(scene, known, tmp_path):
    (scene / "rgb/000003 (copy).png").write_bytes((scene / "rgb/000003.png").read_bytes())
    boxes = write_boxes(tmp_path / "boxes.json")
    for source in (scene, scene / "rgb", scene / "rgb/000003.png"):
        predict(source, tmp_path / "out", "--boxes", boxes)
        (pose,) = read_results(tmp_path / "out/poses.csv")
        assert (pose.scene_id, pose.im_id, pose.obj_id) == (7, 3, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scene_id": 1}, "of these images, of scene 7 with ids 3 to 3"),
        ({"im_id": 4}, "of these images, of scene 7 with ids 3 to 3"),
        ({"score": 0.2}, "none of its 1 boxes has a score of --threshold 0.3, the best has 0.2"),
    ],
)
def test_boxes_of_no_image_are_reported(scene, known, tmp_path, caplog, change, words):
    predict(scene, tmp_path / "out", "--boxes", write_boxes(tmp_path / "boxes.json", **change))
    assert words in caplog.text and "no box in any image" in caplog.text
    assert json.loads((tmp_path / "out/poses.json").read_text())[0]["poses"] == []


def test_boxes_of_objects_that_nobody_knows_are_reported(scene, known, tmp_path):
    with pytest.raises(UserError, match=r"boxes of objects 5, x\.pth knows 2 can"):
        predict(scene, tmp_path / "out", "--boxes", write_boxes(tmp_path / "boxes.json", obj_id=5))


def test_poses_that_are_no_numbers_are_reported(scene, known, tmp_path):
    known.depth = np.nan
    with pytest.raises(UserError, match=r"none of the 1 poses is finite: the weights of x\.pth are damaged"):
        predict(scene, tmp_path / "out", "--box", "can,0,0,9,9")
    assert json.loads((tmp_path / "out/poses.json").read_text())[0]["poses"][0]["cam_t_obj"] == [0, 0, None]


def test_what_was_found_is_written_though_a_picture_is_not(scene, known, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/pictures").touch()
    with pytest.raises(UserError, match="csv and json are written, not all pictures"):
        predict(scene, tmp_path / "out", "--box", "can,0,0,9,9")
    assert len(read_results(tmp_path / "out/poses.csv")) == 1


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(3):
        video.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    video.release()
    return path


def test_a_video_that_cannot_be_written_is_reported(film, known, tmp_path, monkeypatch):
    words = ("--K", "50,50,15.5,11.5", "--box", "can,0,0,9,9")
    predict(film, tmp_path / "out", *words)
    assert len(list(open_frames(str(tmp_path / "out/poses.mp4")))) == 3
    monkeypatch.setattr(cv2.VideoWriter, "fourcc", lambda *_: 0)  # a codec that no OpenCV has
    with pytest.raises(UserError, match=r"not all pictures: .*poses\.mp4 cannot be written as a video of 64 x 48"):
        predict(film, tmp_path / "none", *words)
    assert len(read_results(tmp_path / "none/poses.csv")) == 3
    assert not (tmp_path / "none/poses.mp4").exists()


def test_a_video_for_which_there_is_no_room_is_reported(film, known, tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(UserError, match=r"not all pictures: poses\.mp4 cannot be opened"):
            predict(film, tmp_path / "out", "--K", "50,50,15.5,11.5", "--box", "can,0,0,9,9")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_images_of_one_name_have_a_picture_each(known, tmp_path):
    for name in ("cup.png", "cup.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((24, 32, 3), np.uint8))
    predict(tmp_path, tmp_path / "out", "--K", "50,50,15.5,11.5", "--box", "can,0,0,9,9")
    assert len(list((tmp_path / "out/pictures").iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], []),
        (["--looks", "2"], ["ITERATIONS=2"]),
        (["--looks", "2", "--starts", "6", "--models", "m"], ["ITERATIONS=2", "STARTS=6"]),
        (["--refiner", "r.onnx"], ["WEIGHTS=r.onnx"]),
    ],
)
def test_looks_are_keys_of_the_configuration(scene, words, keys):
    assert look_words(options_of(scene, *words)) == [f"TEST.REFINE.{key}" for key in keys]


def test_advice_names_no_option_that_is_not_there(scene, tmp_path):
    save_weights({"weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="doesn't say what it needs to run alone") as caught:
        main([str(scene), "--checkpoint", str(tmp_path / "x.safetensors"), "--box", "can,0,0,9,9"])
    assert "--config-file" not in str(caught.value) and "--dataset" not in str(caught.value)


def test_what_was_found_before_an_interrupt_is_written(film, known, tmp_path, monkeypatch):
    def interrupt(*_):
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(1)
        return answer(known, *_)

    taken, answer = [], Known.__call__
    monkeypatch.setattr(Known, "__call__", lambda self, *args: interrupt(*args))
    with pytest.raises(KeyboardInterrupt):
        predict(film, tmp_path / "out", "--K", "50,50,15.5,11.5", "--box", "can,0,0,9,9")
    assert len(read_results(tmp_path / "out/poses.csv")) == 2
