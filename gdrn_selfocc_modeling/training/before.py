"""What a run that is resumed was before: facts that its last checkpoint tells and that it goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.engine.checkpoint import FACTS, read_checkpoint
from sopose.core.engine.checkpointer import last_checkpoint
from sopose.core.engine.distributed import of_all_ranks

SEED = "seed"
PRECISION = "precision"  # the type that the run computes in


def facts_before(output: Path) -> dict[str, Any]:
    """What the last checkpoint of a run's folder says of it; empty where there is none."""
    last = last_checkpoint(output)
    facts = None if last is None else read_checkpoint(last).get(FACTS)
    return facts if isinstance(facts, dict) else {}


def run_seed(given: int, before: Mapping[str, Any]) -> int:
    """SEED; where it is to be drawn, a run goes on with the one it had `before`, and all ranks with the same."""
    if given >= 0:
        return given
    known = before.get(SEED)
    drawn = np.random.SeedSequence().generate_state(1)[0] % 2**31
    return known if isinstance(known, int) else int(of_all_ranks(int(drawn))[0])
