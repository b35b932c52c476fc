"""An iterator read by a thread ahead of its user."""

from __future__ import annotations

import threading
from collections.abc import Generator
from queue import Full, Queue
from typing import TypeVar

T = TypeVar("T")
LOOK_UP = 0.1  # seconds between looks at whether the user has left
LEAVE = 10.0  # seconds that an item under way may take once the user has left


class _End:
    """After the last item; with the error, where one ended the iteration."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def read_ahead(items: Generator[T, None, None], depth: int) -> Generator[T, None, None]:
    """The same items, up to `depth` of them fetched before they are asked for.

    `items` runs in a thread, where it is also closed, when it has ended or its user has left. What it raises is raised
    here in its turn.
    """
    ready: Queue[T | _End] = Queue(depth)
    left = threading.Event()

    def hand_over(item: T | _End) -> None:
        while not left.is_set():
            try:
                return ready.put(item, timeout=LOOK_UP)
            except Full:
                continue

    def fetch() -> None:
        try:
            for item in items:
                hand_over(item)
                if left.is_set():
                    break
            hand_over(_End())
        except BaseException as error:
            hand_over(_End(error))
        finally:
            items.close()

    thread = threading.Thread(target=fetch, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        left.set()
        thread.join(LEAVE)
