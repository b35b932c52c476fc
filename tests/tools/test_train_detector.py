"""From a pose configuration to a detector, its score, and boxes that the pose network starts from."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from sopose.core.detection.infer import Detector
from sopose.core.detection.on_torch import save_detector
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.utils.errors import UserError
from sopose.settings import load_settings
from tests.support.builders import eval_set_of
from tests.support.command import verb
from tests.support.programs import Program, run_words
from tests.support.shared import shared_folder

main = verb("detector")
predict = verb("predict")

SMALL = ["--backbone", "resnet10t", "--pretrained", "none", "--size", "96", "--batch-size", "2"]
MIXED = 'DATASETS = dict(TRAIN=("toy_train",), TRAIN2=("toy_cad",), TRAIN2_RATIO=0.3)\n'


@pytest.fixture(scope="module")
def trained(tmp_path_factory, write_tiny_config) -> tuple[Path, Path]:
    """The configuration and the output of a run of a few steps."""

    def make(folder: Path) -> None:
        config = write_tiny_config(folder, MIXED)
        main(["--config-file", str(config), "--output", str(folder / "run"), "--epochs", "2", *SMALL])

    folder = shared_folder(tmp_path_factory, "detector", make)
    return folder / "tiny.py", folder / "run"


def test_a_run_leaves_a_detector_its_log_and_its_score(trained, toy_root):
    _, output = trained
    detector = Detector.from_checkpoint(output / "detector.safetensors")
    assert detector.facts.objects == ("bracket", "mug", "cross", "bottle") and detector.facts.design.side == 96
    image = cv2.imread(str(next((toy_root / "test").rglob("rgb/*.png"))))[..., ::-1]
    assert len(detector(image, 0.0, 1)) == 4
    kept = Detector.from_checkpoint(last_checkpoint(output)).facts  # which knows no threshold yet
    assert replace(kept, threshold=detector.facts.threshold) == detector.facts
    assert (output / "config.py").is_file() and (output / "metrics.json").is_file()
    assert len(json.loads((output / "run.json").read_text())) == 1
    scores = json.loads((output / "toy_test" / "scores.json").read_text())
    assert 0 <= scores["modal"]["ap"] <= 1 and set(scores) == {"modal", "amodal"}
    assert cv2.imread(str(output / "toy_test" / "detections.jpg")).shape[1] > 480
    assert not [path for path in output.rglob("*") if ".part" in path.name]


def test_the_pose_network_starts_from_its_boxes(trained):
    config, output = trained
    file = output / "toy_test" / "detections.json"
    words = ["TEST.TEST_BBOX_TYPE=est", f"DATASETS.DET_FILES_TEST=[{file}]", "DATASETS.DET_THR=0.0"]
    items = eval_set_of(load_settings(config, words), "toy_test").source.items
    assert items and all(item.time > 0 and item.score > 0 for item in items)


def test_poses_are_found_from_an_image_and_its_camera(trained, toy_root, tmp_path, repository):
    _, output = trained
    scene = str(next((toy_root / "test").iterdir()))
    checkpoint = str(repository / "configs/gdrn_selfocc/toy/demo.safetensors")
    words = ["--checkpoint", checkpoint, "--threshold", "0", "--limit", "1", "--output", str(tmp_path)]
    predict([scene, *words, "--detector", str(output / "detector.safetensors")])
    (entry,) = json.loads((tmp_path / "poses.json").read_text())
    assert sorted(pose["object"] for pose in entry["poses"]) == ["bottle", "bracket", "cross", "mug"]
    assert (tmp_path / "pictures").is_dir()


def test_a_detector_of_other_objects_is_refused(trained, toy_root, tmp_path, repository):
    _, output = trained
    detector = Detector.from_checkpoint(output / "detector.safetensors")
    facts = replace(detector.facts, objects=("a", "b", "c", "d"))
    save_detector(detector.heads.network, facts, tmp_path / "other.safetensors")
    checkpoint = str(repository / "configs/gdrn_selfocc/toy/demo.safetensors")
    words = ["--detector", str(tmp_path / "other.safetensors"), "--checkpoint", checkpoint, "--output", str(tmp_path)]
    with pytest.raises(UserError, match=r"finds a, b, c, d, .* knows poses of bottle"):
        predict([str(next((toy_root / "test").iterdir())), *words])


def test_a_finished_run_is_scored_again(trained, capsys, tmp_path):
    config, output = trained
    again = tmp_path / "again"
    shutil.copytree(output, again)
    with pytest.raises(UserError, match="holds a run already; add --resume"):
        main(["--config-file", str(config), "--output", str(again), *SMALL])
    main(["--config-file", str(config), "--output", str(again), "--epochs", "2", "--resume", *SMALL])
    assert "modal boxes: AP" in capsys.readouterr().out
    for name in ("detector.safetensors", "toy_test/scores.json"):
        assert (again / name).read_bytes() == (output / name).read_bytes()


def test_another_network_does_not_go_on(trained):
    config, output = trained
    other = [*SMALL, "--resume", "--backbone", "resnet14t"]
    with pytest.raises(UserError, match="backbone=resnet10t, and would continue with resnet14t"):
        main(["--config-file", str(config), "--output", str(output), *other])


def test_a_signal_leaves_a_checkpoint(write_tiny_config, tmp_path):
    words = ["--config-file", str(write_tiny_config(tmp_path)), "--output", str(tmp_path / "run"), "--epochs", "500"]
    program = Program(tmp_path / "said", run_words, [*words, *SMALL], main)
    program.read_until("iter ")
    program.send_signal(signal.SIGTERM)
    assert program.wait(60) == 0 and "continue with --resume" in program.said.read_text()
    assert last_checkpoint(tmp_path / "run") is not None
    assert not (tmp_path / "run" / "detector.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["DATASETS.TRAIN=[]"], "DATASETS.TRAIN is empty"),
        (["DATASETS.OBJS=[teapot]"], "no data set has the object 'teapot'"),
        (["DATASETS.TRAIN=[toy_trian]"], "has no split 'trian'; did you mean"),
        (["DATALOADER.FILTER_VISIB_THR=1.0"], "has no object to learn"),
    ],
)
def test_bad_input_is_reported_in_one_line(write_tiny_config, tmp_path, words, message):
    config = write_tiny_config(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        main(["--config-file", str(config), "--output", str(tmp_path / "run"), *SMALL, "--opts", *words])
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_several_processes_are_refused(write_tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="trained by one process"):
        main(["--config-file", str(write_tiny_config(tmp_path)), "--output", str(tmp_path / "run")])
