"""Loading training and test samples: seeded by sample rather than by worker, sharded, mixed and resumable.

A `SampleSource` makes a sample from an index and a random generator. The generator of the sample at a
position of an epoch is seeded with (seed, epoch, position) and nothing else, so that a run sees the same
samples with any number of workers, no two positions, epochs or workers share random numbers, and a run can
be resumed at any position. In training another sample takes the place of a broken one; which one depends on
the same numbers, and all other samples stay as they are.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sopose.core.data.replacing import (
    BREAKS,
    TRIES,
    BrokenCount,
    Collate,
    Collated,
    CollateOrFail,
    Replacement,
    SampleFailure,
)
from sopose.core.data.replay import Place
from sopose.core.data.sources import SampleSource, sample_at
from sopose.core.utils.errors import LostWorkerError, UserError, one_line
from sopose.core.utils.read_ahead import read_ahead

READ_AHEAD = 1  # batches that are ready in this process, besides those that workers hold
LOST = re.compile(r"DataLoader worker .*(exited unexpectedly|is killed|is stopped)")  # of torch's messages


@dataclass(frozen=True)
class SampleKey:
    """Which sample, and where in the run it stands."""

    epoch: int
    position: int  # within the epoch
    index: int  # of the source


class TrainingSampler(Sampler[SampleKey]):
    """Keys without end: every epoch a new permutation of all indices.

    Positions are dealt to `world_size` ranks in turn. `start` is the number of samples that all ranks
    together have consumed before: a resumed run continues with the sample after them.
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


class ReplacingDataset(SeededDataset):
    """As `SeededDataset`, with another sample in the place of a broken one; it fails after `TRIES` more."""

    def __getitem__(self, key: SampleKey) -> Any:
        messages: list[str] = []
        place = Place(self.seed, key.epoch * len(self.source) + key.position)
        for attempt, (index, rng) in enumerate(self._draws(key)):
            try:
                # What stands in for a broken sample is made anew: what that used may be what is broken.
                made_anew = attempt > 0
                sample = self.source.sample(index, rng) if made_anew else sample_at(self.source, place, index, rng)
            except BREAKS as error:
                messages.append(one_line(error))
            else:
                return Replacement(sample, tuple(messages)) if messages else sample
        return SampleFailure(messages[-1])

    def _draws(self, key: SampleKey) -> Iterator[tuple[int, np.random.Generator]]:
        """The index and generator of the key's own sample, then those of the samples to try in its place."""
        yield key.index, np.random.default_rng([self.seed, key.epoch, key.position])
        for attempt in range(1, TRIES + 1):
            # The fifth word keeps these streams apart from the permutations' (seed, epoch, 0, 1).
            rng = np.random.default_rng([self.seed, key.epoch, key.position, attempt, 1])
            yield int(rng.integers(len(self.source))), rng


def _start_worker(_worker_id: int, stopping: Any) -> None:
    """Leave signals, which go to a whole group, to the main process; what it sends itself comes while `stopping`."""
    # The workers are the parallelism; threads of their own would only compete.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if stopping.value else None)


class Loader:
    """Iterates over batches; a sample that failed in a worker raises its `UserError` here, in one line.

    Broken samples that others replaced are logged and counted; too many raise a `UserError`.
    """

    def __init__(self, collate: Collate, **options: Any) -> None:
        """`options` are those of a `DataLoader`."""
        self._count = BrokenCount()
        self._stopping = multiprocessing.RawValue(ctypes.c_bool, False)  # seen by the workers
        self._batches = DataLoader(
            collate_fn=CollateOrFail(collate),
            worker_init_fn=partial(_start_worker, stopping=self._stopping),
            generator=torch.Generator(),  # else each loader would draw from the run's own random state
            **options,
        )

    @property
    def seen(self) -> int:
        """Samples looked at so far, the broken ones included."""
        return self._count.seen

    @property
    def broken(self) -> int:
        """Samples so far that others replaced."""
        return self._count.broken

    def __len__(self) -> int:
        """Number of batches; only a test loader has one."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        self._stopping.value = False
        made = self._made(self._started())
        # What comes from workers waits for their interpreters, several milliseconds a batch; torch pins in a thread.
        by_thread = self._batches.num_workers > 0 and not self._batches.pin_memory
        return self._counted(read_ahead(made, READ_AHEAD) if by_thread else made)

    def _started(self) -> Iterator[Any]:
        """torch's iterator, without its signal handler: that would raise amid a step where a worker is lost."""
        handler = signal.getsignal(signal.SIGCHLD)
        batches = iter(self._batches)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL if handler is None else handler)
        return batches

    def _made(self, batches: Iterator[Any]) -> Generator[Collated | SampleFailure, None, None]:
        """What workers report; they are ended with this iteration."""
        stop = partial(setattr, self._stopping, "value", True)
        # A process may leave while something holds this iterator: then a signal is all that ends the workers.
        atexit.register(stop)
        try:
            yield from batches
        except (RuntimeError, EOFError, ConnectionError) as error:
            if isinstance(error, RuntimeError) and not LOST.search(str(error)):
                raise
            raise LostWorkerError(
                "a process that prepares samples was killed (out of memory?); start again with fewer of them"
            ) from error
        finally:
            stop()
            del batches  # torch shuts its workers down
            atexit.unregister(stop)

    def _counted(self, collated: Generator[Collated | SampleFailure, None, None]) -> Generator[Any, None, None]:
        """The batches in what came; the samples in it are counted, and a failure is raised."""
        with closing(collated):
            for made in collated:
                if isinstance(made, SampleFailure):
                    raise UserError(made.message)
                self._count.add(made.seen, made.messages)
                yield made.batch


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
        collate,
        dataset=ReplacingDataset(source, seed),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=pin_memory,
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
        collate,
        dataset=SeededDataset(source, seed=0),
        batch_size=batch_size,
        sampler=SequentialSampler(len(source), rank, world_size),
        num_workers=num_workers,
    )
