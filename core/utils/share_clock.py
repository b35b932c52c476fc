"""What the processor time of a thread is spent on, by names; for benchmarks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar
from unittest import mock

Value = TypeVar("Value")
Part = tuple[object, str, str]  # owner, name of one of its functions, name of the share


class ShareClock:
    """Adds up processor time, seconds, under the name of the innermost share that was entered."""

    def __init__(self, rest: str = "rest") -> None:
        """Time outside of all shares is `rest`."""
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside, self._since = [rest], time.process_time()

    def enter(self, name: str) -> None:
        """From here on time belongs to a share, until `leave`."""
        self._settle()
        self._inside.append(name)

    def leave(self) -> None:
        """Back to the share around."""
        self._settle()
        self._inside.pop()

    def turn_to(self, name: str) -> None:
        """Time of the innermost share belongs to another name from here on: for what is announced and never ends."""
        self._settle()
        self._inside[-1] = name

    def _settle(self) -> None:
        now = time.process_time()
        self.seconds[self._inside[-1]] += now - self._since
        self._since = now

    def around(self, name: str, act: Callable[..., Value], *args: Any, **options: Any) -> Value:
        """What `act` returns, its time counted under a name."""
        self.enter(name)
        try:
            return act(*args, **options)
        finally:
            self.leave()

    @contextmanager
    def watching(self, parts: Sequence[Part]) -> Iterator[None]:
        """Count the time of some functions while the context lasts; they may call each other."""
        with ExitStack() as stack:
            for owner, function, name in parts:
                act = getattr(owner, function)
                stack.enter_context(mock.patch.object(owner, function, self._watched(name, act)))
            yield

    def _watched(self, name: str, act: Callable[..., Value]) -> Callable[..., Value]:
        """A plain function, so that what is found in a class becomes a method."""

        @wraps(act)
        def watched(*args: Any, **options: Any) -> Value:
            return self.around(name, act, *args, **options)

        return watched
