"""Detectors by torch: their networks asked in arrays, and their files of weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sopose.core.detection.boxes import HeadOutput
from sopose.core.detection.facts import DetectorFacts, read_facts
from sopose.core.detection.model import build_detector, fast_copy
from sopose.core.engine.checkpoint import load_weights, model_weights, read_checkpoint, save_weights
from sopose.core.engine.facts import plain_facts
from sopose.core.utils.errors import UserError

if TYPE_CHECKING:
    from torchvision.models.detection import FCOS

REMEDY = "give a detector that sopose detector wrote"


class RawHeads(nn.Module):
    """A detector's network from an input (1, 3, H, W) in [0, 1] to what its heads say: `OUTPUTS` of an .onnx file."""

    def __init__(self, network: FCOS) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, network.head
        for name in ("mean", "std"):
            levels = torch.tensor(getattr(network.transform, f"image_{name}"), dtype=torch.float32)
            self.register_buffer(name, levels[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(1, N, classes), (1, N, 4), (1, N, 1)."""
        said = self.head(list(self.backbone((image - self.mean) / self.std).values()))
        return said["cls_logits"], said["bbox_regression"], said["bbox_ctrness"]


class TorchHeads:
    """A network of torch, from arrays to arrays.

    Args:
        network: what `build_detector` makes. On a CPU a copy of it is asked, which doesn't follow later changes.
        device: where it runs.
        half: convolve in bfloat16 on CPUs with the arithmetic for it.
    """

    def __init__(self, network: FCOS, device: torch.device | str = "cpu", half: bool = False) -> None:
        self.network, self.device = network.to(device).eval(), torch.device(device)
        self._asked = RawHeads(fast_copy(network, half) if self.device.type == "cpu" else network).to(device).eval()

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> HeadOutput:
        return HeadOutput(
            *(values[0].float().cpu().numpy() for values in self._asked(torch.from_numpy(pixels).to(self.device)))
        )


def load_network(path: Path) -> tuple[FCOS, DetectorFacts]:
    """The network of a file, on the CPU, and what it was trained on."""
    state = read_checkpoint(path, REMEDY)
    facts = read_facts(plain_facts(state), str(path))
    weights = model_weights(state, path)
    _require_fitting(facts, weights, path)
    network = build_detector(len(facts.objects), facts.design)
    load_weights(network, weights, path, remedy=REMEDY)
    return network.to(memory_format=torch.channels_last), facts


def save_detector(network: nn.Module, facts: DetectorFacts, path: Path) -> None:
    """Write a detector as .safetensors or .pth."""
    save_weights(network.state_dict(), path, facts.plain())


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
