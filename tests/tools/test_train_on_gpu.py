"""Training in slices: what a slice leaves is what the next one starts from, whatever folder it works in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sopose.core.engine.checkpoint import read_checkpoint

ON_CPU = ["MODEL.DEVICE=cpu", "CAD.DEVICE=", "SOLVER.AMP.ENABLED=False", "DATASETS.TEST="]


@pytest.fixture
def train(repository: Path, write_tiny_config, tmp_path: Path):
    """`train(work, *overrides)`: a slice with `tmp_path/state`, in a working folder that is lost afterwards."""
    config, state = write_tiny_config(tmp_path), tmp_path / "state"

    def run(work: str, *overrides: str, minutes: str = "2") -> subprocess.CompletedProcess[str]:
        words = ["--config-file", str(config), "--minutes", minutes, "--state", str(state), "--part-size", "100k"]
        result = subprocess.run(
            ["bash", "tools/train_on_gpu.sh", *words, "--work", str(tmp_path / work), "--", *ON_CPU, *overrides],
            cwd=repository,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        shutil.rmtree(tmp_path / work, ignore_errors=True)
        return result

    return run


@pytest.mark.slow
def test_slices_go_on_from_each_other_if_no_part_is_lost(train, tmp_path):
    state = tmp_path / "state"
    for work, epochs in (("one", 1), ("two", 2)):
        result = train(work, f"SOLVER.TOTAL_EPOCHS={epochs}")
        assert result.returncode == 0, result.stderr
    parts = sorted((state / "run").glob("part.*"))
    assert len(parts) > 1 and all(part.stat().st_size <= 100 * 1024 for part in parts)
    assert [path.name for path in sorted(state.iterdir())] == ["run", "slices.txt"]
    first, second = (line.split()[0] for line in (state / "slices.txt").read_text().splitlines())
    assert "tensors loaded" in result.stderr and first in result.stderr and first < second
    whole = tmp_path / "whole"
    whole.mkdir()
    joined = subprocess.run(["cat", *map(str, parts)], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(whole)], input=joined, check=True)
    assert read_checkpoint(whole / second)["iteration"] == int(second.removeprefix("model_").removesuffix(".pth"))

    parts[-1].unlink()
    result = train("three", "SOLVER.TOTAL_EPOCHS=3")
    assert result.returncode == 1 and result.stderr.startswith("error: the parts in ")
    assert sorted((state / "run").glob("part.*")) == parts[:-1]


def test_a_training_that_fails_leaves_the_state(train, tmp_path):
    result = train("one", "DATASETS.TRAIN=[toy_trian]")
    assert result.returncode == 1 and "did you mean" in result.stderr
    assert not (tmp_path / "state" / "run").exists()


@pytest.mark.parametrize("minutes", ["0", "soon"])
def test_wrong_words_leave_with_2(train, minutes):
    assert train("one", minutes=minutes).returncode == 2
