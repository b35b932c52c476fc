"""Broken samples of a training set: replaced alike everywhere, reported once, counted, and ended when too many."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from torch.utils.data._utils.pin_memory import pin_memory

from sopose.core.data.loader import Loader, make_test_loader, make_train_loader
from sopose.core.data.replacing import LEAST_SEEN, TRIES, BrokenCount, Collated, CollateOrFail, Replacement
from sopose.core.data.sources import MixedSource
from sopose.core.utils.errors import UserError, one_line

MESSAGE = "image{}.png cannot be decoded; restore the file"
BROKEN = (3, 4, 5, 11)  # of twenty


class Numbers:
    """Samples (index, a random number, the process); those of `broken` raise `error`."""

    def __init__(self, length: int, broken: tuple[int, ...] = (), error: type[Exception] = UserError) -> None:
        self.length, self.broken, self.error = length, broken, error

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int, rng: np.random.Generator) -> tuple[int, float, int]:
        if index in self.broken:
            raise self.error(MESSAGE.format(index))
        return index, rng.random(), os.getpid()


class Unreadable(Numbers):
    """The system refuses the file of its first sample."""

    def sample(self, index: int, rng: np.random.Generator) -> tuple[int, float, int]:
        if index == 0:
            raise OSError(5, "Input/output error", "images/7.png")
        return super().sample(index, rng)


def as_list(samples: list) -> list:
    return samples


def make_loader(source: Numbers | MixedSource, **options) -> Loader:
    return make_train_loader(source, as_list, **{"batch_size": 4, "seed": 7, **options})


def take(count: int, source: Numbers | MixedSource, **options) -> list[tuple[int, float]]:
    """Index and number of the samples of the first `count` batches."""
    return [sample[:2] for batch in islice(make_loader(source, **options), count) for sample in batch]


@pytest.fixture
def many_may_break(monkeypatch) -> None:
    """As of a run that has seen a million samples."""
    monkeypatch.setattr("sopose.core.data.replacing.LEAST_SEEN", 1_000_000)


def test_only_broken_samples_are_replaced_and_by_whole_ones(many_may_break):
    whole, repaired = take(200, Numbers(20)), take(200, Numbers(20, BROKEN))
    pairs = list(zip(whole, repaired, strict=True))
    assert all(one == other for one, other in pairs if one[0] not in BROKEN)
    assert not {index for index, _ in repaired} & {*BROKEN}
    replacements = [other for one, other in pairs if one[0] in BROKEN]
    assert len(replacements) == 40 * len(BROKEN)
    assert {index for index, _ in replacements} == {*range(20)} - {*BROKEN}  # drawn from all that are whole


def test_no_random_number_comes_twice_with_replacements(many_may_break):
    numbers = [number for _, number in take(100, Numbers(20, BROKEN))]
    assert len(set(numbers)) == len(numbers) == 400


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_number_of_workers_changes_neither_replacements_nor_counts(num_workers, many_may_break):
    source = Numbers(20, BROKEN)
    assert take(12, source, num_workers=num_workers) == take(12, source)
    here, there = make_loader(source), make_loader(source, num_workers=num_workers)
    assert len(list(islice(here, 12))) == len(list(islice(there, 12)))
    assert (there.seen, there.broken) == (here.seen, here.broken)


def test_a_resumed_run_replaces_alike(many_may_break):
    source = Numbers(20, BROKEN)
    assert take(6, source, start=24, num_workers=2) == take(12, source)[24:]


def test_ranks_replace_as_one_process_does(many_may_break):
    source = Numbers(20, BROKEN)
    ranks = [take(8, source, batch_size=2, rank=rank, world_size=2) for rank in range(2)]
    assert [sample for samples in zip(*ranks, strict=True) for sample in samples] == take(8, source)


def test_of_mixed_sources_only_the_broken_samples_change(many_may_break):
    def mixed(broken: tuple[int, ...]) -> MixedSource:
        return MixedSource(Numbers(20, broken), Numbers(5), ratio=0.5)

    whole, repaired = take(20, mixed(())), take(20, mixed(BROKEN))
    changed = [one[0] for one, other in zip(whole, repaired, strict=True) if one != other]
    assert {*changed} == {*BROKEN}


def test_every_sample_looked_at_is_counted(many_may_break):
    loader = make_loader(Numbers(20, BROKEN))
    delivered = [sample for batch in islice(loader, 50) for sample in batch]
    assert loader.seen == len(delivered) + loader.broken
    assert 40 < loader.broken < 80  # ten epochs of four, and what was drawn in their place


def test_each_message_is_logged_once(caplog, many_may_break):
    with caplog.at_level(logging.WARNING):
        loader = make_loader(Numbers(20, BROKEN))
        list(islice(loader, 50))
    lines = caplog.messages
    assert len(lines) == len(BROKEN) < loader.broken
    pattern = r"image(\d+)\.png cannot be decoded; restore the file; another sample takes its place"
    matches = [re.fullmatch(pattern + r" \(\d+ broken of \d+ so far\)", line) for line in lines]
    assert {int(match[1]) for match in matches} == {*BROKEN}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_that_the_system_refuses_is_a_broken_sample(num_workers, caplog):
    loader = make_loader(Unreadable(20), num_workers=num_workers)
    samples = [sample[0] for batch in islice(loader, 5) for sample in batch]
    assert len(samples) == 20 and 0 not in samples
    assert caplog.messages[0].startswith("images/7.png: Input/output error; check path")


def test_an_error_of_the_system_becomes_one_line():
    assert one_line(OSError("image file\nis truncated")).startswith("image file is truncated; check path")


def test_another_error_is_no_broken_sample():
    with pytest.raises(ZeroDivisionError):
        list(make_loader(Numbers(20, BROKEN, ZeroDivisionError)))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("error", [UserError, OSError])
def test_where_all_are_broken_the_run_ends_at_once(num_workers, error):
    loader = make_loader(Numbers(20, tuple(range(20)), error), num_workers=num_workers)
    with pytest.raises(UserError, match=r"image\d+\.png cannot be decoded") as caught:
        next(iter(loader))
    assert "\n" not in str(caught.value)


def test_a_sample_fails_after_as_many_others_as_are_tried():
    asked: list[int] = []

    class AllBroken(Numbers):
        def sample(self, index: int, rng: np.random.Generator) -> tuple[int, float, int]:
            asked.append(index)
            raise UserError(MESSAGE.format(index))

    with pytest.raises(UserError) as caught:
        next(iter(make_loader(AllBroken(20), batch_size=1)))
    assert len(asked) == 1 + TRIES
    assert str(caught.value) == MESSAGE.format(asked[-1])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_eleventh_of_the_first_thousand_ends_the_run(num_workers):
    loader = make_loader(Numbers(20, (3,)), num_workers=num_workers)
    with pytest.raises(UserError, match=r"^11 of \d+ training samples are broken, at most 1 % .*image3\.png") as caught:
        list(loader)
    assert "\n" not in str(caught.value)
    assert loader.broken == 11


def test_ten_of_the_first_thousand_and_then_one_percent_are_tolerated():
    count = BrokenCount()
    for _ in range(10):
        count.add(1, ("broken",))
    count.add(LEAST_SEEN - 10, ())
    count.add(4 * LEAST_SEEN, 40 * ("broken",))
    assert (count.seen, count.broken) == (5 * LEAST_SEEN, 50)
    with pytest.raises(UserError, match=r"^51 of 5001 "):
        count.add(1, ("broken",))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_test_loader_replaces_nothing(num_workers):
    loader = make_test_loader(Numbers(10, (3,)), as_list, batch_size=2, num_workers=num_workers)
    with pytest.raises(UserError, match=r"^image3\.png cannot be decoded; restore the file$"):
        list(loader)


def test_a_test_loader_leaves_an_error_of_the_system_as_it_is():
    with pytest.raises(OSError, match=r"image3\.png"):
        list(make_test_loader(Numbers(10, (3,), OSError), as_list, batch_size=2))


class Pinnable:
    """Says whether it was pinned."""

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned

    def pin_memory(self) -> Pinnable:
        return Pinnable(pinned=True)


def test_pinning_reaches_the_batch_and_leaves_the_messages():
    made = CollateOrFail(lambda samples: (samples[0], samples[1:]))([Replacement(Pinnable(), ("broken",)), 2])
    pinned = pin_memory(made)
    assert isinstance(pinned, Collated)
    assert pinned.batch[0].pinned and pinned.batch[1] == [2]
    assert (pinned.seen, pinned.messages) == (3, ("broken",))


def workers_of(batches: Iterator[list], count: int = 4) -> set[int]:
    """The processes that made the next `count` batches."""
    return {sample[2] for batch in islice(batches, count) for sample in batch}


def test_workers_outlive_signals_and_end_with_their_iterator():
    batches = iter(make_loader(Numbers(20), num_workers=2))
    workers = workers_of(batches)
    assert len(workers - {os.getpid()}) == 2
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
        os.kill(worker, signal.SIGINT)
    assert workers_of(batches, 20) == workers
    del batches
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


LEAVING = """
from tests.core.data.test_replacing import Numbers, make_loader, workers_of
batches = iter(make_loader(Numbers(20), num_workers=2))
print(*workers_of(batches))
"""


def test_a_process_that_leaves_takes_its_workers_along(repository):
    done = subprocess.run([sys.executable, "-c", LEAVING], cwd=repository, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    workers = [int(word) for word in done.stdout.split()]
    assert len(workers) == 2
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
