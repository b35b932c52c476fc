"""A batch at which a run stopped, computed again: what of it is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sopose.core.engine.distributed import select_device
from sopose.core.engine.load_report import by_module
from sopose.core.engine.machine import this_machine
from sopose.core.engine.step import AMP_TYPES
from sopose.core.images.files import require_image_name, write_image
from sopose.core.utils.files import require_writable_file
from sopose.core.vis.maps import stack
from sopose.data.roi_input import RoiFormat, build_roi_format
from sopose.models.build import restore_model
from sopose.models.predicted_maps import read_maps
from sopose.settings import load_settings
from sopose.training.failed_batch import (
    FailedStep,
    first_bad_module,
    not_finite_inputs,
    not_finite_tensors,
    read_failed_step,
    roi_of,
)
from sopose.training.learner import Batch, Learner, RunLength, build_learner, choose_precision
from sopose.vis.batches import batch_pictures


@dataclass(frozen=True)
class ReplayOptions:
    """What `sopose replay` takes, by the names of its options."""

    step: Path
    config_file: Path | None = None
    picture: Path | None = None
    opts: Sequence[str] = ()


def run_replay(options: ReplayOptions) -> None:
    """Replay, print, and draw."""
    if options.picture:
        require_writable_file(require_image_name(options.picture))
    step = read_failed_step(options.step)
    settings = load_settings(options.config_file or options.step.parent / "config.py", options.opts)
    device = select_device(settings.model.device)
    model = restore_model(settings.model.pose_net, step.weights, options.step)
    precision = AMP_TYPES.get(choose_precision(settings.solver.amp, device, this_machine().bfloat16))
    learner = build_learner(settings, model.to(device), RunLength(1, settings.solver.total_epochs), device, precision)
    roi_format = build_roi_format(settings.input, settings.model)
    print(f"iteration {step.iteration + 1}, epoch {step.epoch}, on {device}")
    for batch in step.batches:
        replay(learner, step, batch)
        if options.picture:
            draw(learner, batch, roi_format, options.picture)


def replay(learner: Learner, step: FailedStep, batch: Batch) -> None:
    """Print what is not finite: inputs, weights, losses of the batch and of each ROI, gradients, outputs of modules."""
    weights = not_finite_tensors(step.weights)
    inputs = not_finite_inputs(batch)
    losses, gradients = compute(learner, batch, step.epoch)
    print(f"  {'loss':<16}{'then':>12}{'now':>12}")
    for name, then in step.losses.items():
        print(f"  {name:<16}{then:>12.4g}{losses.get(name, float('nan')):>12.4g}")
    print(f"inputs     {_listed([f'{name} of ROI {places}' for name, places in inputs])}")
    print(f"weights    {_listed([by_module(weights)] if weights else [])}")
    print(f"gradients  {_listed([by_module(gradients)] if gradients else [])}")
    module = first_bad_module(learner.model, batch[0].to(next(learner.model.parameters()).device))
    print(f"modules    {_listed([f'{module} makes of finite numbers others'] if module else [])}")
    alone = []
    for place, info in enumerate(batch[2]):
        of_roi, of_weights = compute(learner, roi_of(batch, place), step.epoch)
        names = [name for name, value in of_roi.items() if not torch.isfinite(torch.tensor(value))]
        if names or of_weights:
            what = ", ".join(names or ["gradients"])
            alone.append(f"{place} (scene {info.scene_id}, image {info.im_id}, object {info.obj_id}): {what}")
    print(f"ROIs alone {_listed(alone)}")
    print(verdict(bool(inputs), bool(weights), len(alone), len(batch[2]), bool(gradients)))


def compute(learner: Learner, batch: Batch, epoch: int) -> tuple[dict[str, float], list[str]]:
    """The losses of a batch in training mode, and the parameters whose gradients are not finite; nothing is changed."""
    learner.model.train()
    learner.model.zero_grad(set_to_none=True)
    device = next(learner.model.parameters()).device
    buffers = {name: buffer.clone() for name, buffer in learner.model.named_buffers()}
    amp_dtype = learner.options.amp_dtype
    rois, targets = (part.to(device) for part in batch[:2])
    with torch.autocast(device.type, dtype=amp_dtype, enabled=amp_dtype is not None):
        losses = learner.losses(rois, targets, epoch)
    torch.stack(list(losses.values())).sum().backward()
    gradients: dict[str, Tensor | None] = {name: value.grad for name, value in learner.model.named_parameters()}
    bad = not_finite_tensors(gradients)
    learner.model.load_state_dict(buffers, strict=False)
    return {name: float(loss.detach()) for name, loss in losses.items()}, bad


def verdict(inputs: bool, weights: bool, alone: int, rois: int, gradients: bool) -> str:
    """What to do about it, in a line."""
    if weights:
        return "The weights themselves are not finite: continue from an earlier checkpoint, with a lower learning rate."
    if inputs:
        return "The samples hold numbers that are not finite: look at these images and labels."
    if alone and alone < rois:
        return "Single ROIs give it: look at them (--picture), or clip gradients by SOLVER.CLIP_GRADIENTS."
    if alone or gradients:
        return "Finite samples and weights give it: the weights have run away; continue from earlier with a lower rate."
    return "All is finite here: it came from half precision or the device; try SOLVER.AMP.DTYPE=bfloat16 or no AMP."


def draw(learner: Learner, batch: Batch, roi_format: RoiFormat, path: Path) -> None:
    """Write the pictures of a batch, one below the other."""
    device = next(learner.model.parameters()).device
    rois, targets = (part.to(device) for part in batch[:2])
    with torch.no_grad():
        prediction = learner.model.eval()(rois)
    maps = read_maps(prediction, learner.model.pnp_input)
    pictures = batch_pictures(rois, targets, maps, prediction.pose, roi_format, len(batch[2]))
    write_image(path, stack(list(pictures.values()))[..., ::-1])
    print(f"picture    {path}")


def _listed(things: list[str]) -> str:
    return "finite" if not things else "NOT FINITE: " + "; ".join(things)
