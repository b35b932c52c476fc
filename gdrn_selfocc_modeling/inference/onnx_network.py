"""An .onnx file of ours in the place of the network it was exported from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sopose.batch import Prediction, RegressedPose, RoiBatch
from sopose.core.engine.facts import FACTS
from sopose.core.engine.onnx_runtimes import REMEDY, Session, read_session
from sopose.core.utils.errors import UserError

SUFFIX = ".onnx"
POSE = tuple(field.name for field in fields(RegressedPose))
MAPS = tuple(field.name for field in fields(Prediction) if field.name not in POSE)
INPUTS = tuple(field.name for field in fields(RoiBatch))


class OnnxNetwork:
    """What a session says of ROIs, from arrays to arrays.

    Args:
        session: of a graph that `sopose.export.onnx_graph` made.
        where: its file, for messages.
    """

    def __init__(self, session: Session, where: str) -> None:
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

    def __call__(self, rois: RoiBatch) -> Prediction | RegressedPose:
        """Poses of a batch of ROIs, with the maps where the file has them."""
        feed = {name: getattr(rois, name) for name in self.inputs}
        values = dict(zip(self.outputs, self.session.run(feed), strict=True))
        if not self.has_maps:
            return RegressedPose(**values)
        return Prediction(**{field.name: values.get(field.name) for field in fields(Prediction)})


def read_onnx(
    path: Path, device: str | None = None, runtime: str = "onnxruntime"
) -> tuple[OnnxNetwork, Mapping[str, Any]]:
    """The network of an .onnx file, and what a checkpoint would say beside its weights ("facts").

    `runtime` is one of `onnx_runtimes.RUNTIMES`. Raises `UserError` where it, the file or the device is missing, and
    for a file that is damaged or of other software.
    """
    session, facts = read_session(path, device, runtime)
    return OnnxNetwork(session, str(path)), {FACTS: facts}
