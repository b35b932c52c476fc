"""The network: what it learns from, what it refuses, and which parts stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sopose.core.detection.facts import DetectorDesign
from sopose.core.detection.model import build_detector, detection_losses, make_features, stage_indices
from sopose.core.detection.sample import DetectionSample, collate_samples
from sopose.core.utils.errors import UserError

DESIGN = DetectorDesign(side=96, backbone="resnet10t", channels=32, convs=1)
BOXES = np.array([[10.0, 12.0, 50.0, 60.0], [40.0, 5.0, 90.0, 30.0]])


def sample(boxes: np.ndarray, seed: int = 0) -> DetectionSample:
    image = np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return DetectionSample(image, boxes, np.arange(len(boxes)), "0/0")


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_detector(2, DESIGN)


@pytest.mark.parametrize("counts", [(2, 2), (2, 0), (0, 0)])
def test_losses_and_gradients_are_finite_with_and_without_boxes(network, counts):
    losses = detection_losses(network, collate_samples([sample(BOXES[:count]) for count in counts]))
    assert set(losses) == {"loss_classification", "loss_regression", "loss_ctrness"}
    sum(losses.values()).backward()
    values = [*losses.values(), *(p.grad for p in network.parameters() if p.grad is not None)]
    assert all(bool(torch.isfinite(value).all()) for value in values)


def test_an_image_is_learned_by_heart(network):
    """Both boxes come out, each as its own object."""
    batch = collate_samples([sample(BOXES)])
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(detection_losses(network, batch).values()).backward()
        optimizer.step()
    network.eval()
    with torch.inference_mode():
        found = network([batch.images[0].float() / 255])[0]
    for label, box in enumerate(BOXES):
        mine = found["labels"] == label
        best = found["scores"][mine].argmax()
        assert found["scores"][mine][best] > 0.3
        np.testing.assert_allclose(found["boxes"][mine][best].numpy(), box, atol=3.0)


def test_frozen_parts_keep_weights_and_statistics():
    network = build_detector(2, DESIGN, make_features("resnet10t"), frozen=["layer1"])
    before = {name: value.clone() for name, value in network.backbone.body.state_dict().items()}
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    sum(detection_losses(network, collate_samples([sample(BOXES), sample(BOXES, 1)])).values()).backward()
    optimizer.step()
    after = network.backbone.body.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("layer1.") for name in changed)
    assert any(name.startswith("layer2.") for name in changed)


def test_features_are_asked_for_by_their_strides():
    assert stage_indices("resnet10t") == (2, 3, 4)
    assert stage_indices("convnext_atto") == (1, 2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("efficientnet_lite", "no model of timm; did you mean"),
        ("vit_tiny_patch16_224", "no maps of strides"),
        ("swin_tiny_patch4_window7_224", "no maps of strides"),
        ("hf-hub:someone/else", "no model of timm"),
    ],
)
def test_backbones_without_such_features_are_refused(name, message):
    with pytest.raises(UserError, match=message) as caught:
        make_features(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"side": 31}, {"channels": 48}, {"channels": 1024}, {"convs": 0}])
def test_sizes_that_cannot_be_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        DetectorDesign(**wrong)
