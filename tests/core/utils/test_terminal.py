"""Names in other people's files are shown by a terminal, not obeyed."""

from __future__ import annotations

import logging
import sys

import pytest

from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.terminal import printable

# Retitles the window, hides what follows, moves back, turns the direction of writing; the last is no Unicode.
NAME = "can\x1b]0;title\x07\x1b[8m\x9b2J\r\b\u202e\ud800"
SHOWN = r"can\x1b]0;title\x07\x1b[8m\x9b2J\r\x08\u202e\ud800"


def test_control_characters_are_written_out_and_text_stays():
    assert printable(NAME) == SHOWN
    assert printable("Tür\t1 × 2\nα 物") == "Tür\t1 × 2\nα 物"


def test_what_a_script_prints_logs_and_fails_with_is_plain(capsys):
    def main(argv: list[str] | None) -> None:
        print(NAME, "on two\nlines")
        print(NAME, file=sys.stdout, flush=True)
        logging.getLogger("test").warning("%s is odd", NAME)
        raise UserError(f"no '{NAME}'\nhere")

    before = sys.stdout
    with pytest.raises(SystemExit):
        run_cli(main)
    said = capsys.readouterr()
    assert said.out == f"{SHOWN} on two\nlines\n{SHOWN}\n"
    assert said.err.splitlines()[-1] == rf"error: no '{SHOWN}'\nhere"
    assert sys.stdout is before and logging.getLogRecordFactory() is logging.LogRecord


def test_a_record_is_plain_whoever_handles_it(caplog):
    with pytest.raises(SystemExit):
        run_cli(lambda argv: (logging.getLogger("test").warning("%s", NAME), sys.exit(0)))
    assert caplog.records[0].getMessage() == SHOWN
