"""Between networks of torch, which take tensors, and what estimates poses, which has arrays; and the reverse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from sopose.batch import Displacements, LookBatch, Prediction, RegressedPose, RoiBatch, TensorFields
from sopose.core.engine.checkpoint import model_weights, read_checkpoint
from sopose.inference.checkpoint_facts import NetworkFacts, read_network_facts
from sopose.inference.onnx_network import OnnxNetwork
from sopose.inference.prepare import prepared, prepared_refiner
from sopose.models.build import restore_model
from sopose.models.refiner_design import RefinerDesign
from sopose.models.refiner_file import load_refiner

Asked = TypeVar("Asked", bound=TensorFields)
Answer = TypeVar("Answer", bound=TensorFields)


class OnTorch(Generic[Asked, Answer]):
    """A network of torch, from arrays to arrays.

    Args:
        model: in evaluation mode, on its device.
        device: where it is.
        ready: the same, made ready to be asked many times; by default the model itself.
    """

    def __init__(self, model: nn.Module, device: torch.device, ready: Callable[[Asked], Answer] | None = None) -> None:
        self.model, self.device, self.ready = model, device, ready or model

    @torch.inference_mode()
    def __call__(self, asked: Asked) -> Answer:
        return self.ready(asked.tensors().to(self.device)).arrays()


def pose_network_on_torch(
    path: Path, device: str | None = None, overrides: Sequence[str] = ()
) -> tuple[OnTorch[RoiBatch, Prediction], NetworkFacts]:
    """The network of a checkpoint, ready to be asked, and what the checkpoint says, as of `read_network_facts`.

    device: by default a GPU where there is one. Raises `UserError` as `read_checkpoint` and `restore_model`.
    """
    state = read_checkpoint(path)
    facts = read_network_facts(state, path, overrides)
    net = facts.settings.model.pose_net
    model = restore_model(net, model_weights(state, path), path)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = model.to(place, memory_format=torch.channels_last).eval()
    return OnTorch(model, place, prepared(model, place, net.input_res, facts.settings.test.amp_test)), facts


def refiner_on_torch(path: Path, device: str) -> tuple[OnTorch[LookBatch, Displacements], RefinerDesign]:
    """The network of a refiner's file, ready to be asked, and its design. Raises `UserError` as `load_refiner`."""
    network, design = load_refiner(path)
    place = torch.device(device)
    network = network.to(place).eval()
    return OnTorch(network, place, prepared_refiner(network, place, design.input_res)), design


class AsModule(nn.Module):
    """A network of an .onnx file, from tensors to tensors; without parameters. It computes where its session does."""

    def __init__(self, network: OnnxNetwork) -> None:
        super().__init__()
        self.network = network

    @property
    def has_maps(self) -> bool:
        """Whether it gives its maps, not the pose alone."""
        return self.network.has_maps

    def forward(self, rois: RoiBatch) -> Prediction | RegressedPose:
        """Poses of a batch of ROIs, with the maps where the file has them; on the ROIs' device."""
        return self.network(rois.arrays()).tensors().to(rois.image.device)
