"""An .onnx file of ours in the place of the network it was exported from."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sopose.batch import Prediction, RegressedPose, RoiBatch
from sopose.core.engine.checkpoint import FACTS
from sopose.core.engine.integrity import is_sealed_and_damaged
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_file
from sopose.inference.onnx_runtimes import REMEDY, Session, open_session

SUFFIX = ".onnx"
POSE = tuple(field.name for field in fields(RegressedPose))
MAPS = tuple(field.name for field in fields(Prediction) if field.name not in POSE)
INPUTS = tuple(field.name for field in fields(RoiBatch))


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Keep from the user what exporters print, warn and log of their own steps. "" is the root of all loggers."""
    found = [logging.getLogger(name) for name in loggers]
    before = [logger.level for logger in found]
    try:
        for logger in found:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(found, before, strict=True):
            logger.setLevel(level)


class OnnxNetwork(nn.Module):
    """What a session says of ROIs. It has no parameters, and computes where its session does.

    Args:
        session: of a graph that `sopose.export.onnx_graph` made.
        where: its file, for messages.
    """

    def __init__(self, session: Session, where: str) -> None:
        super().__init__()
        self.session = session
        self.inputs, self.outputs = session.inputs, session.outputs
        unknown = [name for name in (*self.inputs, *self.outputs) if name not in (*INPUTS, *POSE, *MAPS)]
        if unknown or not set(POSE) <= set(self.outputs):
            raise UserError(
                f"{where} is of other software: it maps {', '.join(self.inputs)[:80]} to "
                f"{', '.join(self.outputs)[:80]}; {REMEDY}"
            )

    @property
    def has_maps(self) -> bool:
        """Whether it gives its maps, not the pose alone."""
        return "mask" in self.outputs

    def forward(self, batch: RoiBatch) -> Prediction | RegressedPose:
        """Poses of a batch of ROIs, with the maps where the file has them; on the ROIs' device."""
        feed = {name: getattr(batch, name).cpu().numpy() for name in self.inputs}
        values = dict(zip(self.outputs, self.session.run(feed), strict=True))
        tensors = {name: torch.from_numpy(value).to(batch.image.device) for name, value in values.items()}
        if not self.has_maps:
            return RegressedPose(**tensors)
        return Prediction(**{field.name: tensors.get(field.name) for field in fields(Prediction)})


def read_onnx(
    path: Path, device: torch.device | None = None, runtime: str = "onnxruntime"
) -> tuple[OnnxNetwork, Mapping[str, Any]]:
    """The network of an .onnx file, and what a checkpoint would say beside its weights ("facts").

    `runtime` is one of `onnx_runtimes.RUNTIMES`. Raises `UserError` where it, the file or the device is missing, and
    for a file that is damaged or of other software.
    """
    session, facts = read_session(path, device, runtime)
    return OnnxNetwork(session, str(path)), {FACTS: facts}


def read_session(
    path: Path, device: torch.device | None = None, runtime: str = "onnxruntime"
) -> tuple[Session, Mapping[str, Any]]:
    """The session of an .onnx file, and its facts. Raises `UserError` as `read_onnx`."""
    path = require_file(path, REMEDY)
    session = open_session(path, device, runtime)
    if is_sealed_and_damaged(path.read_bytes(), session.metadata):
        raise UserError(
            f"{path} is damaged: its checksum differs from the one it states; copy it anew, or export again"
        )
    try:
        facts = json.loads(session.metadata.get(FACTS, "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata '{FACTS}' is no json; {REMEDY}") from error
    return session, facts
