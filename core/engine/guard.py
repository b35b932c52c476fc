"""What is done about steps that are not finite: they are counted, and after too many in a row the run ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sopose.core.utils.errors import UserError

logger = logging.getLogger(__name__)
GRADIENT = "gradient"  # what is named where all losses are finite


@dataclass(frozen=True, eq=False)
class StepRecord:
    """What a step was computed from, and this process's losses."""

    iteration: int  # steps done before it
    batches: list[Any]
    losses: dict[str, Tensor]

    def not_finite(self) -> list[str]:
        """Names of the losses that are not finite; "gradient" where all are."""
        bad = [name for name, loss in self.losses.items() if not bool(torch.isfinite(loss))]
        return bad or [GRADIENT]


class Guard:
    """Counts the steps that were skipped, and ends a run at the `limit`-th in a row.

    Args:
        limit: skipped steps in a row that end a run.
        describe: what to call a batch.
        keep: writes the last step's batches to a file for a look at them and returns its path; None writes nothing.
        remedy: the last words of the error.
    """

    def __init__(
        self,
        limit: int,
        describe: Callable[[Any], str] = str,
        keep: Callable[[StepRecord], Path] | None = None,
        remedy: str = "lower the learning rate or check these samples",
    ) -> None:
        self.limit, self.describe, self.keep, self.remedy = limit, describe, keep, remedy
        self.skipped = self.in_a_row = 0

    def check(self, bad: bool, record: StepRecord) -> None:
        """Count a step. Raises `UserError` at the `limit`-th bad one in a row."""
        if not bad:
            self.in_a_row = 0
            return
        self.skipped += 1
        self.in_a_row += 1
        names = ", ".join(record.not_finite())
        text = f"iteration {record.iteration + 1}: {names} not finite"
        batches = "; ".join(map(self.describe, record.batches))
        if self.in_a_row < self.limit:
            logger.warning("%s, step skipped (%d so far); batch: %s", text, self.skipped, batches)
            return
        row = f", as in the {self.in_a_row - 1} steps before" if self.in_a_row > 1 else ""
        kept = f"; the batch is kept in {self.keep(record)}" if self.keep else ""
        raise UserError(f"{text}{row} for the batch {batches}{kept}; the weights were not changed, {self.remedy}")
