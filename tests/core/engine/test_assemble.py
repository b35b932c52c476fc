"""What is assembled of options: mixed precision as they name it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sopose.core.engine.assemble import Lesson, TrainingOptions, assemble_trainer


class Numbers:
    """Four samples an epoch."""

    def __len__(self) -> int:
        return 4

    def sample(self, index: int, rng: np.random.Generator) -> torch.Tensor:
        return torch.full((1,), float(index))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_run_computes_in_the_precision_that_it_reports(tmp_path: Path, precision: str):
    network = nn.Linear(1, 1)
    lesson = Lesson(
        Numbers(), torch.stack, lambda batch, _: {"loss": network(batch).square().mean()}, lambda batch: {}, str, "none"
    )
    options = TrainingOptions(epochs=1, batch_size=2, workers=0, precision=precision)
    trainer = assemble_trainer(network, lesson, {}, options, tmp_path, False, lambda: False)
    wanted = None if precision == "float32" else getattr(torch, precision)
    assert trainer.options.amp_dtype == wanted
    assert (trainer.step.scaler is not None) == (precision == "float16")
