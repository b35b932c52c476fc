"""A small detector, and the toy set's training images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sopose.core.bop.models import load_models
from sopose.core.bop.records import ImageRecord
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import SplitSpec, resolve_split
from sopose.core.detection.facts import DetectorDesign, DetectorFacts
from sopose.core.detection.infer import Detector
from sopose.core.detection.labels import Labeler
from sopose.core.detection.model import build_detector
from sopose.core.detection.on_torch import TorchHeads


@pytest.fixture(scope="session")
def toy_spec(toy_root: Path) -> SplitSpec:
    return resolve_split("toy_train", toy_root.parent)


@pytest.fixture(scope="session")
def toy_records(toy_spec: SplitSpec) -> list[ImageRecord]:
    return load_split(toy_spec)


@pytest.fixture(scope="session")
def toy_labeler(toy_spec: SplitSpec) -> Labeler:
    """All objects, with all models."""
    models = load_models(toy_spec.models_dir)
    return Labeler({obj_id: place for place, obj_id in enumerate(toy_spec.object_names)}, models, 0.1)


@pytest.fixture(scope="session")
def small_facts(toy_spec: SplitSpec) -> DetectorFacts:
    design = DetectorDesign(side=96, backbone="resnet10t", channels=32, convs=1)
    return DetectorFacts(tuple(toy_spec.object_names.values()), tuple(toy_spec.object_names), design)


@pytest.fixture
def small_detector(small_facts: DetectorFacts) -> Detector:
    """With random weights."""
    torch.manual_seed(0)
    return Detector(TorchHeads(build_detector(len(small_facts.objects), small_facts.design)), small_facts)
