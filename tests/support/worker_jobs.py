"""Jobs for other processes to do: functions have to be importable there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from sopose.core.utils.errors import UserError


def square(number: int) -> int:
    return number * number


def slow_first(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0)
    return number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise UserError("three is too many")
    return number


def die_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def note(folder: Path, number: int) -> int:
    """Leave a file named after the number and the process, slowly enough to be killed meanwhile."""
    (folder / f"begun-{number}-{os.getpid()}").touch()
    time.sleep(0.1)
    (folder / f"done-{number}-{os.getpid()}").touch()
    return number
