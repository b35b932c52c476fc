"""Seeding by sample, order, shards, resuming, mixing, and errors of workers."""

from __future__ import annotations

import os
import signal
from itertools import islice

import numpy as np
import pytest
import torch

from sopose.core.data.loader import TrainingSampler, make_test_loader, make_train_loader
from sopose.core.data.sources import JoinedSource, MixedSource, mixed_sources
from sopose.core.utils.errors import LostWorkerError, UserError


class Numbers:
    """Samples (index + offset, a random number)."""

    def __init__(self, length: int, offset: int = 0) -> None:
        self.length, self.offset = length, offset

    def __len__(self) -> int:
        return self.length

    def sample(self, index: int, rng: np.random.Generator) -> tuple[int, float]:
        return index + self.offset, rng.random()


class Broken(Numbers):
    """Fails at one index."""

    def sample(self, index: int, rng: np.random.Generator) -> tuple[int, float]:
        if index == 3:
            raise UserError("image.png cannot be decoded; restore the file")
        return super().sample(index, rng)


def as_list(samples: list) -> list:
    return samples


def take(count: int, **options) -> list[tuple[int, float]]:
    """The first `count` batches of a training loader, joined."""
    options = {"source": Numbers(10), "batch_size": 4, "seed": 7, **options}
    loader = make_train_loader(collate=as_list, **options)
    return [sample for batch in islice(loader, count) for sample in batch]


def test_every_epoch_has_every_sample_once_in_another_order():
    epochs = np.reshape([index for index, _ in take(5)], (2, 10))
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs.tolist())
    assert (epochs[0] != epochs[1]).any()


def test_no_random_number_comes_twice():
    numbers = [number for _, number in take(50)]
    assert len(set(numbers)) == len(numbers) == 200


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_number_of_workers_changes_nothing(num_workers):
    assert take(6, num_workers=num_workers) == take(6)


def test_the_seed_changes_order_and_numbers():
    first, second = take(3), take(3, seed=8)
    assert [i for i, _ in first] != [i for i, _ in second]
    assert not {number for _, number in first} & {number for _, number in second}


def test_a_run_resumes_with_the_sample_after_its_last():
    assert take(3, start=8) == take(5)[8:]
    assert take(3, start=12, num_workers=2) == take(6)[12:]


def test_ranks_share_the_samples_without_overlap():
    ranks = [take(5, batch_size=2, rank=rank, world_size=3) for rank in range(3)]
    dealt = [sample for samples in zip(*ranks, strict=True) for sample in samples]
    assert dealt == take(5, batch_size=6)


def test_without_shuffling_samples_come_in_order():
    assert [index for index, _ in take(5, shuffle=False)] == [*range(10), *range(10)]


def test_joined_sources_follow_one_another():
    source = JoinedSource([Numbers(3), Numbers(2, offset=100), Numbers(4, offset=200)])
    rng = np.random.default_rng(0)
    assert len(source) == 9
    assert [source.sample(i, rng)[0] for i in range(9)] == [0, 1, 2, 100, 101, 200, 201, 202, 203]


def test_sources_are_mixed_by_their_ratio_and_evenly():
    source = MixedSource(Numbers(1000), Numbers(5, offset=10_000), ratio=0.3)
    assert len(source) == 1000
    indices = np.array([index for index, _ in take(20, source=source, batch_size=200)])
    second = indices >= 10_000
    assert second.mean() == pytest.approx(0.3, abs=0.03)
    counts = np.bincount(indices[second] - 10_000, minlength=5)
    assert counts.min() > 0.15 * counts.sum()


@pytest.mark.parametrize(("others", "ratio"), [(("c",), 0.5), (("c",), 0.0), ((), 0.5)])
def test_sources_of_names_are_joined_and_mixed_and_none_is_made_in_vain(others, ratio):
    made = []

    def make(name: str) -> Numbers:
        made.append(name)
        return Numbers(10, offset=100 * "abc".index(name))

    source = mixed_sources(make, ("a", "b"), others, ratio)
    drawn = {index // 100 for index, _ in take(20, source=source)}
    mixes = bool(others) and ratio > 0
    assert len(source) == 20
    assert made == (["a", "b", "c"] if mixes else ["a", "b"]) and drawn == ({0, 1, 2} if mixes else {0, 1})


def test_a_mixing_ratio_beyond_one_is_refused():
    with pytest.raises(UserError, match="TRAIN2_RATIO"):
        MixedSource(Numbers(1), Numbers(1), ratio=1.5)


def test_an_empty_source_is_refused():
    with pytest.raises(UserError, match="no sample"):
        TrainingSampler(0, seed=0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_test_loader_gives_each_sample_once_in_order(num_workers):
    loader = make_test_loader(Numbers(10), as_list, batch_size=4, num_workers=num_workers)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    assert [index for batch in batches for index, _ in batch] == list(range(10))


def test_a_sharded_test_loader_leaves_nothing_out():
    loaders = [make_test_loader(Numbers(10), as_list, 4, rank=rank, world_size=3) for rank in range(3)]
    assert sorted(i for loader in loaders for batch in loader for i, _ in batch) == list(range(10))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_error_of_a_sample_arrives_in_one_line(num_workers):
    loader = make_test_loader(Broken(10), as_list, batch_size=2, num_workers=num_workers)
    with pytest.raises(UserError, match=r"^image\.png cannot be decoded; restore the file$"):
        list(loader)


class Killed:
    """A source whose worker is killed by the system while it makes a sample."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __len__(self) -> int:
        return 100

    def sample(self, index: int, rng: np.random.Generator) -> int:
        if index == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def test_a_lost_worker_is_one_line_after_the_batches_before_it():
    loader = make_train_loader(Killed(at=8), torch.tensor, 4, seed=0, num_workers=1, shuffle=False)
    batches = iter(loader)
    assert next(batches).tolist() == [0, 1, 2, 3]
    with pytest.raises(LostWorkerError, match=r"^a process that prepares samples was killed \(out of memory\?\)"):
        for _ in range(3):
            next(batches)
