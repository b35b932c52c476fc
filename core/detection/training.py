"""A training run of a detector, assembled from finished parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sopose.core.data.sources import SampleSource
from sopose.core.detection.draw import SHOWN_SCORE, draw_found, sheet
from sopose.core.detection.facts import DetectorFacts
from sopose.core.detection.infer import FoundObject
from sopose.core.detection.model import detection_losses
from sopose.core.detection.sample import DetectionBatch, collate_samples
from sopose.core.engine.assemble import Lesson, TrainingOptions, assemble_trainer
from sopose.core.engine.modes import evaluation_mode
from sopose.core.engine.trainer import Trainer

PICTURES = 4  # images of a batch in TensorBoard
MOST_NAMES = 4  # of a batch, in a message


def build_trainer(
    network: nn.Module,
    source: SampleSource,
    facts: DetectorFacts,
    options: TrainingOptions,
    output: Path,
    resume: bool,
    should_stop: Callable[[], bool],
) -> Trainer:
    """The trainer of a detector, see `assemble_trainer`."""
    lesson = Lesson(
        source,
        collate_samples,
        partial(_losses, network=network),
        partial(batch_picture, network=network, facts=facts),
        _describe,
        remedy="lower --lr and resume, or check these images",
        samples="images",
    )
    return assemble_trainer(network, lesson, facts.plain(), options, output, resume, should_stop)


def _losses(batch: DetectionBatch, _iteration: int, network: nn.Module) -> dict[str, torch.Tensor]:
    return detection_losses(network, batch.to(next(network.parameters()).device))


@torch.no_grad()
def batch_picture(batch: DetectionBatch, network: nn.Module, facts: DetectorFacts) -> dict[str, np.ndarray]:
    """The first images of a batch, RGB, with what the network finds now: right green, wrong orange, missed blue."""
    images = batch.images[:PICTURES]
    with evaluation_mode(network):
        outputs = network(list(images.to(next(network.parameters()).device).float() / 255))
    boxes, classes = batch.boxes.split(batch.counts), batch.classes.split(batch.counts)
    drawn = []
    for image, output, truths in zip(images, outputs, zip(boxes, classes, strict=True), strict=False):
        parts = (output[name].cpu() for name in ("labels", "scores", "boxes"))
        found = [
            FoundObject(facts.objects[label], float(score), box.double().numpy())
            for label, score, box in zip(*parts, strict=True)
            if score >= SHOWN_SCORE
        ]
        truth = [(facts.objects[label], box.double().numpy()) for box, label in zip(*truths, strict=True)]
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1])
        drawn.append(draw_found(pixels, found, truth))
    return {"detections": sheet(drawn, min(2, len(drawn)))[..., ::-1]}


def _describe(batch: DetectionBatch) -> str:
    more = len(batch.names) - MOST_NAMES
    return ", ".join([*batch.names[:MOST_NAMES], *([f"and {more} more"] if more > 0 else [])])
