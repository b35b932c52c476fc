"""What a detector learns from: an image with the boxes in it, and batches of such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sopose.core.detection.placement import FILL


@dataclass(frozen=True, eq=False)
class DetectionSample:
    """An input image and its N objects."""

    image: np.ndarray  # (H, W, 3) uint8 RGB, sides multiples of the network's stride
    boxes: np.ndarray  # (N, 4) float64 x1, y1, x2, y2 of pixel centres, within the image
    classes: np.ndarray  # (N,) int64
    name: str  # where it is from, for messages


class DetectionBatch(NamedTuple):
    """B images of one size and the boxes of all of them; a tuple, which torch pins part by part."""

    images: Tensor  # (B, 3, H, W) uint8 RGB
    boxes: Tensor  # (M, 4) float32
    classes: Tensor  # (M,) int64
    counts: list[int]  # B numbers of boxes, whose sum is M
    names: list[str]  # B

    def to(self, device: torch.device) -> DetectionBatch:
        """The same with its tensors on a device."""
        images, boxes, classes = (part.to(device, non_blocking=True) for part in self[:3])
        return self._replace(images=images, boxes=boxes, classes=classes)


def collate_samples(samples: Sequence[DetectionSample]) -> DetectionBatch:
    """One batch; smaller images are filled up to the right and below."""
    height, width = (max(sample.image.shape[axis] for sample in samples) for axis in (0, 1))
    images = torch.full((len(samples), 3, height, width), FILL, dtype=torch.uint8)
    for target, sample in zip(images, samples, strict=True):
        pixels = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))
        target[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return DetectionBatch(
        images=images,
        boxes=torch.from_numpy(np.concatenate([sample.boxes for sample in samples]).astype(np.float32)),
        classes=torch.from_numpy(np.concatenate([sample.classes for sample in samples]).astype(np.int64)),
        counts=[len(sample.boxes) for sample in samples],
        names=[sample.name for sample in samples],
    )
