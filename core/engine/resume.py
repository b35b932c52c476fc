"""Resuming a run: from the iteration of its newest whole checkpoint, by the learning rates that are given now."""

from __future__ import annotations

import logging

from torch.optim.lr_scheduler import LRScheduler

from sopose.core.engine.checkpointer import Checkpointer
from sopose.core.engine.distributed import of_all_ranks
from sopose.core.solver.schedules import set_base_rates
from sopose.core.utils.errors import UserError

logger = logging.getLogger(__name__)


def resume_run(checkpointer: Checkpointer, schedule: LRScheduler) -> int:
    """The iteration to continue from, the same for all ranks, with all states loaded; rates are `schedule`'s now.

    Raises `UserError` as `Checkpointer.resume` does, and where the ranks see different folders.
    """
    rates = list(schedule.base_lrs)
    iteration = checkpointer.resume()
    seen = of_all_ranks(iteration)
    if len(set(seen)) > 1:
        raise UserError(
            f"the processes would continue from iterations {seen}: {checkpointer.folder} is not the same folder for "
            "all; name one that every machine sees"
        )
    if rates != list(schedule.base_lrs):
        logger.warning("continuing with other learning rates: %s, before %s", rates, list(schedule.base_lrs))
        set_base_rates(schedule, rates)
    return iteration
