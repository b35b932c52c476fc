"""Work shared out to the processes of `torch.distributed`; a single process is the only one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """Which of how many processes this one is."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """This rank's part of `count` things: every `size`-th, as `SequentialSampler` deals them."""
        return range(self.rank, count, self.size)


def current_world() -> World:
    """The world of `torch.distributed`, where a process group was initialised."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size())


def join_shares(share: Tensor, count: int, world: World, device: torch.device) -> Tensor:
    """Rows (count, C) of all ranks in order, on the host of every rank, from each rank's own (n, C).

    `share` has the rows of `world.share(count)`. Raises `RuntimeError` where rows are missing or too many: a sum over
    ranks that held other rows would be a wrong number without a word.
    """
    mine = list(world.share(count))
    if len(share) != len(mine):
        raise RuntimeError(f"rank {world.rank} of {world.size} has {len(share)} rows and its share is {len(mine)}")
    joined = torch.zeros(count, share.shape[1] + 1, dtype=share.dtype)
    joined[mine, :-1] = share.cpu()
    joined[mine, -1] = 1  # how many ranks told the row
    if world.size > 1:
        joined = joined.to(device)
        dist.all_reduce(joined)
        joined = joined.cpu()
    if not bool((joined[:, -1] == 1).all()):
        raise RuntimeError(f"of {count} rows {int((joined[:, -1] != 1).sum())} came from no rank or from several")
    return joined[:, :-1]
