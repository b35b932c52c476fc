"""The detector's network: torchvision's FCOS, thin, over the features of a small classifier.

Source: Tian et al., FCOS: Fully Convolutional One-Stage Object Detection, ICCV 2019.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence

import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork

from sopose.core.detection.boxes import CANDIDATES, LEAST_SCORE, MOST_BOXES, OVERLAP, STRIDES
from sopose.core.detection.facts import DetectorDesign
from sopose.core.detection.sample import DetectionBatch
from sopose.core.engine.machine import has_fast_bfloat16
from sopose.core.engine.modes import HalfConvolutions, without_batch_norms
from sopose.core.utils.errors import UserError, nearest

BOX_START = 4.0  # first guess of a box's sides from its middle, in strides; from torchvision's 0 half are stuck
PROBE_SIDE = 64  # of an image that shows the shapes of features


class Pyramid(nn.Module):
    """Features of `STRIDES` with as many channels each; the submodules `frozen` of the features don't learn."""

    def __init__(self, features: nn.Module, out_channels: int, frozen: Sequence[str] = ()) -> None:
        super().__init__()
        self.body = features
        self.fpn = FeaturePyramidNetwork(features.feature_info.channels(), out_channels)
        self.out_channels = out_channels  # torchvision asks for it
        self.frozen = tuple(frozen)
        for name in self.frozen:
            features.get_submodule(name).requires_grad_(False)

    def train(self, mode: bool = True) -> Pyramid:
        """As `nn.Module.train`, but frozen parts stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.body.get_submodule(name).eval()
        return self

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Maps (B, out_channels, H / stride, W / stride) of images (B, 3, H, W), by the stride's place."""
        maps = self.body(images.contiguous(memory_format=torch.channels_last))
        return self.fpn(OrderedDict((str(place), value) for place, value in enumerate(maps)))


class AsGiven(GeneralizedRCNNTransform):
    """Normalises images and leaves their size: they come at the input's own."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict | None]:
        return image, target


def stage_indices(backbone: str) -> tuple[int, ...]:
    """Which stages of a model of timm have `STRIDES`. `UserError` for one that is unknown or has no such features."""
    if not timm.is_model(backbone):
        raise UserError(f"the backbone '{backbone}' is no model of timm{nearest(backbone, timm.list_models())}")
    try:
        with torch.device("meta"):  # which costs no memory
            reductions = timm.create_model(backbone, features_only=True).feature_info.reduction()
            indices = tuple(reductions.index(stride) for stride in STRIDES)
            model = timm.create_model(backbone, features_only=True, out_indices=indices)
            maps = model(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE))
        wanted = [
            (1, channels, PROBE_SIDE // stride, PROBE_SIDE // stride)
            for channels, stride in zip(model.feature_info.channels(), STRIDES, strict=True)
        ]
        fits = [tuple(value.shape) for value in maps] == wanted
    except Exception as error:  # each model refuses in its own way
        raise UserError(f"timm's {backbone} gives no maps of strides {STRIDES} ({_one_line(error)})") from error
    if not fits:
        raise UserError(f"timm's {backbone} gives no maps of strides {STRIDES} for any size; choose another backbone")
    return indices


def make_features(backbone: str) -> nn.Module:
    """A model of timm that maps (B, 3, H, W) to maps of `STRIDES`, with random weights."""
    return timm.create_model(backbone, features_only=True, out_indices=stage_indices(backbone))


def build_detector(
    num_classes: int, design: DetectorDesign, features: nn.Module | None = None, frozen: Sequence[str] = ()
) -> FCOS:
    """A detector of `num_classes` kinds of objects, numbered from 0.

    In training it maps images (3, H, W) of 0 to 1 and {"boxes", "labels"} to losses, else images to
    {"boxes", "labels", "scores"}; boxes are x1, y1, x2, y2 in pixels of the input.

    Args:
        num_classes: how many.
        design: sizes of the network.
        features: what `make_features(design.backbone)` makes, perhaps with better weights; by default that.
        frozen: submodules of the features that don't learn.
    """
    body = Pyramid(make_features(design.backbone) if features is None else features, design.channels, frozen)
    head = FCOSHead(design.channels, 1, num_classes, design.convs)
    _start_head(head)
    detector = FCOS(
        body,
        num_classes,
        anchor_generator=AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES)),
        head=head,
        score_thresh=LEAST_SCORE,
        nms_thresh=OVERLAP,
        detections_per_img=MOST_BOXES,
        topk_candidates=CANDIDATES,
    )
    mean, std = ([level / 255 for level in levels] for levels in (design.pixel_mean, design.pixel_std))
    detector.transform = AsGiven(1, 1, mean, std)
    return detector


def fast_copy(network: FCOS, half: bool) -> FCOS:
    """A detector's network in evaluation mode for a CPU: no batch norms, with `half` convolutions in bfloat16."""
    network = copy.deepcopy(network)
    example = torch.linspace(-1, 1, 3 * PROBE_SIDE**2).view(1, 3, PROBE_SIDE, PROBE_SIDE)
    network.backbone = without_batch_norms(network.backbone, example)
    if half and has_fast_bfloat16():
        network.backbone, network.head = HalfConvolutions(network.backbone), HalfConvolutions(network.head)
    return network


def detection_losses(detector: FCOS, batch: DetectionBatch) -> dict[str, Tensor]:
    """The losses of a batch on the detector's device, by name."""
    parts = batch.boxes.split(batch.counts), batch.classes.split(batch.counts)
    targets = [{"boxes": boxes, "labels": classes} for boxes, classes in zip(*parts, strict=True)]
    losses = detector(list(batch.images.float() / 255), targets)
    return {f"loss_{name.removeprefix('bbox_')}": loss for name, loss in losses.items()}


def _start_head(head: FCOSHead) -> None:
    """First weights with which a short run learns sooner than from torchvision's."""
    nn.init.constant_(head.regression_head.bbox_reg.bias, BOX_START)
    for part in (head.classification_head, head.regression_head):
        for layer in part.conv:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__
