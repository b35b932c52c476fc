"""What became of the tensors when weights met a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sopose.core.utils.errors import printable

Shape = tuple[int, ...]
MOST_NAMES = 4  # names or groups of names listed for each kind
MOST_SHAPES = 2


@dataclass(frozen=True)
class LoadReport:
    """Names of a network's tensors by what a file gave for them, and of what else the file holds.

    `matched`, `missing` and `reshaped` are names of the network and together all of them; a tensor with two names is
    in one of them under both, and a norm's counter of batches that the file lacks is in none. `left_over` are names of
    the file. `reshaped` has the shape given and the one wanted.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    reshaped: Mapping[str, tuple[Shape, Shape]]

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network was given."""
        return not self.missing and not self.reshaped

    def differences(self) -> list[str]:
        """A phrase for each kind of name that didn't match: how many, of which modules."""
        parts = []
        if self.missing:
            parts.append(f"missing {by_module(self.missing)}")
        if self.reshaped:
            shapes = [f"{name} {given} instead of {wanted}" for name, (given, wanted) in self.reshaped.items()]
            few = shapes if len(shapes) <= MOST_SHAPES else [by_module(self.reshaped), f"the first {shapes[0]}"]
            parts.append(f"of another shape {', '.join(few)}")
        if self.left_over:
            parts.append(f"left over {by_module(self.left_over)}")
        return parts

    def summary(self) -> str:
        """How many tensors were loaded, then a line for each difference."""
        total = len(self.matched) + len(self.missing) + len(self.reshaped)
        return "\n  ".join([f"{len(self.matched)} of {total} tensors loaded", *self.differences()])


def by_module(names: Iterable[str]) -> str:
    """Names counted by their first part: "24 of geo_head_net, 3 of pnp_net"; a single one is given in full."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.partition(".")[0], []).append(name)
    return _first([group[0] if len(group) == 1 else f"{len(group)} of {module}" for module, group in groups.items()])


def _first(names: list[str]) -> str:
    rest = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return printable(", ".join(names[:MOST_NAMES] + rest))
