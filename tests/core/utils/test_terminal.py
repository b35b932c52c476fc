"""Names in other people's files are shown by a terminal, not obeyed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.terminal import printable

# Retitles the window, hides what follows, moves back, turns the direction of writing; the last is no Unicode.
NAME = "can\x1b]0;title\x07\x1b[8m\x9b2J\r\b\u202e\ud800"
ESCAPED = r"can\x1b]0;title\x07\x1b[8m\x9b2J\r\x08\u202e\ud800"


def test_control_characters_are_written_out_and_text_stays():
    assert printable(NAME) == ESCAPED
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
    assert said.out == f"{ESCAPED} on two\nlines\n{ESCAPED}\n"
    assert said.err.splitlines()[-1] == rf"error: no '{ESCAPED}'\nhere"
    assert sys.stdout is before and logging.getLogRecordFactory() is logging.LogRecord


def test_a_record_is_plain_whoever_handles_it(caplog):
    with pytest.raises(SystemExit):
        run_cli(lambda argv: (logging.getLogger("test").warning("%s", NAME), sys.exit(0)))
    assert caplog.records[0].getMessage() == ESCAPED


WORK = """
import logging, sys
from pathlib import Path
from tqdm import tqdm
from sopose.core.utils.errors import run_cli

def main(argv):
    logging.basicConfig(level=logging.INFO)
    for number in tqdm(range(3000)):
        print("line", number, flush=number % 2)
        logging.info("line %d", number)
    Path(sys.argv[1]).write_text("done")

run_cli(main)
"""


def work(folder: Path, out: str, err: str) -> tuple[int, bool]:
    """Exit code of a program that prints a lot, and whether it came to its end."""
    with open(out, "w") as stdout, open(err, "w") as stderr:
        code = subprocess.run([sys.executable, "-c", WORK, folder / "end"], stdout=stdout, stderr=stderr).returncode
    return code, (folder / "end").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize(("out", "err", "code"), [("/dev/full", "said", 1), ("/dev/null", "/dev/full", 0)])
def test_a_full_disk_behind_the_output_costs_the_output_alone(tmp_path, out, err, code):
    err = err if err.startswith("/") else str(tmp_path / err)
    assert work(tmp_path, out, err) == (code, True)
    if code:
        assert Path(err).read_text().endswith("not all that was printed (No space left on device); make room\n")


def test_a_reader_that_wants_no_more_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stdout:
        done = subprocess.run([sys.executable, "-c", WORK, tmp_path / "end"], stdout=stdout, stderr=stdout)
    assert done.returncode == 0 and (tmp_path / "end").is_file()
