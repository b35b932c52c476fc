"""Checkpoints: written whole, opened without unpickling anything but tensors and plain values."""

from __future__ import annotations

import json
import logging
import pickle
import re
import zipfile
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from sopose.core.engine.facts import FACTS
from sopose.core.engine.integrity import contradiction, digest_of_tensors
from sopose.core.engine.load_report import LoadReport
from sopose.core.legacy.plain_numpy import PLAIN_NUMPY
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import atomic_path, require_file, require_unpackable

logger = logging.getLogger(__name__)
WEIGHT_KEYS = ("ema_model", "model", "state_dict")  # where checkpoints keep weights; the first one present is taken
WRAPPERS = ("_module.", "module.")  # what wrappers of a network put before its names
MAX_EXPANDED = 2**20  # bytes of a tensor that a file may hold as repetitions of fewer
COUNTER = "num_batches_tracked"  # of a norm; old files lack it, and nothing reads it
MOST_PACKED = 4  # times its size that a .pth may unpack to; torch packs nothing, and trained weights hardly shrink
PREFIXES = ("model.",)  # taken off a file's names that the model knows only without them
FITTING = "use the configuration it was trained with, or another checkpoint"
ITERATION = "iteration"
CHECKSUM = "weights_sha256"  # in a .safetensors file's metadata, of its tensors
# One module under two names: the second is what published weights call it by its kind.
NORM_NAMES = {"gn": "norm", "bn": "norm"}


def read_checkpoint(path: Path, remedy: str = "give another .pth or .safetensors checkpoint") -> dict[str, Any]:
    """The content of a .pth (tensors and plain values only) or .safetensors file, on the CPU.

    numpy's scalars come as plain numbers, its arrays without content. A .safetensors file gives "model" and "facts".
    Raises `UserError`, which ends in `remedy`, where the file is missing, damaged, or holds pickled objects.
    """
    path = require_file(path, remedy)
    try:
        if path.suffix == ".safetensors":
            _require_undamaged(contradiction(path))
            return _read_safetensors(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                require_unpackable(archive, MOST_PACKED * path.stat().st_size + MAX_EXPANDED)
        _require_undamaged(contradiction(path))
        with torch.serialization.safe_globals(PLAIN_NUMPY):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise UserError(f"{path} is not a file of weights, or damaged; {remedy}") from error
        raise UserError(
            f"{path} holds the Python object {refused[1]}, which is not opened for safety; where it was made, save "
            f"its weights alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except Exception as error:  # whatever the reader stumbles over, the file is at fault
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} is not a file of weights, or damaged ({reason}); {remedy}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds a {type(state).__name__}, wanted a dictionary of weights; {remedy}")
    return state


def _require_undamaged(damage: str | None) -> None:
    if damage is not None:
        raise ValueError(damage)


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in sorted(file.keys())}
        metadata = file.metadata() or {}
    if CHECKSUM in metadata and metadata[CHECKSUM] != digest_of_tensors(weights):
        raise ValueError("its weights differ from their checksum")
    weights |= {name: weights[kept] for name, kept in metadata.items() if kept in weights and name not in weights}
    try:
        facts = json.loads(metadata.get(FACTS, "{}"))
    except (ValueError, RecursionError):  # another writer's text of that name
        facts = {}
    return {"model": weights, FACTS: facts if isinstance(facts, dict) else {}}


def weights_key(state: Mapping[str, Any]) -> str | None:
    """Where a checkpoint keeps its weights: its moving average, else its model; None where it is the weights itself."""
    return next((key for key in WEIGHT_KEYS if isinstance(state.get(key), Mapping) and state[key]), None)


