"""A batch whose losses or gradients were not finite: kept with the weights, and computed again for a look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sopose.batch import RoiBatch, RoiTargets, SampleInfo, TensorFields
from sopose.core.engine.checkpoint import read_checkpoint
from sopose.core.engine.guard import StepRecord
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import atomic_path
from sopose.training.learner import Batch

BATCHES, ITERATION, LOSSES, EPOCH = "batches", "iteration", "losses", "epoch"


@dataclass(frozen=True, eq=False)
class FailedStep:
    """What `keep_failed_step` wrote."""

    iteration: int  # steps done before it
    losses: dict[str, float]
    batches: list[Batch]
    weights: dict[str, Tensor]
    epoch: int  # counted from 1


def keep_failed_step(path: Path, record: StepRecord, model: nn.Module, epoch: int) -> Path:
    """Write a step's batches, its losses and the network's weights, as tensors and plain values; the path."""
    state = {
        ITERATION: record.iteration,
        LOSSES: {name: float(loss) for name, loss in record.losses.items()},
        BATCHES: [_pack(batch) for batch in record.batches],
        "model": {name: value.cpu() for name, value in model.state_dict().items()},
        EPOCH: epoch,
    }
    with atomic_path(path) as beside:
        torch.save(state, beside)
    return path


def read_failed_step(path: Path) -> FailedStep:
    """The step in a file of `keep_failed_step`. Raises `UserError` for any other file."""
    remedy = "give a failed_step.pth that a run left in its OUTPUT_DIR"
    state = read_checkpoint(path, remedy)
    try:
        return FailedStep(
            iteration=int(state[ITERATION]),
            losses={str(name): float(value) for name, value in state[LOSSES].items()},
            batches=[_unpack(packed) for packed in state[BATCHES]],
            weights=dict(state["model"]),
            epoch=int(state[EPOCH]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} holds no step ({type(error).__name__}: {error}); {remedy}") from error


def _pack(batch: Batch) -> dict[str, Any]:
    rois, targets, infos = batch
    tensors = {name: _tensors(part) for name, part in (("rois", rois), ("targets", targets))}
    return {**tensors, "infos": [asdict(info) for info in infos]}


def _tensors(part: TensorFields) -> dict[str, Tensor | None]:
    # Copies: what came from a worker lies in one storage, which torch doesn't save as numbers of several types.
    own = part.map(lambda tensor: tensor.detach().to("cpu", copy=True))
    return {field.name: getattr(own, field.name) for field in fields(own)}


def _unpack(packed: Mapping[str, Any]) -> Batch:
    infos = [SampleInfo(**info) for info in packed["infos"]]
    return RoiBatch(**packed["rois"]), RoiTargets(**packed["targets"]), infos


def roi_of(batch: Batch, place: int) -> Batch:
    """The batch of one ROI of a batch."""
    rois, targets = (part.map(lambda tensor: tensor[place : place + 1]) for part in batch[:2])
    return rois, targets, batch[2][place : place + 1]


def not_finite_inputs(batch: Batch) -> list[tuple[str, list[int]]]:
    """Fields of a batch with numbers that are not finite, each with the places of the ROIs that have them."""
    found = []
    for kind, part in zip(("input", "truth"), batch[:2], strict=True):
        for field in fields(part):
            value = getattr(part, field.name)
            if value is not None and value.is_floating_point():
                places = (~torch.isfinite(value)).view(len(value), -1).any(dim=1).nonzero()[:, 0].tolist()
                found += [(f"{kind} {field.name}", places)] if places else []
    return found


def not_finite_tensors(tensors: Mapping[str, Tensor | None]) -> list[str]:
    """Names of the tensors that hold a number that is not finite."""
    return [name for name, value in tensors.items() if value is not None and not _is_finite(value)]


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def first_bad_module(model: nn.Module, rois: RoiBatch) -> str | None:
    """The first submodule without children whose output is not finite for finite inputs; None where all are finite."""
    found: list[str] = []
    handles = []

    def watch(name: str) -> Any:
        def look(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            given = [value for value in inputs if isinstance(value, Tensor)]
            if isinstance(output, Tensor) and not _is_finite(output) and all(map(_is_finite, given)):
                found.append(name)

        return look

    for name, module in model.named_modules():
        if not list(module.children()):
            handles.append(module.register_forward_hook(watch(name)))
    try:
        with torch.no_grad():
            model(rois)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
