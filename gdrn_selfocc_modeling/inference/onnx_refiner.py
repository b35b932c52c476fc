"""An .onnx file of ours in the place of the refiner it was exported from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from sopose.batch import Displacements, LookBatch
from sopose.core.utils.errors import UserError
from sopose.inference.onnx_network import read_session
from sopose.inference.onnx_runtimes import REMEDY, Session
from sopose.models.refiner_file import RefinerDesign, read_design

INPUTS = ("image", "rendered")  # of `LookBatch`, what a refiner sees
OUTPUTS = ("shift", "log_scale", "log_spread")


class OnnxRefiner(nn.Module):
    """What a session says of looks. It has no parameters, and computes where its session does.

    Args:
        session: of a graph that `sopose.export.refiner_graph` made.
        where: its file, for messages.
    """

    def __init__(self, session: Session, where: str) -> None:
        super().__init__()
        self.session = session
        if set(session.inputs) != set(INPUTS) or set(session.outputs) != set(OUTPUTS):
            raise UserError(f"{where} is no refiner: it maps {', '.join(session.inputs)[:80]}; {REMEDY}")

    def forward(self, look: LookBatch) -> Displacements:
        """Displacements of B looks, on the looks' device."""
        found = self.session.run({name: getattr(look, name).cpu().numpy() for name in self.session.inputs})
        arrays = dict(zip(self.session.outputs, found, strict=True))
        return Displacements(**{name: torch.from_numpy(arrays[name]).to(look.image.device) for name in OUTPUTS})


def read_onnx_refiner(path: Path, device: torch.device | None = None) -> tuple[OnnxRefiner, RefinerDesign]:
    """The refiner of an .onnx file. Raises `UserError` where it is missing, damaged or of something else."""
    session, facts = read_session(path, device)
    design = read_design(facts if isinstance(facts, dict) else {}, str(path))
    return OnnxRefiner(session, str(path)), design
