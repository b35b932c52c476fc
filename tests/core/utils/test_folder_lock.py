"""One writer of a folder; a killed one is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sopose.core.utils.errors import UserError
from sopose.core.utils.folder_lock import FolderLock

HOLD = """
import multiprocessing, sys, time
from pathlib import Path
from sopose.core.utils.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.take()
multiprocessing.get_context("fork").Process(target=time.sleep, args=(5,), daemon=True).start()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path/out` and has a child of its own."""
    program = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "held\n"
    yield program
    program.kill()
    program.wait()


def test_the_second_writer_learns_who_is_the_first(holder, tmp_path):
    with pytest.raises(UserError, match=rf"^process {holder.pid} on .* is writing to .*out; wait") as caught:
        FolderLock(tmp_path / "out").take()
    assert "\n" not in str(caught.value)


def test_a_killed_writer_lets_go_at_once_though_its_children_live(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with FolderLock(tmp_path / "out"):
        assert f"process {os.getpid()} on" in (tmp_path / "out/.lock").read_text()


def test_nothing_is_made_before_it_is_taken_and_it_can_be_taken_again(tmp_path):
    folder = tmp_path / "new"
    for _ in range(2):
        with FolderLock(folder) as lock:
            assert folder.exists() or not folder.is_dir()
            lock.take()
            lock.take()
    with FolderLock(tmp_path / "other"):
        assert not Path(tmp_path / "other").exists()
