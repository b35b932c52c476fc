"""`run.json`: where the numbers of a run come from. Every start of the run, resumed ones too, is an entry."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sopose.core.engine.distributed import current_world
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, write_json, write_text

NAME = "run.json"
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "opencv-python-headless", "embreex", "trimesh")
GUIDE_NAME = "README.txt"
GUIDE = """A run. What may be here:

config.py                 all settings of the run; --config-file takes it
model_*.pth               checkpoints, to continue from; last_checkpoint names the last whole one
*_final.safetensors,
detector.safetensors,
refiner.safetensors       the trained weights alone, to use
metrics.json              losses and rates, a line for each report
tensorboard/              the same as curves, with pictures: tensorboard --logdir .
run.json                  when, with which versions and on which machine it was started
inference/                for each test split: scores.json, table.txt, report.html, results for BOP, predictions
failed_step.pth           the batch that stopped a run: sopose replay failed_step.pth
"""
REPOSITORY = Path(__file__).resolve().parents[2]


def record_start(folder: Path, facts: Mapping[str, Any], device: torch.device) -> None:
    """Add this start, with `facts` (plain values), to the run's record in `folder`; a damaged record starts anew."""
    path = Path(folder) / NAME
    try:
        starts = read_json(path) if path.is_file() else []
    except UserError:
        starts = []
    write_json(path, [*(starts if isinstance(starts, list) else []), {**facts, **environment(device)}])
    if not (path.parent / GUIDE_NAME).exists():
        write_text(path.parent / GUIDE_NAME, GUIDE)


def environment(device: torch.device) -> dict[str, Any]:
    """Time, command, code, versions and machine, as plain values."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        **git_state(REPOSITORY),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": current_world().size,
        "platform": platform.platform(),
    }


def git_state(repository: Path) -> dict[str, Any]:
    """The revision that is checked out and whether files differ from it; None where git doesn't say."""
    revision = _git(repository, "rev-parse", "HEAD")
    changed = _git(repository, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "changed": None if changed is None else bool(changed)}


def _git(repository: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
