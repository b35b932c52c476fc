"""Sources of samples: what a training or a test draws from, joined and mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sopose.core.data.replay import Place
from sopose.core.utils.errors import UserError


class SampleSource(Protocol):
    """Something that makes samples."""

    def __len__(self) -> int:
        """Number of samples in an epoch."""

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        """Sample `index` (0 <= index < len), all of its randomness drawn from `rng`."""


@runtime_checkable
class PlacedSource(Protocol):
    """A `SampleSource` whose training samples depend on where in the run they stand as well."""

    def sample_at(self, place: Place, index: int, rng: np.random.Generator) -> Any:
        """As `SampleSource.sample`, for the sample at a place."""


def sample_at(source: SampleSource, place: Place, index: int, rng: np.random.Generator) -> Any:
    """The sample of a source at a place of a run."""
    return source.sample_at(place, index, rng) if isinstance(source, PlacedSource) else source.sample(index, rng)


class JoinedSource:
    """Several sources one after another."""

    def __init__(self, sources: Sequence[SampleSource]) -> None:
        self.sources = list(sources)
        self._ends = np.cumsum([len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sample(self, index: int, rng: np.random.Generator) -> Any:
        source, own = self._chosen(index)
        return source.sample(own, rng)

    def sample_at(self, place: Place, index: int, rng: np.random.Generator) -> Any:
        source, own = self._chosen(index)
        return sample_at(source, place, own, rng)

    def _chosen(self, index: int) -> tuple[SampleSource, int]:
        """The source of an index, and its own index."""
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[which], index - (int(self._ends[which - 1]) if which else 0)


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
        source, own = self._chosen(index, rng)
        return source.sample(own, rng)

    def sample_at(self, place: Place, index: int, rng: np.random.Generator) -> Any:
        source, own = self._chosen(index, rng)
        return sample_at(source, place, own, rng)

    def _chosen(self, index: int, rng: np.random.Generator) -> tuple[SampleSource, int]:
        """One of the two, and the index in it."""
        if rng.random() < self.ratio:
            return self.second, int(rng.integers(len(self.second)))
        return self.first, index


def mixed_sources(
    make: Callable[[str], SampleSource], names: Sequence[str], others: Sequence[str], ratio: float
) -> SampleSource:
    """The sources of `names` joined, mixed by `ratio` with those of `others` (DATASETS.TRAIN, TRAIN2, TRAIN2_RATIO).

    make: the source of a name; it isn't called for others that are never drawn.
    """

    def joined(chosen: Sequence[str]) -> SampleSource:
        sources = [make(name) for name in chosen]
        return sources[0] if len(sources) == 1 else JoinedSource(sources)

    first = joined(names)
    return MixedSource(first, joined(others), ratio) if others and ratio != 0 else first
