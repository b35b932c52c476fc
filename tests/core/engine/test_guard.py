"""Steps that are not finite: counted, reported, and too many in a row end the run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from sopose.core.engine.guard import Guard, StepRecord
from sopose.core.utils.errors import UserError


def record(iteration: int, **losses: float) -> StepRecord:
    return StepRecord(iteration, [f"batch {iteration}"], {name: torch.tensor(value) for name, value in losses.items()})


def test_only_a_row_of_them_ends_the_run(caplog):
    guard = Guard(limit=3)
    with caplog.at_level(logging.WARNING):
        for iteration, bad in enumerate([True, True, False, True, True]):
            guard.check(bad, record(iteration, loss_a=float("nan"), loss_b=1.0))
    assert guard.skipped == 4
    assert len(caplog.records) == 4
    assert "iteration 1: loss_a not finite, step skipped (1 so far); batch: batch 0" in caplog.text
    with pytest.raises(UserError, match=r"iteration 6: loss_a not finite, as in the 2 steps before .* batch 5"):
        guard.check(True, record(5, loss_a=float("inf")))


def test_a_gradient_is_named_where_losses_are_finite_and_the_batch_is_kept(tmp_path):
    kept: list[StepRecord] = []

    def keep(step: StepRecord) -> Path:
        kept.append(step)
        return tmp_path / "failed.pth"

    guard = Guard(limit=1, keep=keep, remedy="look there")
    last = record(7, loss_a=1.0)
    with pytest.raises(UserError, match=r"iteration 8: gradient not finite .*failed\.pth; .*look there") as caught:
        guard.check(True, last)
    assert kept == [last] and "\n" not in str(caught.value)
