"""An .onnx file of ours in the place of the refiner it was exported from."""

from __future__ import annotations

from pathlib import Path

from sopose.batch import Displacements, LookBatch
from sopose.core.engine.onnx_runtimes import REMEDY, Session, read_session
from sopose.core.utils.errors import UserError
from sopose.models.refiner_design import RefinerDesign, read_design

INPUTS = ("image", "rendered")  # of `LookBatch`, what a refiner sees
OUTPUTS = ("shift", "log_scale", "log_spread")


class OnnxRefiner:
    """What a session says of looks, from arrays to arrays.

    Args:
        session: of a graph that `sopose.export.refiner_graph` made.
        where: its file, for messages.
    """

    def __init__(self, session: Session, where: str) -> None:
        self.session = session
        if set(session.inputs) != set(INPUTS) or set(session.outputs) != set(OUTPUTS):
            raise UserError(f"{where} is no refiner: it maps {', '.join(session.inputs)[:80]}; {REMEDY}")

    def __call__(self, look: LookBatch) -> Displacements:
        """Displacements of B looks."""
        found = self.session.run({name: getattr(look, name) for name in self.session.inputs})
        return Displacements(**dict(zip(self.session.outputs, found, strict=True)))


def read_onnx_refiner(path: Path, device: str | None = None) -> tuple[OnnxRefiner, RefinerDesign]:
    """The refiner of an .onnx file. Raises `UserError` where it is missing, damaged or of something else."""
    session, facts = read_session(path, device)
    design = read_design(facts, str(path))
    return OnnxRefiner(session, str(path)), design
