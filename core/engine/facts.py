"""What files of weights say beside their tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

FACTS = "facts"


def checkpoint_facts(state: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that were written beside the weights; empty where there are none."""
    facts = state.get(FACTS)
    return dict(facts) if isinstance(facts, Mapping) else {}


def plain_facts(state: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says beside its tensors: its facts (or "meta") and single values such as its iteration.

    Only what json can hold; the state of optimizers and schedules is not among it.
    """
    single = {key: value for key, value in state.items() if isinstance(value, bool | int | float | str)}
    groups = [group for group in (state.get("meta"), state.get(FACTS)) if isinstance(group, Mapping)]
    facts: dict[str, Any] = {}
    for key, value in (item for group in (*groups, single) for item in group.items()):
        try:
            if isinstance(key, str):
                facts[key] = json.loads(json.dumps(value))
        except (TypeError, ValueError, RecursionError):
            continue
    return facts
