"""Errors a user can act on, and the one place where a script turns them into an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from sopose.core.utils.terminal import SteadyStream, plain_output


class UserError(Exception):
    """Bad input, reported in one line: what was wanted, what came, where, and what to do.

    Names out of files of anybody stand in it: what would end the line or speak to the terminal is escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """A text on one line: control characters, and what no terminal can write, as escape sequences."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class LostWorkerError(UserError):
    """A process that prepared data is gone; what this process has is whole."""


def nearest(word: str, known: list[str]) -> str:
    """`"; did you mean 'x'?"` for the known word closest to `word`, or the empty string."""
    matches = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def one_line(error: UserError | OSError) -> str:
    """What an error of ours, or of the system's about a file, says to the user."""
    if isinstance(error, UserError):
        return str(error).replace("\n", "\\n")  # of a name in somebody's file
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{' '.join(str(error.strerror or error).split())}; check path, permissions and disk"


def run_cli(main: Callable[[list[str] | None], Any]) -> None:
    """Run a script's `main` on the command line's words and leave the process.

    Control characters in what it prints are written out, and a program continues where nobody can read it any more.
    Exit code 0 on success, 1 with one line on stderr after a `UserError`, where the system refuses a file or did not
    take all that was printed, 130 after an interrupt; argparse leaves with 2 by itself on wrong usage.
    """
    try:
        with plain_output() as printed:
            main(None)
        if printed.failure is not None and not isinstance(printed.failure, BrokenPipeError):  # `| head` wanted no more
            raise UserError(f"standard output took not all that was printed ({printed.failure.strerror}); make room")
    except (UserError, OSError) as error:
        print(f"error: {one_line(error)}", file=SteadyStream(sys.stderr, plain=True))
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=SteadyStream(sys.stderr, plain=True))
        sys.exit(130)
