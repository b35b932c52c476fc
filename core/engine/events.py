"""What happened lately: scalars by name, kept on their device until somebody reads them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from statistics import median

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

    def medians(self) -> dict[str, float]:
        """The median of the window, for each scalar."""
        return {name: median(map(float, values)) for name, values in self._values.items()}

    def latest(self) -> dict[str, float]:
        """The last value of each scalar."""
        return {name: float(values[-1]) for name, values in self._values.items()}
