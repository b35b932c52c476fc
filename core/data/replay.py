"""Things that are costly to make and used several times: which one a sample uses, known from its number alone.

A pool has slots. Sample after sample goes through all of them, each time in another order; what a slot holds is
replaced after `reuse` uses, the slots' replacements spread evenly. So the thing that sample n uses is a function of
the seed and n, whoever makes it: a run sees the same with any number of workers, and after it was resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np

from sopose.core.utils.errors import UserError

T = TypeVar("T")
# Batches are dealt to lanes in turn, each with slots of its own. A loader deals batches to its workers in turn, too, so
# that with 1, 2, 4 or 8 workers none makes what another one makes.
LANES = 8


@dataclass(frozen=True)
class Place:
    """Where a sample stands in a run."""

    seed: int  # of the run
    number: int  # of the sample, counted over all epochs


@dataclass(frozen=True)
class ReplaySchedule:
    """Which thing a sample uses. Raises `UserError` where the pool's size isn't a multiple of its lanes.

    Args:
        size: things in the pool.
        reuse: uses of a thing, before another one takes its place.
        batch: samples that one worker makes in a row.
    """

    size: int
    reuse: int
    batch: int

    def __post_init__(self) -> None:
        if self.reuse < 1 or self.size < LANES or self.size % LANES:
            raise UserError(
                f"CAD.REUSE must be at least 1 and CAD.POOL a multiple of {LANES}, got {self.reuse} and {self.size}"
            )

    def slot(self, place: Place) -> int:
        """The slot that a sample uses, 0 to size - 1."""
        lane, sweep, position = self._at(place)
        return lane * (self.size // LANES) + int(_order(place.seed, lane, sweep, self.size // LANES)[position])

    def thing(self, place: Place) -> int:
        """The number of the thing that a sample uses; things of a slot are `size` apart."""
        slot = self.slot(place)
        # Slots begin at different ages: some are replaced in every sweep, never all.
        return (self._at(place)[1] + slot % self.reuse) // self.reuse * self.size + slot

    def uses(self, seed: int, things: int, most: int) -> dict[int, list[int]]:
        """Numbers of samples by the thing they use: of the first `things` things of a run, `most` uses at most."""
        found: dict[int, list[int]] = {}
        most, number = min(most, self.reuse), 0
        while not (len(found) == things and all(len(numbers) == most for numbers in found.values())):
            thing = self.thing(Place(seed, number))
            # Things that a run begins with have fewer uses than those after them.
            if thing >= self.size and (thing in found or len(found) < things) and len(found.get(thing, [])) < most:
                found.setdefault(thing, []).append(number)
            number += 1
        return found

    def _at(self, place: Place) -> tuple[int, int, int]:
        """Lane, sweep through the lane's slots, position in the sweep."""
        batch, within = divmod(place.number, self.batch)
        turn, lane = divmod(batch, LANES)
        return lane, *divmod(turn * self.batch + within, self.size // LANES)


@lru_cache(maxsize=4 * LANES)
def _order(seed: int, lane: int, sweep: int, count: int) -> np.ndarray:
    # The sixth and seventh word keep this stream apart from those of samples, epochs and things.
    return np.random.default_rng([seed, lane, sweep, 0, 0, 0, 1]).permutation(count)


class ReplayPool(Generic[T]):
    """Makes what samples use, and keeps it for as long as its slot holds it."""

    def __init__(self, schedule: ReplaySchedule, make: Callable[[int, np.random.Generator], T]) -> None:
        """`make(number, rng)` makes a thing of a number; `rng` follows from the seed and that number."""
        self.schedule, self.make = schedule, make
        self.made = 0  # things so far, by this process
        self._held: dict[int, tuple[Place, int, T]] = {}

    def get(self, place: Place) -> T:
        """What the sample at a place uses."""
        slot, number = self.schedule.slot(place), self.schedule.thing(place)
        held = self._held.get(slot)
        if held is not None and (held[0].seed, held[1]) == (place.seed, number):
            return held[2]
        self._held.pop(slot, None)
        thing = self.make(number, np.random.default_rng([place.seed, number, 0, 0, 0, 1]))
        self.made += 1
        self._held[slot] = place, number, thing
        return thing
