"""A run's checkpoints on disk: written whole, with a checksum each, the newest few and the best one kept.

`model_%07d.pth` is the state after so many iterations, `<name>.sha256` its checksum, `last_checkpoint` the name of the
newest whole one, `best.pth` a copy of the best by a metric and `best.json` its score.
"""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from sopose.core.engine.checkpoint import load_weights, model_weights, read_checkpoint
from sopose.core.engine.distributed import current_world, of_all_ranks
from sopose.core.engine.integrity import checksum, checksum_path, contradiction
from sopose.core.engine.random_state import RandomState
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import atomic_path, read_json, write_json, write_text

logger = logging.getLogger(__name__)
LAST, PATTERN, BEST = "last_checkpoint", "model_*.pth", "best.pth"
RANDOM = "random"  # key of the random states in a checkpoint
KINDS = "kinds"  # key of the names of the parts' classes


class Stateful(Protocol):
    """What a checkpoint holds: anything with a state of tensors and plain values."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Checkpointer:
    """Saves `model` and `parts` to `folder`, keeps the last `keep` and the best, and resumes from the newest whole one.

    `facts` are plain values written beside the weights, such as the objects' names. In a distributed run all ranks
    save together: the first one writes, with the random states of all.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        parts: Mapping[str, Stateful],
        facts: Mapping[str, Any] | None = None,
        keep: int = 5,
    ) -> None:
        self.folder = Path(folder)
        self.model = model
        self.parts = dict(parts)
        self.facts = dict(facts or {})
        self.keep = keep
        self._saved: int | None = None  # the iteration that was written last

    def save(self, iteration: int) -> Path:
        """Write the state after `iteration` steps, then point `last_checkpoint` to it and drop old ones.

        What was written for this iteration already is left. Raises `UserError` where the disk is full; what was there
        before is whole then.
        """
        path = self.folder / f"model_{iteration:07d}.pth"
        if self._saved == iteration:
            return path
        random_states = of_all_ranks(RandomState().state_dict())
        if current_world().is_first:
            self._write(path, iteration, random_states)
        self._saved = iteration
        return path

    def _write(self, path: Path, iteration: int, random_states: list[dict[str, Any]]) -> None:
        state = {"iteration": iteration, "facts": self.facts, "model": self.model.state_dict()}
        state |= {name: part.state_dict() for name, part in self.parts.items()}
        state[RANDOM] = random_states
        state[KINDS] = self._kinds()
        _write_state(path, state)
        write_text(self.folder / LAST, path.name + "\n")
        for old in sorted(self.folder.glob(PATTERN))[: -self.keep or None]:
            if old != path:
                old.unlink()
                checksum_path(old).unlink(missing_ok=True)

    def keep_best(self, iteration: int, metric: str, value: float) -> bool:
        """Keep the checkpoint of an iteration as the best where its `value` of `metric` is the largest so far.

        A best one by another metric, or without a score, is replaced. False where it is not the best, or has no file.
        """
        source, target = self.folder / f"model_{iteration:07d}.pth", self.folder / BEST
        score = _best_score(self.folder)
        better = score.get("metric") != metric or not target.is_file() or value > score["value"]
        if not (better and source.is_file()):
            return False
        for old, new in ((source, target), (checksum_path(source), checksum_path(target))):
            with atomic_path(new) as beside:
                _link_or_copy(old, beside)
        write_json(_score_path(self.folder), {"metric": metric, "value": value, "iteration": iteration})
        return True

    def _kinds(self) -> dict[str, str]:
        return {name: type(part).__name__ for name, part in self.parts.items()}

    def _require_kinds(self, kinds: Any, path: Path) -> None:
        """`UserError` where a part was of another class: its state would fit, and fail later."""
        for name, kind in self._kinds().items():
            was = kinds.get(name, kind) if isinstance(kinds, dict) else kind
            if was != kind:
                raise UserError(f"{path}: the {name} was {was} and is {kind} now; keep it, or start from MODEL.WEIGHTS")

    def resume(self) -> int:
        """Load the newest whole checkpoint, random states too, and return its iteration; 0 where there is none.

        Damaged ones are passed over with a warning. Raises `UserError` where all are damaged, or where the newest
        whole one is of another run.
        """
        path = last_checkpoint(self.folder)
        if path is None:
            return 0
        state = read_checkpoint(path)
        self._require_kinds(state.get(KINDS), path)
        load_weights(self.model, model_weights({"model": state.get("model", {})}, path), path)
        for name, part in self.parts.items():
            if name not in state:
                raise UserError(f"{path} has no '{name}' to resume from; start from its weights with MODEL.WEIGHTS")
            try:
                part.load_state_dict(state[name])
            except Exception as error:  # a state is whatever the file holds
                reason = " ".join(str(error).split())
                raise UserError(f"{path}: the state of '{name}' is of another run ({reason})") from error
        if not isinstance(state.get("iteration"), int):
            raise UserError(f"{path} doesn't state its iteration; start from its weights with MODEL.WEIGHTS")
        _restore_random_state(state.get(RANDOM), path)
        self._saved = state["iteration"]
        return state["iteration"]


