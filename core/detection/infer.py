"""Find objects in an image by a trained detector; its checkpoint is all that is needed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sopose.core.detection.facts import DetectorFacts, read_facts
from sopose.core.detection.model import build_detector, fast_copy
from sopose.core.detection.placement import letterbox
from sopose.core.engine.checkpoint import load_weights, model_weights, plain_facts, read_checkpoint, save_weights
from sopose.core.utils.errors import UserError

REMEDY = "give a detector that sopose detector wrote"


@dataclass(frozen=True, eq=False)
class FoundObject:
    """An object in an image. `box` (4,) float64 is x1, y1, x2, y2 of its visible pixels' centres."""

    object: str
    score: float
    box: np.ndarray


class Detector:
    """A trained network with what it was trained on: `facts.objects`, `facts.obj_ids`, `facts.design`.

    Args:
        network: what `build_detector` makes. On a CPU a copy of it is asked, which doesn't follow later changes.
        facts: of its objects and sizes.
        device: where it runs.
        half: convolve in bfloat16 on CPUs with the arithmetic for it; boxes move by a sixth of a pixel.
        side: longer side of the input, pixels; by default that of the training. A smaller one is faster and finds
            fewer of the small objects.
    """

    def __init__(
        self,
        network: nn.Module,
        facts: DetectorFacts,
        device: torch.device | str = "cpu",
        half: bool = False,
        side: int | None = None,
    ) -> None:
        self.network, self.facts, self.device = network.to(device).eval(), facts, torch.device(device)
        self.side = (facts.design if side is None else replace(facts.design, side=side)).side
        self._asked = fast_copy(self.network, half) if self.device.type == "cpu" else self.network

    @classmethod
    def from_checkpoint(
        cls, path: Path, device: torch.device | str = "cpu", half: bool = False, side: int | None = None
    ) -> Detector:
        """The detector of a .safetensors or .pth file; nothing of it is unpickled but tensors and plain values.

        Raises `UserError` where the file is missing, damaged, says what can't be, or holds other weights than it says.
        """
        path = Path(path)
        state = read_checkpoint(path, REMEDY)
        facts = read_facts(plain_facts(state), str(path))
        weights = model_weights(state, path)
        _require_fitting(facts, weights, path)
        network = build_detector(len(facts.objects), facts.design)
        load_weights(network, weights, path, remedy=REMEDY)
        return cls(network.to(memory_format=torch.channels_last), facts, device, half, side)

    def save(self, path: Path) -> None:
        """Write the detector as .safetensors or .pth."""
        save_weights(self.network.state_dict(), path, self.facts.plain())

    @torch.inference_mode()
    def __call__(self, image_rgb: np.ndarray, threshold: float = 0.5, topk: int = 1) -> list[FoundObject]:
        """The objects in an image (H, W, 3) uint8 RGB, the best-scored first.

        At most `topk` of each object, with scores of at least `threshold`, in [0, 1]. Raises `UserError` for anything
        but such an image.
        """
        if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8 or not image_rgb.size:
            raise UserError(f"an image must be (H, W, 3) uint8 RGB, got {image_rgb.shape} {image_rgb.dtype}")
        placement = letterbox((image_rgb.shape[1], image_rgb.shape[0]), self.side)
        pixels = torch.from_numpy(placement.draw(image_rgb)).to(self.device).permute(2, 0, 1)
        output = {name: value.cpu() for name, value in self._asked([pixels.float() / 255])[0].items()}
        boxes = placement.boxes_to_image(output["boxes"].double().numpy())
        taken: Counter[str] = Counter()
        found = []
        for box, score, label in zip(boxes, output["scores"].tolist(), output["labels"].tolist(), strict=True):
            name = self.facts.objects[label]
            if score >= threshold and taken[name] < topk and (box[2:] > box[:2]).all():
                taken[name] += 1
                found.append(FoundObject(name, score, box))
        return found


def _require_fitting(facts: DetectorFacts, weights: dict[str, Tensor], path: Path) -> None:
    """`UserError` where the network that a file speaks of is larger than its weights: before memory is taken."""
    try:
        with torch.device("meta"):
            wanted = build_detector(len(facts.objects), facts.design).state_dict()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    bad = [name for name, value in wanted.items() if value.numel() > 1 and _shape(weights, name) != value.shape]
    if bad:
        raise UserError(f"{path} lacks {bad[0]} and {len(bad) - 1} more tensors of the network it names; {REMEDY}")


def _shape(weights: dict[str, Tensor], name: str) -> torch.Size | None:
    return weights[name].shape if name in weights else None
