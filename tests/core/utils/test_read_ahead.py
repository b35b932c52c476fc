"""Reading ahead: the same items and errors, a bounded lead, and an end when the user leaves."""

from __future__ import annotations

import threading
import time
from itertools import count, islice

import pytest

from sopose.core.utils.read_ahead import read_ahead


def test_the_items_come_in_order():
    assert list(read_ahead((n for n in range(50)), depth=3)) == list(range(50))
    assert list(read_ahead((n for n in ()), depth=1)) == []


@pytest.mark.parametrize("depth", [1, 3])
def test_it_is_no_further_ahead_than_set(depth):
    made = []

    def items():
        for n in count():
            made.append(n)
            yield n

    ahead = read_ahead(items(), depth)
    assert next(ahead) == 0
    time.sleep(0.2)
    assert len(made) <= 1 + depth + 1  # the one taken, those ready, and one in hand
    ahead.close()


def test_an_error_comes_after_what_was_made_before_it():
    def items():
        yield 1
        yield 2
        raise KeyError("third")

    ahead = read_ahead(items(), depth=5)
    assert list(islice(ahead, 2)) == [1, 2]
    with pytest.raises(KeyError, match="third"):
        next(ahead)


def test_the_source_is_closed_when_the_user_leaves():
    closed = threading.Event()

    def items():
        try:
            yield from count()
        finally:
            closed.set()

    ahead = read_ahead(items(), depth=2)
    next(ahead)
    ahead.close()
    assert closed.wait(1)
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_work_goes_on_beside_the_user():
    def items():
        for n in range(6):
            time.sleep(0.05)
            yield n

    started = time.perf_counter()
    for _ in read_ahead(items(), depth=1):
        time.sleep(0.05)
    assert time.perf_counter() - started < 0.55  # 0.6 one after the other
