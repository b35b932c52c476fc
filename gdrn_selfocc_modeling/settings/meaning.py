"""Which settings give weights their meaning, which steer a training, and which do neither.

Two networks with other meanings may have tensors of the same names and shapes: colours in another order, a rotation
in another frame. So what a checkpoint says of its settings is compared before its weights are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sopose.core.config.check import leaf_keys
from sopose.core.utils.errors import UserError
from sopose.settings.load import keys_without_effect

MOST_CHANGES = 4
NET = "MODEL.POSE_NET"
MEANING = ("INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", f"{NET}.*")
# Of the network's keys those that matter while it learns alone.
LEARNING = (
    *(f"{NET}.*.{key}" for key in ("FREEZE", "FREEZE_AT", "FREEZE_DEPTHWISE", "LR_MULT", "MIN_Q0_REGION")),
    *(f"{NET}.*.INIT_CFG.{key}" for key in ("DROP_PROB", "DROPBLOCK_SIZE", "LINEAR_INIT")),
    f"{NET}.USE_MTL",
    f"{NET}.LOSS_CFG.*",
)
# Losses that say what an output is: of one shape are masks as values and as logits, of the whole and the visible part.
DEFINING = tuple(f"{NET}.LOSS_CFG.{key}" for key in ("XYZ_LOSS_TYPE", "MASK_LOSS_TYPE", "MASK_LOSS_GT"))
# Neither: where things are, what is written, how the network is tested. Objects, with their number, seed and precision
# are facts.
FREE = (
    *("OUTPUT_DIR", "EXP_NAME", "SEED", "CPU_THREADS", "CUDNN_BENCHMARK", "VIS_PERIOD"),
    *("DATALOADER.NUM_WORKERS", "SOLVER.CHECKPOINT_*", "SOLVER.MAX_TO_KEEP", "SOLVER.BEST_METRIC", "SOLVER.AMP.*"),
    *("TRAIN.PRINT_FREQ", "TRAIN.MAX_SKIPPED", "VAL.*", "TEST.*"),
    *("MODEL.DEVICE", "MODEL.COMPILE", "MODEL.WEIGHTS", "MODEL.START"),
    "MODEL.REFINE.*",  # of another network
    *("DATASETS.ROOT", "DATASETS.OBJS", "DATASETS.TEST", "DATASETS.DET_*", "DATASETS.SYM_OBJS", "DATASETS.INIT_POSE_*"),
    *(
        f"{NET}.NUM_CLASSES",
        f"{NET}.*.MASK_THR_TEST",
        f"{NET}.BACKBONE.PRETRAINED",
        f"{NET}.BACKBONE.INIT_CFG.PRETRAINED",
    ),
)


@dataclass(frozen=True)
class Change:
    """A key that had another value before."""

    key: str
    before: Any
    now: Any
    of_meaning: bool  # else it steers a training

    def __str__(self) -> str:
        return f"{self.key}={_short(self.before)}, now {_short(self.now)}"


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """What differs between two plain settings (see `plain_settings`), but for what changes nothing.

    Keys that one of them lacks are those of another version and left out, and so is what belongs to a part of the
    network that is off in both.
    """
    was, values = ({key.upper(): value for key, value in leaf_keys(settings)} for settings in (before, now))
    off = [
        key.removesuffix("ENABLED")
        for key, value in values.items()
        if key.endswith(".ENABLED") and value is False and was.get(key) is False
    ]
    idle = {*keys_without_effect()}
    return [
        Change(key, was[key], value, _has_meaning(key))
        for key, value in values.items()
        if key in was and was[key] != value
        if not (key in idle or _matches(key, FREE) or key.startswith(tuple(off)))
    ]


def require_meaning(before: Mapping[str, Any], now: Mapping[str, Any], path: Path, otherwise: str = "") -> None:
    """`UserError` where plain settings `now` give the weights of `path`, trained with `before`, another meaning.

    `otherwise` is what to do beside setting it back.
    """
    changes = [str(change) for change in changed_settings(before, now) if change.of_meaning]
    if changes:
        more = len(changes) - MOST_CHANGES
        listed = "; ".join([*changes[:MOST_CHANGES], *([f"and {more} more"] if more > 0 else [])])
        raise UserError(
            f"{path} was trained with {listed}: its weights mean something else then; set it back{otherwise}"
        )


def _has_meaning(key: str) -> bool:
    return _matches(key, DEFINING) or (_matches(key, MEANING) and not _matches(key, LEARNING))


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _short(value: Any) -> str:
    text = "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
