"""A detector's box gets no pose where box and looks together say that nothing is there."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sopose.inference.estimator import PoseEstimator
from sopose.inference.found import Box
from sopose.inference.second_look import needed_confidence
from tests.support.command import verb

predict = verb("predict")


class OneBox:
    """A detector that always finds the same."""

    threshold = 0.35

    def __init__(self, box: Box) -> None:
        self.box = box

    def __call__(self, rgb: np.ndarray, threshold: float | None, topk: int) -> list[Box]:
        return [self.box]


def test_a_surer_box_needs_less_confidence():
    needed = [needed_confidence(0.5, score, 0.35) for score in (0.0, 0.1, 0.35, 0.6, 0.9, 1.0)]
    assert needed == sorted(needed, reverse=True) and 0 <= needed[-1] < 1e-6 and 1 - 1e-6 < needed[0] <= 1
    assert needed[2] == pytest.approx(0.5)
    odds = needed[3] / (1 - needed[3])
    assert odds == pytest.approx(((0.35 / 0.65) / (0.6 / 0.4)) ** 2)
    assert needed_confidence(0.0, 0.01, 0.9) == 0.0 and needed_confidence(1.0, 0.99, 0.1) == 1.0  # all, and none


def test_what_isnt_there_gets_no_pose_from_a_detectors_box(run, test_set):
    estimator = PoseEstimator.from_checkpoint(
        run["weights"],
        overrides=["TEST.REFINE.ITERATIONS=1", "TEST.REFINE.CONFIDENCE_AT_THRESHOLD=0.5"],
        models=test_set.spec.models_dir,
    )
    item = test_set.source.items[0]
    name, K = test_set.spec.object_names[item.obj_id], item.record.K
    estimator.finder = OneBox(Box(name, item.box, 0.4))
    nothing = np.full((480, 640, 3), 127, np.uint8)
    (doubtful,) = estimator.predict(nothing, K, absent=True)
    assert doubtful.confidence < 0.2
    assert estimator.predict(nothing, K) == [] and estimator.predict_all([nothing] * 2, K) == [[], []]
    estimator.finder = OneBox(Box(name, item.box, 0.999))
    assert len(estimator.predict(nothing, K)) == 1  # the detector is sure
    estimator.finder = OneBox(Box(name, item.box, 0.4))
    assert len(estimator(nothing, K, [Box(name, item.box)])) == 1  # a box of the caller's always gets one
    estimator.second_look = replace(estimator.second_look, confidence_at_threshold=0.0)
    assert len(estimator.predict(nothing, K)) == 1
    estimator.second_look = None  # nothing says that it isn't there
    assert len(estimator.predict(nothing, K)) == 1


def test_the_command_line_says_what_isnt_there(run, test_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sopose.inference.estimator.PoseEstimator.is_there", lambda self, found: False)
    item = test_set.source.items[0]
    finder = OneBox(Box(test_set.spec.object_names[item.obj_id], item.box, 0.9))
    original = PoseEstimator.from_checkpoint

    def opened(*words, **more):
        estimator = original(*words, **more)
        estimator.finder = finder
        return estimator

    monkeypatch.setattr("sopose.inference.pose_files.PoseEstimator.from_checkpoint", opened)
    monkeypatch.setattr("sopose.inference.pose_files.open_boxes", lambda options, estimator: None)
    image = str(item.record.rgb_path)
    words = ["--checkpoint", str(run["weights"]), "--K", "300,300,160,120", "--box", "mug,1,1,9,9"]
    predict([image, *words, "--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert "0 poses in 1 images" in out and "1 boxes got no pose: by their scores and the looks none is likely" in out
    assert json.loads((tmp_path / "poses.json").read_text())[0]["poses"] == []
