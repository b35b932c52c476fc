"""The command as tests call it: a verb and its words, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sopose.cli.main import run_verb


def verb(name: str) -> Callable[[Sequence[str]], None]:
    """What runs `sopose NAME` with the words behind it; it can be sent to other processes."""
    return partial(run_verb, name)
