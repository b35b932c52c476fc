"""The measuring of a GPU, tried on the CPU: every step runs, a step that fails or hangs leaves the others."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json
from tools.benchmarks import gpu as benchmark_gpu
from tools.benchmarks.gpu import FULL, LIMITS, Step, main, make_steps, parse_args, run_step

NAMES = ["tests", "rendering", "training 2 fp32", "training 2 bf16", "inference torch", "detector", "maps"]


@pytest.mark.slow
def test_a_dry_run_measures_every_step(toy_root, tmp_path):
    file = tmp_path / "gpu.json"
    main(["--datasets-root", str(toy_root.parent), "--json", str(file), "--dry-run", "--workers", "1"])
    report = read_json(file)
    assert report["device"] == "CPU" and report["torch"] == torch.__version__ and report["dry_run"]
    steps = {step["name"]: step for step in report["steps"]}
    assert list(steps) == NAMES
    assert all(step["outcome"] == "done" and step["returncode"] == 0 and step["seconds"] > 0 for step in steps.values())
    numbers = {name: step["numbers"] for name, step in steps.items()}
    assert numbers["tests"]["tests"] >= 3 and numbers["tests"]["failures"] == 0
    assert numbers["rendering"]["rois_per_second"] > 0
    for precision in ("fp32", "bf16"):
        (row,) = numbers[f"training 2 {precision}"]
        assert row["variant"] == precision and row["rois_per_step"] == 2 and row["training"] > 0
    assert numbers["inference torch"]["rows"][0]["forward"] > 0
    assert numbers["detector"][-1]["iteration"] > 0 and numbers["detector"][-1]["time"] > 0
    assert numbers["maps"]["frames"][0]["ratio"] > 0


def shell(name: str, text: str, limit_s: float = 60) -> Step:
    return Step(name, ["-c", text], limit_s, lambda: 7)


def test_steps_that_fail_or_hang_are_reported_and_the_next_goes_on(toy_root, tmp_path, monkeypatch):
    hang = "import time; print('so far', flush=True); time.sleep(600)"
    steps = [shell("wrong", "raise SystemExit('no such thing')"), shell("hangs", hang, 4), shell("right", "")]
    monkeypatch.setattr(benchmark_gpu, "make_steps", lambda *_: steps)
    with pytest.raises(UserError, match="2 of 3 steps failed: wrong, hangs"):
        main(["--datasets-root", str(toy_root.parent), "--json", str(tmp_path / "gpu.json"), "--dry-run"])
    wrong, hangs, right = read_json(tmp_path / "gpu.json")["steps"]
    assert (wrong["outcome"], wrong["returncode"]) == ("failed", 1) and "no such thing" in wrong["output"]
    assert hangs["outcome"] == "cut off" and hangs["seconds"] < 30 and "so far" in hangs["output"]
    assert (right["outcome"], right["numbers"]) == ("done", 7)


def test_a_step_takes_its_processes_along(tmp_path):
    pids = tmp_path / "pids"
    text = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(str(child.pid))\n"
    )
    run_step(shell("leaves a child", text), 60)
    pid = int(pids.read_text())
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} is still there")


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_all_limits_are_less_than_nine_minutes(toy_root, tmp_path):
    (tmp_path / "lmo" / "test" / "000002").mkdir(parents=True)
    steps = make_steps(FULL, parse_args(["--datasets-root", str(tmp_path), "--json", "a.json"]), tmp_path)
    assert {step.name.split()[0] for step in steps} == set(LIMITS)
    assert sum(step.limit_s for step in steps) < 9 * 60


def test_nothing_is_left_without_time():
    step = run_step(shell("late", "import time; time.sleep(600)"), -5.0)
    assert step["outcome"] == "cut off" and step["seconds"] < 30


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_says_so(toy_root, tmp_path):
    with pytest.raises(UserError, match="--dry-run"):
        main(["--datasets-root", str(toy_root.parent), "--json", str(tmp_path / "a.json")])
    assert not os.listdir(tmp_path)
