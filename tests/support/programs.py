"""Programs in processes of their own, to be stopped and killed, without seconds of imports each.

They are forked from a process that has imported everything and done nothing yet.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sopose.core.utils.errors import run_cli
from sopose.main_gdrn import main

PRELOADED = (
    *("sopose.main_gdrn", "sopose.training.run", "sopose.inference.evaluation"),
    *("timm", "torch._dynamo", "torch.utils.tensorboard", "trimesh.exchange.ply"),
)
POLL = 0.005  # seconds
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(list(PRELOADED))


class Program:
    """A process that does `function(*arguments)`; what it says goes to a file."""

    def __init__(
        self, said: Path, function: Callable[..., Any], *arguments: Any, environment: Mapping[str, str] | None = None
    ) -> None:
        self.said = said
        said.touch()
        self._process = context.Process(target=_do, args=(str(said), dict(environment or {}), function, arguments))
        self._process.start()
        atexit.register(self.kill)  # a test that failed may have left it at work, and it would be waited for

    def read_until(self, word: str, seconds: float = 120) -> None:
        """Wait until it says so."""
        end = time.monotonic() + seconds
        while word not in self.said.read_text():
            assert self._process.is_alive() and time.monotonic() < end, self.said.read_text()
            time.sleep(POLL)

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def wait(self, seconds: float = 300) -> int:
        """Its exit code, once it has left."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"still there after {seconds} s: {self.said.read_text()}"
        return self._process.exitcode

    @property
    def exit_code(self) -> int | None:
        """None while it is there; the negative number of the signal that ended it."""
        return self._process.exitcode

    def kill(self) -> None:
        """End it as a full memory does, and wait until it is gone."""
        if self.exit_code is None:
            self._process.kill()
            self._process.join()


def _do(said: str, environment: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    file = os.open(said, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    # A shell's background jobs ignore the one, what nohup started the other, and so would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    torch.set_num_threads(1)
    function(*arguments)


def start_run(said: Path, config: Path, output: Path, *words: str) -> Program:
    """`main_gdrn.py --config-file …`, as one process."""
    return Program(said, run_words, _words(config, output, words))


def start_ranks(folder: Path, count: int, config: Path, output: Path, *words: str) -> list[Program]:
    """The same as `count` processes that torchrun might have started; what rank i says goes to `folder / said{i}`."""
    return start_group(folder, count, run_words, _words(config, output, words))


def start_group(folder: Path, count: int, function: Callable[..., Any], *arguments: Any) -> list[Program]:
    """`function(*arguments)` in as many processes, which know each other by environment variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    return [
        Program(
            folder / f"said{rank}",
            function,
            *arguments,
            environment={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]


def finish(programs: Sequence[Program], seconds: float = 300) -> None:
    """Wait until all have left with 0. Where one leaves otherwise, the others, which may wait for it, are killed."""
    end = time.monotonic() + seconds
    while any(program.exit_code is None for program in programs) and time.monotonic() < end:
        if any(program.exit_code for program in programs):
            break
        time.sleep(POLL)
    for program in programs:
        program.kill()
    failed = [program.said.read_text() for program in programs if program.exit_code]
    assert not failed, "\n".join(failed)


def run_words(words: list[str], script: Callable[[list[str]], None] = main) -> None:
    """A whole program: a script's `main` on the words of a command line, and its exit code."""
    run_cli(lambda argv: script(words))


def _words(config: Path, output: Path, more: tuple[str, ...]) -> list[str]:
    return ["--config-file", str(config), *more, "--opts", f"OUTPUT_DIR={output}"]
