"""Scores of runs' checkpoints over processor time."""

from __future__ import annotations

import json
import shutil

import pytest

from sopose.core.images.files import read_image
from sopose.core.utils.errors import UserError
from tools.measure.learning_curve import main


@pytest.fixture
def runs(toy_run, tmp_path) -> list[str]:
    """Two labels of one finished run, the second at half the cost of a crop."""
    folder = tmp_path / "run"
    folder.mkdir()
    last = max(toy_run["output"].glob("model_*.pth"))
    for name in ("config.py", last.name):
        shutil.copyfile(toy_run["output"] / name, folder / name)
    return ["--run", "before", str(folder), "20", "--run", "now", str(folder), "10"]


def test_checkpoints_are_scored_drawn_and_compared(runs, tmp_path, capsys):
    main([*runs, "--sets", "renderings=toy_test", "--output", str(tmp_path / "curve")])
    written = json.loads((tmp_path / "curve" / "results.json").read_text())
    assert [point["label"] for point in written] == ["before", "now"]
    assert (
        written[0]["minutes"] == pytest.approx(2 * written[1]["minutes"])
        and written[0]["results"] == written[1]["results"]
    )
    printed = capsys.readouterr().out
    assert "+0.0 (+0.0 to +0.0)" in printed and "error of P, mm" in printed
    height, width, _ = read_image(tmp_path / "curve" / "curve.png").shape
    assert width > 5 * height


def test_a_folder_without_checkpoints_is_reported(runs, tmp_path):
    for path in (tmp_path / "run").glob("model_*"):
        path.unlink()
    with pytest.raises(UserError, match="has no checkpoint; train it first"):
        main([*runs, "--sets", "renderings=toy_test", "--output", str(tmp_path / "curve")])


@pytest.mark.parametrize("wrong", [["--run", "a", "b", "c", "--sets", "a=b"], ["--run", "a", "b", "1", "--sets", "a"]])
def test_wrong_usage_leaves_with_2(wrong):
    with pytest.raises(SystemExit) as left:
        main(wrong)
    assert left.value.code == 2
