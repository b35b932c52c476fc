"""Where the processor time of a training crop goes: in the source that makes it, and in the network that learns."""

from __future__ import annotations

import os
from contextlib import ExitStack
from itertools import repeat

import numpy as np
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sopose.batch import collate_samples
from sopose.core.data.replay import Place
from sopose.core.data.sources import SampleSource, sample_at
from sopose.core.engine.trainer import Trainer
from sopose.core.synthesis import windows
from sopose.core.utils.share_clock import Part, ShareClock
from sopose.data import cad_source, mapper
from sopose.data.cad_source import CadSource
from sopose.training.learner import Batch

NETWORK_PARTS = {
    "backbone": "trunk",
    "neck": "trunk",
    "geo_head_net": "heads",
    "selfocc_head_net": "heads",
    "pnp_net": "Patch-PnP",
}


def loader_shares(source: SampleSource, first: int, count: int, batch: int) -> dict[str, float]:
    """Milliseconds a sample by share, of samples `first` to `first + count` of a run, batches of a size; one thread.

    draw: scenes; shade: their pictures; cast: exact maps; crop: from a rendered window; sensor: background, camera,
    colours; collate: to a batch. Other sources than rendered ones are not distinguished.
    """
    clock, samples = ShareClock("rest"), []
    with ExitStack() as stack:
        stack.enter_context(clock.watching(_source_parts(source)))
        for number in range(first, first + count):
            rng = np.random.default_rng([0, 0, number])
            samples.append(sample_at(source, Place(0, number), number % len(source), rng))
            if len(samples) == batch:
                clock.around("collate", collate_samples, samples)
                samples = []
    clock.enter("")
    return {name: 1e3 * seconds / count for name, seconds in clock.seconds.items()}


def _source_parts(source: SampleSource) -> list[Part]:
    modules = [cad_source, mapper]
    parts: list[Part] = [
        (module, function, "cast") for module in modules for function in ("cast_layers", "make_targets")
    ]
    parts.append((cad_source, "unhidden", "cast"))
    parts += [(module, "render_rgb", "shade") for module in (cad_source, windows)]
    if isinstance(source, CadSource):
        parts += [(source.drawer, "around", "draw"), (source, "finish", "sensor")]
        parts.append((windows.ShadedWindow, "foreground", "crop"))
    return parts


def network_shares(trainer: Trainer, batch: Batch, steps: int) -> dict[str, float]:
    """Milliseconds a ROI by share, of steps on a batch, forward and backward; one thread.

    `system` is what the operating system took of it, most of it to hand out memory; it is part of the other shares.
    """
    clock = ShareClock("rest")
    rois = steps * len(batch[2]) * trainer.options.batches
    step = trainer.step
    with ExitStack() as stack:
        for name, share in NETWORK_PARTS.items():
            part = getattr(trainer.model, name)
            for handle in [] if part is None else _watch(part, share, clock):
                stack.callback(handle.remove)
        stack.enter_context(clock.watching([(step, "finish", "optimizer"), (step, "compute_losses", "losses")]))
        stack.enter_context(clock.watching([(step, "backward", "losses")]))
        before = os.times().system
        for _ in range(steps):
            trainer.run_step(repeat(batch))
        system = os.times().system - before
    clock.enter("")
    found = {name: 1e3 * seconds / rois for name, seconds in clock.seconds.items()}
    return {**found, "system": 1e3 * system / rois}


def _watch(part: nn.Module, share: str, clock: ShareClock) -> list[RemovableHandle]:
    """Count a part's time: forward while it is called, backward from when its outputs' gradients are there."""

    def before(*_: object) -> None:
        clock.enter(share)

    def after(_module: nn.Module, _inputs: object, outputs: object) -> None:
        clock.leave()
        for tensor in outputs if isinstance(outputs, tuple | list) else (outputs,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda _: clock.turn_to(share))

    return [part.register_forward_pre_hook(before), part.register_forward_hook(after)]
