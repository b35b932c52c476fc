"""Work shared out to the processes of `torch.distributed`; a single process is the only one.

`torchrun` starts the processes and gives each its rank in environment variables; where one ends with an error, it
ends the others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sopose.core.utils.errors import UserError

logger = logging.getLogger(__name__)
# The first rank scores alone while the others wait for it in the next step.
TIMEOUT = timedelta(hours=2)


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


def launched_world() -> World:
    """The world that `torchrun` says this process is part of, before anything is initialised."""
    return World(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def local_rank() -> int:
    """The number of this process among those of its machine, as `torchrun` counts them."""
    return int(os.environ.get("LOCAL_RANK", 0))


def select_device(name: str) -> torch.device:
    """The device called `name` ("cuda", "cuda:1", "cpu"); the CPU, with a warning, where there is no such GPU.

    Of several processes that torchrun started, each gets the GPU of its own number.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"MODEL.DEVICE: '{name}' is no device; use cuda, cuda:1 or cpu") from error
    if device.type not in ("cuda", "cpu"):
        raise UserError(f"MODEL.DEVICE: '{name}' is not supported; use cuda, cuda:1 or cpu")
    if device.type == "cuda" and launched_world().size > 1:
        device = torch.device("cuda", local_rank())
        if 0 < torch.cuda.device_count() <= local_rank():
            raise UserError(
                f"process {local_rank() + 1} of this machine has no GPU, there are {torch.cuda.device_count()}; start "
                "torchrun with --nproc-per-node of at most as many"
            )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        logger.warning("MODEL.DEVICE=%s: no such GPU here (%d found), using the CPU", name, torch.cuda.device_count())
        return torch.device("cpu")
    return device


@contextmanager
def process_group(device: torch.device) -> Iterator[World]:
    """The process group of a run on `device`: NCCL between GPUs, Gloo between CPUs; nothing for a single process."""
    if launched_world().size == 1 or current_world().size > 1:  # alone, or a group that is there already
        yield current_world()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    yield current_world()
    # After an error nobody waits: the process ends, and torchrun ends the others.
    dist.destroy_process_group()


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of every rank's `values`, of equal shape; without gradient. A single process gets its own back."""
    if current_world().size == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def of_all_ranks(value: Any) -> list[Any]:
    """Every rank's `value` (tensors and plain values), in the order of ranks."""
    world = current_world()
    if world.size == 1:
        return [value]
    values: list[Any] = [None] * world.size
    dist.all_gather_object(values, value)
    return values


def take_buffers_of_first(model: nn.Module) -> None:
    """Give every rank's `model` the first rank's buffers: batch statistics are of each rank's own batches."""
    if current_world().size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


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
    joined[mine, -1] = 1  # how many ranks gave the row
    if world.size > 1:
        joined = joined.to(device)
        dist.all_reduce(joined)
        joined = joined.cpu()
    if not bool((joined[:, -1] == 1).all()):
        raise RuntimeError(f"of {count} rows {int((joined[:, -1] != 1).sum())} came from no rank or from several")
    return joined[:, :-1]
