"""Samples that cannot be made: in training another takes their place, and too many end the run.

What happened to a batch's samples travels with it from the worker that made it to the main process, which logs and
counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sopose.core.utils.errors import UserError

logger = logging.getLogger(__name__)

Collate = Callable[[list[Any]], Any]
BREAKS = (UserError, OSError)  # what a source raises where a sample's files are missing, damaged or out of reach
TRIES = 10  # samples that are tried in place of a broken one
BROKEN_SHARE = 0.01  # of the samples looked at; more broken ones end a run
LEAST_SEEN = 1000  # samples that the share is taken of where fewer were looked at


@dataclass(frozen=True)
class SampleFailure:
    """The error of a sample on its way out of a worker process, where torch would wrap it into a traceback."""

    message: str


@dataclass(frozen=True)
class Replacement:
    """A sample in another's place, and the errors of those before it."""

    sample: Any
    messages: tuple[str, ...]


class Collated(NamedTuple):
    """A batch on its way out of a worker process; a tuple, which torch pins part by part."""

    batch: Any
    seen: int  # samples looked at to make it, the broken ones included
    messages: tuple[str, ...]  # one of each broken sample


class CollateOrFail:
    """`collate` and what came before it, or the failure where one of the samples failed."""

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Collated | SampleFailure:
        failures = [sample for sample in samples if isinstance(sample, SampleFailure)]
        if failures:
            return failures[0]
        replacements = [sample for sample in samples if isinstance(sample, Replacement)]
        messages = tuple(message for replacement in replacements for message in replacement.messages)
        batch = self.collate([sample.sample if isinstance(sample, Replacement) else sample for sample in samples])
        return Collated(batch, len(samples) + len(messages), messages)


class BrokenCount:
    """Counts the samples that were looked at and those of them that were broken."""

    def __init__(self) -> None:
        self.seen = self.broken = 0
        self._logged: set[str] = set()

    def add(self, seen: int, messages: tuple[str, ...]) -> None:
        """Count `seen` samples, of which those with these messages were broken; a message is logged once.

        Raises `UserError` where there are too many.
        """
        self.seen += seen
        for message in messages:
            self.broken += 1
            self._require_few(message)
            if message not in self._logged:
                self._logged.add(message)
                count = f"{self.broken} broken of {self.seen} so far"
                logger.warning("%s; another sample takes its place (%s)", message, count)

    def _require_few(self, message: str) -> None:
        if self.broken > BROKEN_SHARE * max(self.seen, LEAST_SEEN):
            raise UserError(
                f"{self.broken} of {self.seen} training samples are broken, at most {100 * BROKEN_SHARE:g} % may be "
                f"({BROKEN_SHARE * LEAST_SEEN:g} of the first {LEAST_SEEN}); the last: {message}; "
                f"repair the data set and continue with --resume"
            )
