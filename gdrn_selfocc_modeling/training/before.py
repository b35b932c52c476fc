"""What a resumed run was before: facts that its last checkpoint holds and that it continues with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import of_all_ranks
from sopose.core.engine.facts import checkpoint_facts
from sopose.core.utils.errors import UserError
from sopose.inference.agreement import changes_since, recorded_objects, recorded_settings, require_same_models
from sopose.inference.checkpoint_facts import MODELS, SETTINGS
from sopose.settings.meaning import require_meaning

logger = logging.getLogger(__name__)
SEED = "seed"
SAMPLES = "samples"  # of an epoch
PRECISION = "precision"  # the type that the run computes in


def facts_before(output: Path) -> dict[str, Any]:
    """What the last checkpoint of a run's folder says of it; empty where there is none."""
    last = last_checkpoint(output)
    return {} if last is None else checkpoint_facts(read_checkpoint(last))


def run_seed(given: int, before: Mapping[str, Any]) -> int:
    """SEED; where it is to be drawn, a run continues with the one it had `before`, and all ranks with the same."""
    if given >= 0:
        return given
    known = before.get(SEED)
    drawn = np.random.SeedSequence().generate_state(1)[0] % 2**31
    return known if isinstance(known, int) else int(of_all_ranks(int(drawn))[0])


def require_same_run(before: Mapping[str, Any], now: Mapping[str, Any], output: Path) -> None:
    """Compare what a run's checkpoint holds with the facts it would continue with.

    Raises `UserError` where the weights would get another meaning: other objects or sizes of them, another input,
    output or parametrisation. What only changes the course of the training is warned of, in one line each.
    """
    anew = ", or train anew in another OUTPUT_DIR"
    known, wanted = recorded_objects(before), recorded_objects(now)
    if known and known != wanted:
        raise UserError(
            f"the run in {output} learns {', '.join(known)}, in this order, and would continue with "
            f"{', '.join(wanted)}: its classes would change their names; set DATASETS.OBJS=[{','.join(known)}]{anew}"
        )
    require_meaning(recorded_settings(before), now[SETTINGS], output, anew)
    require_same_models(before, now[MODELS], output)
    for change in changes_since(before, now[SETTINGS]):
        logger.warning("continuing with another setting: before %s", change)
    for fact, name in ((SEED, "SEED"), (SAMPLES, "samples an epoch")):
        if fact in before and before[fact] != now.get(fact):
            logger.warning("continuing with another number: before %s %s, now %s", name, before[fact], now.get(fact))
