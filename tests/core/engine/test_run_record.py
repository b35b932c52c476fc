"""Where numbers come from: an entry of `run.json` for every start."""

from __future__ import annotations

import json
import subprocess

import torch

from sopose.core.engine.run_record import NAME, git_state, record_start

CPU = torch.device("cpu")


def test_every_start_is_an_entry(tmp_path):
    record_start(tmp_path, {"iteration": 0, "seed": 3}, CPU)
    record_start(tmp_path, {"iteration": 7, "seed": 3}, CPU)
    first, second = json.loads((tmp_path / NAME).read_text())
    assert (first["iteration"], second["iteration"], second["seed"]) == (0, 7, 3)
    assert first["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"time", "command", "revision", "changed", "python", "device", "cores", "processes"} <= first.keys()


def test_a_damaged_record_starts_anew(tmp_path):
    (tmp_path / NAME).write_text("{")
    record_start(tmp_path, {}, CPU)
    assert len(json.loads((tmp_path / NAME).read_text())) == 1


def test_the_revision_and_whether_files_differ(tmp_path):
    assert git_state(tmp_path) == {"revision": None, "changed": None}

    def git(*words: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *names, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    assert git_state(tmp_path) == {"revision": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path)["changed"] is True
