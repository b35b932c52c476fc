"""Loading training and test samples: seeded by sample rather than by worker, sharded, mixed and resumable.

A `SampleSource` makes a sample from an index and a random generator. The generator of the sample at a
position of an epoch is seeded with (seed, epoch, position) and nothing else, so that a run sees the same
samples with any number of workers, no two positions, epochs or workers share random numbers, and a run can
be resumed at any position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from core.utils.errors import UserError

Collate = Callable[[list[Any]], Any]


class SampleSource(Protocol):
    """Something that makes samples."""

    def __len__(self) -> int:
        """Number of samples in an epoch."""

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """Sample `index` (0 <= index < len), all of its randomness drawn from `rng`."""


@dataclass(frozen=True)
class SampleKey:
    """Which sample, and where in the run it stands."""

    epoch: int
    position: int  # within the epoch
    index: int  # of the source


class JoinedSource:
    """Several sources one after another."""

    def __init__(self, sources: Sequence[SampleSource]) -> None:
        self.sources = list(sources)
        self._ends = np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        which = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[which - 1]) if which else 0
        return self.sources[which].sample(index - start, rng)


class MixedSource:
    """Samples of `first`, each replaced with probability `ratio` by a random one of `second`.

    An epoch is as long as the first source (DATASETS.TRAIN2_RATIO of GDR-Net's configurations).
    """

    def __init__(self, first: SampleSource, second: SampleSource, ratio: float) -> None:
        if not 0 <= ratio <= 1:
            raise UserError(f"DATASETS.TRAIN2_RATIO must be between 0 and 1, got {ratio}")
        self.first, self.second, self.ratio = first, second, ratio

    def __len__(self) -> int:
        return len(self.first)

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        if rng.random() < self.ratio:
            return self.second.sample(int(rng.integers(len(self.second))), rng)
        return self.first.sample(index, rng)


class TrainingSampler(Sampler[SampleKey]):
    """Keys without end: every epoch a new permutation of all indices.

    Positions are dealt to `world_size` ranks in turn. `start` is the number of samples that all ranks
    together have consumed before: a resumed run goes on with the sample after them.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        if length < 1:
            raise UserError("the training set has no sample; check DATASETS.TRAIN and the visibility filter")
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.start, self.rank, self.world_size = start, rank, world_size

    def __iter__(self) -> Iterator[SampleKey]:
        current, order = -1, np.arange(self.length)
        place = self.start + self.rank
        while True:
            epoch, position = divmod(place, self.length)
            if self.shuffle and epoch != current:
                # The fourth word keeps this stream apart from the samples' (seed, epoch, position).
                order = np.random.default_rng([self.seed, epoch, 0, 1]).permutation(self.length)
            current = epoch
            yield SampleKey(epoch, position, int(order[position]))
            place += self.world_size


class SequentialSampler(Sampler[SampleKey]):
    """Every index once, in order; each of `world_size` ranks gets every `world_size`-th."""

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[SampleKey]:
        return (SampleKey(0, index, index) for index in self.indices)


@dataclass(frozen=True)
class SampleFailure:
    """A `UserError` on its way out of a worker process, where torch would wrap it into a traceback."""

    message: str


class SeededDataset(Dataset):
    """A source's samples by `SampleKey`."""

    def __init__(self, source: SampleSource, seed: int) -> None:
        self.source, self.seed = source, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey) -> Any:
        rng = np.random.default_rng([self.seed, key.epoch, key.position])
        try:
            return self.source.sample(key.index, rng)
        except UserError as error:
            return SampleFailure(str(error))


class _CollateOrFail:
    """`collate`, unless one of the samples failed."""

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, samples: list[Any]) -> Any:
        failures = [sample for sample in samples if isinstance(sample, SampleFailure)]
        return failures[0] if failures else self.collate(samples)


class Loader:
    """Iterates over batches; a sample that failed in a worker raises its `UserError` here, in one line."""

    def __init__(self, batches: DataLoader) -> None:
        self._batches = batches

    def __len__(self) -> int:
        """Number of batches; only a test loader has one."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            if isinstance(batch, SampleFailure):
                raise UserError(batch.message)
            yield batch


def _single_threaded(_worker_id: int) -> None:
    # The workers are the parallelism; threads of their own would only compete.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def make_train_loader(
    source: SampleSource,
    collate: Collate,
    batch_size: int,
    seed: int,
    num_workers: int = 0,
    start: int = 0,
    rank: int = 0,
    world_size: int = 1,
    shuffle: bool = True,
    pin_memory: bool = False,
) -> Loader:
    """Batches without end of this rank's `batch_size` samples, made by `collate(list of samples)`.

    `start` is the number of samples (of all ranks) that came before, e.g. iterations done x batch size x
    ranks.
    """
    sampler = TrainingSampler(len(source), seed, start, rank, world_size, shuffle)
    return Loader(
        DataLoader(
            generator=torch.Generator(),  # else each loader would draw from the run's own random state
            dataset=SeededDataset(source, seed),
            batch_size=batch_size,
            sampler=sampler,
            num_workers=num_workers,
            collate_fn=_CollateOrFail(collate),
            worker_init_fn=_single_threaded,
            pin_memory=pin_memory,
        )
    )


def make_test_loader(
    source: SampleSource,
    collate: Collate,
    batch_size: int,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Loader:
    """This rank's samples once, in order, in batches of at most `batch_size`."""
    return Loader(
        DataLoader(
            generator=torch.Generator(),
            dataset=SeededDataset(source, seed=0),
            batch_size=batch_size,
            sampler=SequentialSampler(len(source), rank, world_size),
            num_workers=num_workers,
            collate_fn=_CollateOrFail(collate),
            worker_init_fn=_single_threaded,
        )
    )
