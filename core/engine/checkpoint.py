"""Checkpoints: written whole, opened without unpickling anything but tensors."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import Tensor, nn

from core.utils.errors import UserError
from core.utils.files import atomic_path, require_file, write_text

logger = logging.getLogger(__name__)
LAST = "last_checkpoint"


class Stateful(Protocol):
    """What a checkpoint holds: anything with a state of tensors and plain values."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Checkpointer:
    """Saves `model` and `parts` to `folder/model_%07d.pth`, keeps the last `keep` and names the newest.

    `facts` are plain values written beside the weights, such as the objects' names.
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

    def save(self, iteration: int) -> Path:
        """Write the state after `iteration` steps, then point `last_checkpoint` to it and drop old ones."""
        path = self.folder / f"model_{iteration:07d}.pth"
        state = {"iteration": iteration, "facts": self.facts, "model": self.model.state_dict()}
        state |= {name: part.state_dict() for name, part in self.parts.items()}
        with atomic_path(path) as beside:
            torch.save(state, beside)
        write_text(self.folder / LAST, path.name + "\n")
        for old in sorted(self.folder.glob("model_*.pth"))[: -self.keep or None]:
            if old != path:
                old.unlink()
        return path

    def resume(self) -> int:
        """Load the newest checkpoint and return its iteration; 0 where the folder has none."""
        path = last_checkpoint(self.folder)
        if path is None:
            return 0
        state = read_checkpoint(path)
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
            raise UserError(f"{path} doesn't tell its iteration; start from its weights with MODEL.WEIGHTS")
        return state["iteration"]


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that `last_checkpoint` names, or the newest there is; None in a folder without any."""
    pointer = Path(folder) / LAST
    if pointer.is_file():
        path = pointer.parent / pointer.read_text(encoding="utf-8", errors="replace").strip()
        if path.is_file():
            return path
    present = sorted(Path(folder).glob("model_*.pth"))
    return present[-1] if present else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a .pth (tensors and plain values only) or .safetensors file, on the CPU.

    Raises `UserError` where the file is missing, damaged, or holds pickled objects.
    """
    path = require_file(path, "give the path of a .pth or .safetensors checkpoint")
    try:
        if path.suffix == ".safetensors":
            return {"model": safetensors.torch.load_file(path)}
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is damaged, no checkpoint, or holds Python objects, which are not opened for safety; "
            f"give another, or save its weights alone as safetensors"
        ) from error
    except Exception as error:  # whatever the reader stumbles over, the file is at fault
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is damaged or no checkpoint ({reason}); give another checkpoint") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, wanted a dictionary of weights; give a checkpoint")
    return state


def model_weights(state: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights inside a checkpoint: its moving average if it has one, else its model, else the file itself."""
    parts = [state.get(name) for name in ("ema_model", "model", "state_dict")]
    weights = next((part for part in parts if isinstance(part, Mapping) and part), state)
    weights = {
        name.removeprefix("_module.").removeprefix("module."): value
        for name, value in weights.items()
        if isinstance(name, str) and isinstance(value, Tensor) and name != "n_averaged"
    }
    if not weights:
        raise UserError(f"{path} holds no weights; give a checkpoint of this network")
    return weights


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Copy `weights` into `model`; `UserError` where names or shapes are those of another network.

    A tensor the model knows under two names may be given under one of them, as safetensors stores it.
    """
    own = model.state_dict()
    given = {own[name].data_ptr() for name in own if name in weights}
    missing = [name for name in own if name not in weights and own[name].data_ptr() not in given]
    unknown = [name for name in weights if name not in own]
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if missing or unknown or shapes:
        parts = [
            f"{len(names)} {kind} ({names[0]}{', …' if len(names) > 1 else ''})"
            for kind, names in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
            if names
        ]
        raise UserError(
            f"{path} is a checkpoint of another network: tensors {'; '.join(parts)}; use the configuration it was "
            f"trained with"
        )
    model.load_state_dict(dict(weights), strict=False)


def save_weights(model: nn.Module, path: Path, facts: Mapping[str, str] | None = None) -> None:
    """Weights alone as safetensors, each tensor once; `facts` go into the file's header."""
    with atomic_path(path) as beside:
        safetensors.torch.save_model(model, str(beside), metadata=dict(facts or {}))
