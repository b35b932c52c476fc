"""Things used several times: how often, in which order, and that all follows from a sample's number."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sopose.core.data.replay import LANES, Place, ReplayPool, ReplaySchedule
from sopose.core.utils.errors import UserError

SCHEDULES = st.builds(
    ReplaySchedule,
    size=st.integers(1, 6).map(lambda n: n * LANES),
    reuse=st.integers(1, 5),
    batch=st.integers(1, 12),
)


def things(schedule: ReplaySchedule, count: int, start: int = 0) -> list[int]:
    return [schedule.thing(Place(0, number)) for number in range(start, start + count)]


def pool_of(schedule: ReplaySchedule) -> ReplayPool[tuple[int, float]]:
    return ReplayPool(schedule, lambda number, rng: (number, rng.random()))


@given(SCHEDULES)
@settings(max_examples=40, deadline=None)
def test_a_thing_is_used_as_often_as_asked_and_never_comes_back(schedule):
    # So many whole sweeps of every lane that each slot has had several things.
    count = schedule.size * schedule.batch * schedule.reuse * 4
    used = Counter(things(schedule, count))
    for slot in range(schedule.size):
        ages = sorted(number for number in used if number % schedule.size == slot)
        assert ages == list(range(ages[0], ages[-1] + 1, schedule.size))
        assert all(used[number] == schedule.reuse for number in ages[1:-1])
        assert used[ages[0]] <= schedule.reuse


@given(SCHEDULES, st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_no_thing_is_used_twice_within_a_sweep(schedule, sweep):
    per_lane = schedule.size // LANES
    by_lane: dict[int, list[int]] = {}
    number = sweep * schedule.size * schedule.batch
    while len(by_lane.setdefault(0, [])) < per_lane:
        lane = schedule.slot(Place(3, number)) // per_lane
        by_lane.setdefault(lane, []).append(schedule.slot(Place(3, number)))
        number += 1
    assert len(set(by_lane[0])) == per_lane


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_workers_make_nothing_that_another_one_makes(workers):
    schedule = ReplaySchedule(size=32, reuse=3, batch=5)
    pools, count = [pool_of(schedule) for _ in range(workers)], 60 * schedule.batch
    seen = [pools[number // schedule.batch % workers].get(Place(1, number)) for number in range(count)]
    assert sum(pool.made for pool in pools) == len(set(seen))
    assert seen == [pool_of(schedule).get(Place(1, number)) for number in range(count)]


def test_a_run_that_goes_on_uses_what_it_would_have_used():
    schedule = ReplaySchedule(size=16, reuse=4, batch=6)
    whole, later = pool_of(schedule), pool_of(schedule)
    first = [whole.get(Place(5, number)) for number in range(400)]
    assert [later.get(Place(5, number)) for number in range(251, 400)] == first[251:]


def test_another_seed_makes_other_things_in_another_order():
    schedule = ReplaySchedule(size=16, reuse=2, batch=4)
    pool = pool_of(schedule)
    one, other = ([pool.get(Place(seed, number)) for number in range(64)] for seed in (0, 1))
    assert not {rest for _, rest in one} & {rest for _, rest in other}
    assert [number for number, _ in one] != [number for number, _ in other]


def test_once_in_a_while_some_are_replaced_never_all():
    schedule = ReplaySchedule(size=64, reuse=8, batch=8)
    pool = pool_of(schedule)
    made = []
    for sweep in range(24):
        for number in range(sweep * 64, (sweep + 1) * 64):
            pool.get(Place(0, number))
        made.append(pool.made)
    fresh = [after - before for before, after in pairwise(made)]
    assert made[0] == 64 and set(fresh) == {8}


@pytest.mark.parametrize(("size", "reuse"), [(12, 2), (0, 2), (16, 0)])
def test_a_pool_that_lanes_cannot_share_is_refused(size, reuse):
    with pytest.raises(UserError, match=f"CAD.POOL a multiple of {LANES}"):
        ReplaySchedule(size, reuse, batch=4)
