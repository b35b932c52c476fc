"""Processor time by what it is spent on."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sopose.core.utils import share_clock
from sopose.core.utils.share_clock import ShareClock


@pytest.fixture
def work(monkeypatch) -> Callable[[float], None]:
    """`work(seconds)` lets processor time pass."""
    now = [0.0]
    monkeypatch.setattr(share_clock.time, "process_time", lambda: now[0])

    def work(seconds: float) -> None:
        now[0] += seconds

    return work


def test_time_belongs_to_the_innermost_share(work):
    clock = ShareClock("rest")
    work(1)
    clock.enter("network")
    work(2)
    clock.around("losses", work, 4)
    clock.turn_to("trunk")
    work(8)
    clock.leave()
    work(16)
    clock.enter("")
    assert clock.seconds == {"rest": 17, "network": 2, "losses": 4, "trunk": 8}


def test_functions_are_watched_for_a_while_and_left_as_they_were(work):
    class Source:
        def draw(self, seconds: float) -> str:
            work(seconds)
            return "drawn"

    one, other, clock = Source(), Source(), ShareClock()
    with clock.watching([(one, "draw", "one"), (Source, "draw", "any")]):
        assert one.draw(1) == other.draw(2) == "drawn"
    assert one.draw(4) == "drawn" and "draw" not in vars(one)
    clock.enter("")
    assert clock.seconds == {"one": 1, "any": 2, "rest": 4}


def test_a_share_ends_where_its_function_fails(work):
    clock = ShareClock()
    with pytest.raises(ZeroDivisionError):
        clock.around("failing", lambda: 1 / 0)
    work(3)
    clock.enter("")
    assert clock.seconds["rest"] == 3


def test_it_measures_processor_time():
    clock = ShareClock()
    clock.around("sleep", time.sleep, 0.05)
    assert clock.seconds["sleep"] < 0.04
