"""What reaches a terminal: text alone, whatever the names in other people's files would have it do, while it is there.

A terminal may be closed and a disk with a log be full while a program works for hours: that costs what is printed, and
nothing else.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# Control characters of C0 and C1 but tab and line feed, and what turns the direction of writing: an escape sequence
# can retitle a window, hide lines or have the terminal answer as if the user had typed.
_STEERING = [*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SHOWN = {code: chr(code).encode("unicode_escape").decode() for code in _STEERING if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """`text` with its control characters written out, `\\x1b`, and what is no Unicode; tabs and line feeds stay."""
    return text.translate(_SHOWN).encode("utf-8", "backslashreplace").decode("utf-8")


class SteadyStream:
    """A stream that never fails: what can't be written is dropped, and `failure` says why.

    Else it is the stream that it stands before. `plain`: it is given `printable` text only.
    """

    def __init__(self, stream: TextIO, plain: bool) -> None:
        self._stream, self._plain = stream, plain
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write text; its length is returned as it was given."""
        shown = printable(text) if self._plain else text
        self._try(lambda: self._stream.write(shown))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        self._try(self._stream.flush)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def _try(self, act: Callable[[], object]) -> None:
        if self.failure is not None:
            return
        try:
            act()
        except OSError as error:
            self.failure = error
            self._discard()

    def _discard(self) -> None:
        """Let what waits in the stream go nowhere: the interpreter writes it once more as it ends."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except OSError:  # no file stands behind it
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class PlainRecord(logging.LogRecord):
    """A record of a log whose message is `printable`, whoever handles it."""

    def getMessage(self) -> str:
        return printable(super().getMessage())


@contextmanager
def plain_output() -> Iterator[SteadyStream]:
    """Within it, what is printed and logged is `printable`, and no print fails; gives the stream of stdout.

    Bars of progress steer the terminal on stderr, as they are. Used by `core.utils.errors.run_cli`, so that no script
    needs to think of it.
    """
    before, make_record = (sys.stdout, sys.stderr), logging.getLogRecordFactory()
    sys.stdout, sys.stderr = (SteadyStream(stream, plain) for stream, plain in zip(before, (True, False), strict=True))
    logging.setLogRecordFactory(PlainRecord)
    try:
        yield sys.stdout
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before
        logging.setLogRecordFactory(make_record)
