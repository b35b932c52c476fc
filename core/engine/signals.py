"""Asked to leave: Ctrl-C, a scheduler or a closed terminal let a run finish its step and write a checkpoint."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """A context in which signals leave the process in order: exit code 130 after SIGINT, 0 after SIGTERM and SIGHUP.

    They leave at once; inside `deferred()` they only ask (`asked`), and a second SIGINT leaves at once. Where signals
    can't be caught, outside the main thread, the context does nothing; one that is ignored (nohup) stays so.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._deferred = False

    def __enter__(self) -> StopSignals:
        main = threading.current_thread() is threading.main_thread()
        heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN] if main else []
        self._before = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals wait in here until someone looks at `asked`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def leave(self) -> None:
        """Leave the process as the signal that came wants: `KeyboardInterrupt` for SIGINT, exit code 0 for others."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(0)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        again = self.asked() and number == signal.SIGINT
        self.received = signal.Signals(number)
        if again or not self._deferred:
            self.leave()
        logger.warning("%s: writing a checkpoint after this step; Ctrl-C leaves at once", self.received.name)
