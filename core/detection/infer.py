"""Find objects in an image by a trained detector; its file is all that is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sopose.core.detection.boxes import HeadOutput, find_boxes
from sopose.core.detection.facts import DetectorFacts, read_facts
from sopose.core.detection.placement import letterbox
from sopose.core.engine.machine import WITHOUT_TORCH, has_torch
from sopose.core.engine.onnx_runtimes import REMEDY, Session, read_session
from sopose.core.utils.errors import UserError

SUFFIX = ".onnx"
INPUT = "image"  # (1, 3, H, W) float32 of an .onnx file, in [0, 1], RGB; sides are multiples of 32
OUTPUTS = ("logits", "distances", "centerness")  # (1, N, ...) of `HeadOutput`
Heads = Callable[[np.ndarray], HeadOutput]  # of an input (1, 3, H, W) float32 as of an .onnx file


@dataclass(frozen=True, eq=False)
class FoundObject:
    """An object in an image. `box` (4,) float64 is x1, y1, x2, y2 of its visible pixels' centres."""

    object: str
    score: float
    box: np.ndarray


class Detector:
    """A trained network with what it was trained on: `facts.objects`, `facts.obj_ids`, `facts.design`.

    Args:
        heads: what the network says of an input.
        facts: of its objects and sizes.
        side: longer side of the input, pixels; by default that of the training. A smaller one is faster and finds
            fewer of the small objects.
    """

    def __init__(self, heads: Heads, facts: DetectorFacts, side: int | None = None) -> None:
        self.heads, self.facts = heads, facts
        self.side = (facts.design if side is None else replace(facts.design, side=side)).side

    @classmethod
    def from_checkpoint(
        cls, path: Path | str, device: str = "cpu", half: bool = False, side: int | None = None
    ) -> Detector:
        """The detector of a .safetensors or .pth file, or of its .onnx; nothing is unpickled but plain values.

        half: convolve in bfloat16 on CPUs with the arithmetic for it; boxes move by a sixth of a pixel. Not of .onnx.
        Raises `UserError` where the file is missing, damaged, says what can't be, or holds other weights than it says.
        """
        path = Path(path)
        if path.suffix == SUFFIX:
            session, plain = read_session(path, device)
            return cls(OnnxHeads(session, str(path)), read_facts(plain, str(path)), side)
        if not has_torch():
            raise UserError(f"{path} runs by torch, which is not installed; {WITHOUT_TORCH}")
        from sopose.core.detection.on_torch import TorchHeads, load_network

        network, facts = load_network(path)
        return cls(TorchHeads(network, device, half), facts, side)

    def __call__(self, image_rgb: np.ndarray, threshold: float | None = None, topk: int = 1) -> list[FoundObject]:
        """The objects in an image (H, W, 3) uint8 RGB, the best-scored first.

        At most `topk` of each object, with scores of at least `threshold`, in [0, 1], by default the detector's own.
        Raises `UserError` for anything but such an image.
        """
        if image_rgb.ndim != 3 or image_rgb.shape[2] != 3 or image_rgb.dtype != np.uint8 or not image_rgb.size:
            raise UserError(f"an image must be (H, W, 3) uint8 RGB, got {image_rgb.shape} {image_rgb.dtype}")
        placement = letterbox((image_rgb.shape[1], image_rgb.shape[0]), self.side)
        pixels = placement.draw(image_rgb).transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        found = find_boxes(self.heads(pixels), *pixels.shape[2:])
        boxes = placement.boxes_to_image(found.xyxy)
        least = self.facts.threshold if threshold is None else threshold
        taken: Counter[str] = Counter()
        chosen = []
        for box, score, label in zip(boxes, found.score.tolist(), found.label.tolist(), strict=True):
            name = self.facts.objects[label]
            if score >= least and taken[name] < topk and (box[2:] > box[:2]).all():
                taken[name] += 1
                chosen.append(FoundObject(name, score, box))
        return chosen


class OnnxHeads:
    """What a session says of inputs.

    Args:
        session: of a detector's graph.
        where: its file, for messages.
    """

    def __init__(self, session: Session, where: str) -> None:
        self.session = session
        if tuple(session.inputs) != (INPUT,) or set(session.outputs) != set(OUTPUTS):
            raise UserError(f"{where} is no detector: it maps {', '.join(session.inputs)[:80]}; {REMEDY}")

    def __call__(self, pixels: np.ndarray) -> HeadOutput:
        found = self.session.run({INPUT: pixels})
        return HeadOutput(**{name: values[0] for name, values in zip(self.session.outputs, found, strict=True)})
