"""An .onnx file of ours in the place of the network it was exported from."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from sopose.batch import Prediction, RegressedPose, RoiBatch
from sopose.core.engine.checkpoint import FACTS
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_file

SUFFIX = ".onnx"
REMEDY = "give a file that tools/export_onnx.py wrote"
POSE = tuple(field.name for field in fields(RegressedPose))
MAPS = tuple(field.name for field in fields(Prediction) if field.name not in POSE)
INPUTS = tuple(field.name for field in fields(RoiBatch))


def optional_module(name: str) -> ModuleType:
    """A package of the extra `export`. Raises `UserError` where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"the package {name.partition('.')[0]} is missing; pip install -e '.[export]'") from error


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
    """What a session of onnxruntime says of ROIs. It has no parameters, and computes where its session does.

    Args:
        session: of a graph that `sopose.export.onnx_graph` made.
        where: its file, for messages.
    """

    def __init__(self, session: Any, where: str) -> None:
        super().__init__()
        self.session = session
        self.inputs = [node.name for node in session.get_inputs()]
        self.outputs = [node.name for node in session.get_outputs()]
        unknown = [name for name in (*self.inputs, *self.outputs) if name not in (*INPUTS, *POSE, *MAPS)]
        if unknown or not set(POSE) <= set(self.outputs):
            raise UserError(
                f"{where} is of other software: it maps {', '.join(self.inputs)[:80]} to "
                f"{', '.join(self.outputs)[:80]}; {REMEDY}"
            )

    @property
    def has_maps(self) -> bool:
        """Whether it tells its maps, not the pose alone."""
        return "mask" in self.outputs

    def forward(self, batch: RoiBatch) -> Prediction | RegressedPose:
        """Poses of a batch of ROIs, with the maps where the file has them; on the ROIs' device."""
        feed = {name: getattr(batch, name).cpu().numpy() for name in self.inputs}
        values = dict(zip(self.outputs, self.session.run(self.outputs, feed), strict=True))
        told = {name: torch.from_numpy(value).to(batch.image.device) for name, value in values.items()}
        if not self.has_maps:
            return RegressedPose(**told)
        return Prediction(**{field.name: told.get(field.name) for field in fields(Prediction)})


def make_session(source: bytes | Path, device: torch.device | None = None) -> Any:
    """A session of onnxruntime for a graph, with as many threads as torch has.

    device: by default a GPU where onnxruntime has one. Raises `UserError` where it has none, and for a damaged file.
    """
    runtime = optional_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    # Idle threads that spin take the cores from whatever runs beside: a loader, torch, another session.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = source if isinstance(source, bytes) else str(source)
    try:
        return runtime.InferenceSession(graph, options, providers=_providers(runtime, device))
    except UserError:
        raise
    except Exception as error:  # onnxruntime has a class of error for each thing that can be wrong with a file
        name = "the exported graph" if isinstance(source, bytes) else str(source)
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{name} is no .onnx file that onnxruntime can run ({reason}); {REMEDY}") from error


def _providers(runtime: ModuleType, device: torch.device | None) -> list[Any]:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    has_cuda = cuda in runtime.get_available_providers()
    if device is None:
        return [cuda, cpu] if has_cuda else [cpu]
    if device.type != "cuda":
        return [cpu]
    if not has_cuda:
        raise UserError("this onnxruntime has no CUDA; take the device cpu, or pip install onnxruntime-gpu instead")
    return [(cuda, {"device_id": device.index or 0}), cpu]


def read_onnx(path: Path, device: torch.device | None = None) -> tuple[OnnxNetwork, Mapping[str, Any]]:
    """The network of an .onnx file, and what a checkpoint would say beside its weights ("facts").

    Raises `UserError` where the file is missing, damaged or of other software.
    """
    path = require_file(path, REMEDY)
    network = OnnxNetwork(make_session(path, device), str(path))
    text = network.session.get_modelmeta().custom_metadata_map.get(FACTS, "{}")
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata '{FACTS}' is no json; {REMEDY}") from error
    return network, {FACTS: facts}
