"""What a run needs of its machine: device and seeds."""

from __future__ import annotations

import logging
import random

import numpy as np
import torch

from sopose.core.engine.distributed import launched_world, local_rank
from sopose.core.utils.errors import UserError

logger = logging.getLogger(__name__)


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


def seed_everything(seed: int) -> int:
    """Seed Python, numpy and torch with `seed`, or with a drawn one where it is negative; the seed used."""
    if seed >= 2**32:
        raise UserError(f"SEED must be below 2**32, got {seed}; choose a smaller one")
    if seed < 0:
        seed = int(np.random.SeedSequence().generate_state(1)[0]) % 2**31
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return seed
