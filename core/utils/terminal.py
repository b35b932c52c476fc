"""What reaches a terminal: text alone, whatever the names in other people's files would have it do."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# Control characters of C0 and C1 but tab and line feed, and what turns the direction of writing: an escape sequence
# can retitle a window, hide lines or have the terminal answer as if the user had typed.
_STEERING = [*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_SHOWN = {code: chr(code).encode("unicode_escape").decode() for code in _STEERING if chr(code) not in "\t\n"}


def printable(text: str) -> str:
    """`text` with its control characters written out, `\\x1b`, and what is no Unicode; tabs and line feeds stay."""
    return text.translate(_SHOWN).encode("utf-8", "backslashreplace").decode("utf-8")


class PlainStream:
    """A stream to a terminal that is given `printable` text only; else it is the stream that it stands before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; its length is told as it was given."""
        self._stream.write(printable(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class PlainRecord(logging.LogRecord):
    """A record of a log whose message is `printable`, whoever handles it."""

    def getMessage(self) -> str:
        return printable(super().getMessage())


@contextmanager
def plain_output() -> Iterator[None]:
    """Within it, what is printed and logged is `printable`. Bars of progress steer the terminal on stderr, as they are.

    Used by `core.utils.errors.run_cli`, so that no script needs to think of it.
    """
    before, make_record = sys.stdout, logging.getLogRecordFactory()
    sys.stdout = PlainStream(before)
    logging.setLogRecordFactory(PlainRecord)
    try:
        yield
    finally:
        sys.stdout = before
        logging.setLogRecordFactory(make_record)
