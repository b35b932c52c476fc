"""The measurement of tracking: its arithmetic on known paths, and a run on toy objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sopose.core.detection.facts import DetectorDesign, DetectorFacts
from sopose.core.detection.model import build_detector
from sopose.core.detection.on_torch import save_detector
from sopose.core.geometry.pose import Pose
from tools.measure import evaluate_tracking as tool

ASIDE = np.array([0.01, 0.0, 0.0])  # metres


def along(count: int) -> list:
    """Frames of an object on a circle, seen without rendering."""
    angles = 0.1 * np.arange(count)
    places = np.stack([np.cos(angles), np.sin(angles), np.full(count, 9.0)], 1)
    return [tool.Filmed(np.zeros((2, 2, 3), np.uint8), Pose(np.eye(3), place), 1.0) for place in places]


@pytest.mark.parametrize("late", [-1, 0, 2, 3])
def test_lag_is_by_how_many_frames_a_path_is_late(late):
    frames = along(60)
    trail = {n: frames[n - late].pose.cam_t_obj for n in range(5, 55)}
    assert tool.lag(frames, trail) == pytest.approx(late, abs=0.2)


def test_trembling_is_the_change_of_the_error():
    frames = along(40)
    steady = {n: frame.pose.cam_t_obj + 0.1 for n, frame in enumerate(frames)}
    assert tool.trembling(frames, steady) == pytest.approx(0, abs=1e-12)
    shaken = {n: frame.pose.cam_t_obj + (n % 2) * ASIDE for n, frame in enumerate(frames)}
    assert tool.trembling(frames, shaken) == pytest.approx(0.01)


@pytest.mark.slow
def test_a_video_is_filmed_and_estimated(toy_root, tmp_path, repository, capsys):
    facts = DetectorFacts(("mug", "bracket"), (2, 1), DetectorDesign(side=96, backbone="resnet10t"))
    save_detector(build_detector(2, facts.design), facts, tmp_path / "detector.safetensors")
    toy = repository / "configs" / "gdrn_selfocc" / "toy"
    words = ["--config-file", str(toy / "from_cad.py"), "--weights", str(toy / "demo.safetensors"), "--object", "mug"]
    words += ["--detector", str(tmp_path / "detector.safetensors"), "--frames", "12", "--looks", "1"]
    tool.main([*words, "--output", str(tmp_path / "out"), "--opts", f"DATASETS.ROOT={toy_root.parent}"])
    said = capsys.readouterr().out
    assert "mug, 12 frames" in said and "followed" in said
    assert {path.name for path in Path(tmp_path / "out").iterdir()} == {"each_alone.mp4", "followed.mp4"}
