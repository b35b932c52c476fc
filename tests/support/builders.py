"""Parts of a run from whole settings, as the composition roots build them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sopose.core.data.sources import SampleSource
from sopose.data.build import ObjectCache, build_train_dataset
from sopose.data.eval_set import EvalSet, build_test_set
from sopose.losses.build import build_criterion
from sopose.losses.criterion import Criterion
from sopose.models.build import build_model, build_parameter_groups
from sopose.models.gdrn import GDRN
from sopose.settings import Settings


def model_of(settings: Settings, pretrained: bool = True) -> GDRN:
    return build_model(settings.model.pose_net, pretrained)


def criterion_of(settings: Settings) -> Criterion:
    return build_criterion(settings.model.pose_net, settings.train, settings.solver.total_epochs)


def parameter_groups_of(model: GDRN, settings: Settings) -> list[dict[str, Any]]:
    solver = settings.solver
    return build_parameter_groups(model, settings.model.pose_net, solver.optimizer_cfg["lr"], solver.bias_lr_factor)


def train_dataset_of(settings: Settings) -> SampleSource:
    return build_train_dataset(settings, ObjectCache(settings.datasets, settings.model.pose_net))


def eval_set_of(settings: Settings, name: str, classes: Sequence[str] = ()) -> EvalSet:
    return build_test_set(settings, name, ObjectCache(settings.datasets, settings.model.pose_net, classes))