def _restore_random_state(states: Any, path: Path) -> None:
    """This rank's of the random states in a checkpoint; a warning where that has none for it."""
    world = current_world()
    states = [states] if isinstance(states, dict) else states  # an older version's, of its only process
    if states and len(states) == world.size:
        RandomState().load_state_dict(states[world.rank])
        return
    was = f"of {len(states)} processes" if states else "of an older version without random states"
    logger.warning("%s is %s; what is drawn at random differs", path, was)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run's folder; None in a folder without any.

    The one that `last_checkpoint` names comes first, then the others from the newest on. Damaged ones are passed over
    with a warning; `UserError` where there are only such.
    """
    folder = Path(folder)
    present = sorted(folder.glob(PATTERN), reverse=True)
    pointer = folder / LAST
    if pointer.is_file():
        named = folder / pointer.read_text(encoding="utf-8", errors="replace").strip()
        if named in present:
            present.remove(named)
            present.insert(0, named)
    for path in present:
        damage = find_damage(path)
        if damage is None:
            return path
        logger.warning("%s is damaged (%s); trying the one before", path, damage)
    if present:
        names = ", ".join(path.name for path in present)
        raise UserError(f"no checkpoint in {folder} is whole ({names}); start again in another OUTPUT_DIR")
    return None


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file; None for a whole one.

    Its checksum decides; one without (written elsewhere, or killed before it had one) is read.
    """
    try:
        damage = contradiction(path)
        if damage is None and not checksum_path(path).is_file():
            read_checkpoint(path)
    except (UserError, OSError, zipfile.BadZipFile) as error:
        return str(error)
    return damage


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    """The checkpoint and its checksum; a file of that name loses its old checksum first."""
    with atomic_path(path) as beside:
        try:
            torch.save(dict(state), beside)
        except RuntimeError as error:  # torch's writer doesn't say what the system said
            full = shutil.disk_usage(beside.parent).free < 2**20
            reason = "the disk is full" if full else " ".join(str(error).split())[:80]
            raise UserError(f"{path} cannot be written ({reason}); make room and continue with --resume") from error
        digest = checksum(beside)
        checksum_path(path).unlink(missing_ok=True)
    write_text(checksum_path(path), digest + "\n")


def _link_or_copy(source: Path, target: Path) -> None:
    """The same content under another name; a link where the file system has them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _score_path(folder: Path) -> Path:
    return folder / "best.json"


def _best_score(folder: Path) -> dict[str, Any]:
    """What `best.json` says; empty where it is missing or damaged."""
    try:
        score = read_json(_score_path(folder))
    except UserError:
        return {}
    has_value = isinstance(score, dict) and isinstance(score.get("value"), (int, float))
    return score if has_value else {}
