"""Folders that the processes of one test run share: the first that asks for one makes it, the others wait."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

MADE = ".made"  # a file in a folder that is complete


def shared_folder(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of this test run, which one process fills by `make(folder)`; nobody may change it later.

    What `make` raises is raised, and the next process tries again.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # the base of all workers
    folder = base / name
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # which the system takes back from a process that dies
        try:
            if not (folder / MADE).exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                (folder / MADE).touch()
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # processes that `make` forked may hold the file open still
    return folder
