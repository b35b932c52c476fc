"""The network that a run begins with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sopose.core.engine.checkpoint import load_weights, model_weights, read_checkpoint
from sopose.core.engine.facts import checkpoint_facts
from sopose.inference.agreement import recorded_objects, warn_of_start
from sopose.models.build import build_model, knows_backbone
from sopose.models.gdrn import GDRN
from sopose.models.start import start_weights
from sopose.settings import CONFIGS, Settings, plain_settings, shipped

logger = logging.getLogger(__name__)


def build_initial_model(settings: Settings, names: Sequence[str], resumed: bool, device: torch.device) -> GDRN:
    """The network with the weights a run of the objects `names` starts from; one that is resumed reads its own later.

    What fits of MODEL.WEIGHTS is taken, or of MODEL.START where that is empty; where these don't have the backbone, it
    starts as BACKBONE.PRETRAINED says. Raises `UserError` where nothing fits.
    """
    net = settings.model.pose_net
    given = "" if resumed else settings.model.weights or settings.model.start
    if not given:
        model = build_model(net, pretrained=not resumed)
    else:
        path = shipped(Path(given))
        weights, known = _read_start(path, plain_settings(settings), names)
        model = build_model(net, pretrained=not knows_backbone(net, weights, path))
        # The objects of MODEL.START are others, though one may have the same name.
        same = names if settings.model.weights else ()
        load_weights(model, start_weights(model, weights, known, same), path, partial=True)
    # Convolutions are faster in this layout, on the CPU by 1.7.
    return model.to(device, memory_format=torch.channels_last)


def _read_start(path: Path, now: Mapping[str, Any], names: Sequence[str]) -> tuple[Mapping[str, Tensor], list[str]]:
    """The weights of a checkpoint, and names of the objects that it knows; says what has to be learned anew.

    now: the run's settings. names: of its objects.
    """
    state = read_checkpoint(path)
    facts = checkpoint_facts(state)
    known = recorded_objects(facts)
    if CONFIGS.resolve() in path.resolve().parents:  # it comes along, as a start for other objects
        of = f" ({', '.join(known)}; where it has outputs for each, their mean)" if known else ""
        logger.info("starts from %s%s; what doesn't fit is learned anew", path.name, of)
    else:
        warn_of_start(facts, now, names, path)
    return model_weights(state, path), known
