"""What happened lately: scalars by name, kept on their device until somebody reads them."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

import torch
from torch import Tensor


class Events:
    """The last values of each scalar.

    Values may be tensors of any device: they are copied to the host only by `medians` and `latest`, so that putting
    them does not wait for the device.
    """

    def __init__(self, window: int = 20) -> None:
        self._values: dict[str, deque[Tensor | float]] = defaultdict(lambda: deque(maxlen=window))

    def put(self, scalars: Mapping[str, Tensor | float]) -> None:
        """Append one value to each named scalar."""
        for name, value in scalars.items():
            self._values[name].append(value)

    def window(self, name: str) -> list[float]:
        """The last values of one scalar, oldest first."""
        return _on_host(self._values[name])

    def medians(self) -> dict[str, float]:
        """The median of the window's finite values, for each scalar; NaN where there is none."""
        return {name: _finite_median(_on_host(values)) for name, values in self._values.items()}

    def latest(self) -> dict[str, float]:
        """The last value of each scalar."""
        return {name: float(values[-1]) for name, values in self._values.items()}


def _on_host(values: deque[Tensor | float]) -> list[float]:
    """The values, those of a device in one copy."""
    if all(isinstance(value, Tensor) for value in values):
        return torch.stack(list(values)).tolist()
    return [float(value) for value in values]


def _finite_median(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else math.nan


class Delayed:
    """Numbers of a device that are read `lag` turns later, when they have arrived without anyone waiting."""

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None, Any]] = deque()

    def put(self, numbers: Tensor, about: Any) -> None:
        """Start copying `numbers` (N,) to the host; `about` comes back with them."""
        arrived = None
        if numbers.device.type == "cuda":
            numbers = numbers.to("cpu", non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._waiting.append((numbers, arrived, about))

    def take(self, everything: bool = False) -> Iterator[tuple[list[float], Any]]:
        """What was put `lag` turns ago or earlier, or everything, in order. A turn is a `put`."""
        while len(self._waiting) > (0 if everything else self.lag):
            numbers, arrived, about = self._waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            yield numbers.tolist(), about