def model_weights(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights inside a checkpoint (see `weights_key`), without the prefixes of data-parallel wrappers.

    Whatever is no dense tensor is left aside. Raises `UserError` where nothing remains, or not all of it is finite.
    """
    key = weights_key(state)
    weights = {
        _unwrapped(name): value.detach()
        for name, value in (state if key is None else state[key]).items()
        if isinstance(name, str) and _is_dense(value) and name != "n_averaged"
    }
    if not weights:
        raise UserError(f"{path} holds no weights; give a checkpoint of this network")
    spoilt = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if spoilt:
        raise UserError(
            f"{path} has weights that are no finite numbers ({spoilt[0]}; {len(spoilt)} of {len(weights)} tensors): it "
            "is damaged, or its training went wrong; give another checkpoint"
        )
    return weights


def _unwrapped(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def _is_dense(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested)
    )


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    path: Path,
    partial: bool = False,
    prefixes: Sequence[str] = PREFIXES,
    remedy: str = FITTING,
) -> LoadReport:
    """Copy `weights` into `model` and log what matched; floats are converted to the model's own type.

    A tensor the model knows under two names may be given under one of them, as safetensors stores it; of two given
    the later in the model's order counts.

    Args:
        model: any network.
        weights: by name; tensors the model doesn't have are left over.
        path: where they are from, for messages.
        partial: keep what fits; else every tensor of the model has to be given.
        prefixes: taken off names that the model knows only without them.
        remedy: what to do about weights that don't fit.

    Raises:
        UserError: a tensor is missing or of another shape (not `partial`), or none matched.
    """
    taken, report = _matched(model, weights, path, partial, prefixes, remedy)
    model.load_state_dict(taken, strict=False)
    logger.log(logging.INFO if report.complete else logging.WARNING, "%s: %s", path, report.summary())
    return report


def compare_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> LoadReport:
    """What of `weights` fits; nothing is copied, so that `model` may be on torch's meta device.

    Raises `UserError` where nothing fits.
    """
    return _matched(model, weights, path, partial=True, prefixes=PREFIXES, remedy=FITTING)[1]


def require_fitting_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Raises as `load_weights` would; nothing is copied, so that `model` may be on torch's meta device."""
    _matched(model, weights, path, partial=False, prefixes=PREFIXES, remedy=FITTING)


def _matched(
    model: nn.Module, weights: Mapping[str, Tensor], path: Path, partial: bool, prefixes: Sequence[str], remedy: str
) -> tuple[dict[str, Tensor], LoadReport]:
    """The weights by the model's names, and what matched; see `load_weights`."""
    own = model.state_dict()
    names = {name: _name_in(own, name, weights, prefixes) for name in weights}
    given = {own_name: weights[name] for name, own_name in names.items() if own_name in own}
    sources = _sources(own, given)
    taken = {name: given[source] for name, source in sources.items() if given[source].shape == own[name].shape}
    report = LoadReport(
        matched=tuple(taken),
        missing=tuple(name for name in own if name not in sources and not name.endswith(COUNTER)),
        left_over=tuple(name for name, own_name in names.items() if own_name not in own),
        reshaped={
            name: (tuple(given[source].shape), tuple(own[name].shape))
            for name, source in sources.items()
            if name not in taken
        },
    )
    if not taken and not report.reshaped:
        held, wanted = (", ".join([*tensors][:3]) for tensors in (weights, own))
        raise UserError(
            f"{path} does not fit, being of another network: its first tensors are {held}, wanted were {wanted}; "
            f"{remedy}"
        )
    if not taken or not (partial or report.complete):
        differences = "; ".join(report.differences())
        raise UserError(f"{path} does not fit, being of another network: {differences}; {remedy}")
    return taken, report


def _name_in(own: Mapping[str, Tensor], name: str, weights: Mapping[str, Tensor], prefixes: Sequence[str]) -> str:
    """The model's name for the file's `name`: itself, or without the first prefix after which it fits."""
    shorter = (name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix))
    fitting = (candidate for candidate in shorter if candidate in own and candidate not in weights)
    return name if name in own else next(fitting, name)


def _sources(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, str]:
    """For the model's names, the given name to load from: the last of the same tensor, of the right shape if any is."""
    last: dict[Hashable, str] = {}
    for name, value in own.items():
        if name in given and (given[name].shape == value.shape or _memory(name, value) not in last):
            last[_memory(name, value)] = name
    places = {name: _memory(name, value) for name, value in own.items()}
    return {name: last[place] for name, place in places.items() if place in last}


def _memory(name: str, value: Tensor) -> Hashable:
    """The same for two names of one tensor; empty tensors have no address and are compared by name."""
    place = value.untyped_storage()._cdata, value.storage_offset()  # a tensor on the meta device has no address
    return (*place, value.dtype, value.shape, value.stride()) if value.numel() else name


def unique_tensors(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, under the last of its names; and its other names -> that name.

    One tensor are names that share memory, and the `norm` and `gn` (or `bn`) of a module with the same bits.
    """
    aliases: dict[str, str] = {}
    places: dict[Hashable, str] = {}
    norms: dict[str, str] = {}
    for name in reversed(weights):
        twin = places.setdefault(_memory(name, weights[name]), name)
        if twin == name:
            other = norms.setdefault(".".join(NORM_NAMES.get(part, part) for part in name.split(".")), name)
            twin = other if _same_bits(weights[other], weights[name]) else name
        if twin != name:
            aliases[name] = aliases.get(twin, twin)
    return {name: value for name, value in weights.items() if name not in aliases}, aliases


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(value.contiguous().flatten().view(torch.uint8) for value in (one, other)))


def save_weights(weights: Mapping[str, Tensor], path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Weights and `facts` (plain values) alone: as .safetensors, each tensor once, or as .pth under all its names.

    In safetensors, facts are json under "facts" of the file's metadata, beside second names -> stored names.
    Raises `UserError` where the file cannot be written or a tensor is a few numbers blown up.
    """
    facts = dict(facts or {})
    for name, value in weights.items():
        if value.numel() * value.element_size() > max(value.untyped_storage().nbytes(), MAX_EXPANDED):
            raise UserError(f"{name} repeats few numbers to the shape {tuple(value.shape)}; give weights of a network")
    with atomic_path(path) as beside:
        if Path(path).suffix == ".safetensors":
            unique, aliases = unique_tensors(weights)
            # Parts of one storage count as shared there, which a copy is not.
            copies = {name: value.clone(memory_format=torch.contiguous_format) for name, value in unique.items()}
            metadata = aliases | {FACTS: json.dumps(facts), CHECKSUM: digest_of_tensors(copies)}
            # Written by safetensors itself, the file could be read by its owner alone.
            beside.write_bytes(_in_order(safetensors.torch.save(copies, metadata=metadata)))
        else:
            iteration = {ITERATION: facts[ITERATION]} if ITERATION in facts else {}
            torch.save(iteration | {FACTS: facts, "model": dict(weights)}, beside)


def _in_order(data: bytes) -> bytes:
    """A .safetensors file with its header sorted: the library's order differs from one call to the next."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8 bytes, as the library's own do
    return len(header).to_bytes(8, "little") + header + data[start:]
