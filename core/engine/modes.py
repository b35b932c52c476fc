"""A network in evaluation mode for a while, without a trace in the training around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, and then as it was.

    torch's random numbers go on as though nothing had been tested: a loader draws one for its workers.
    """
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        model.train(training)
