"""What runs an .onnx graph: onnxruntime or OpenVINO, alike for those who ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sopose.core.engine.facts import FACTS
from sopose.core.engine.integrity import is_sealed_and_damaged
from sopose.core.engine.machine import compute_threads, has_fast_bfloat16, limited_below
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.files import require_file

REMEDY = "give a file that sopose export wrote"


@dataclass(frozen=True, eq=False)
class Session:
    """A graph that is ready to be asked: `run` takes arrays by the names of `inputs` and gives those of `outputs`."""

    inputs: Sequence[str]
    outputs: Sequence[str]
    run: Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]
    metadata: Mapping[str, str]


def optional_module(name: str, extra: str = "train") -> ModuleType:
    """A package of an extra of ours. Raises `UserError` where it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"the package {name.partition('.')[0]} is missing; pip install 'sopose[{extra}]'") from error


def open_session(source: bytes | Path, device: str | None = None, runtime: str = "onnxruntime") -> Session:
    """A session of a graph or of its file, with as many threads as `compute_threads` says.

    Args:
        source: the file's bytes or path.
        device: "cpu", "cuda" or "cuda:1"; by default a GPU where the runtime has one.
        runtime: one of `RUNTIMES`.

    Raises:
        UserError: an unknown or missing runtime, a device that it doesn't have, a damaged file.
    """
    if runtime not in RUNTIMES:
        raise UserError(
            f"the runtime '{runtime}' is unknown{nearest(runtime, [*RUNTIMES])} (known: {', '.join(RUNTIMES)})"
        )
    try:
        return RUNTIMES[runtime](source, device)
    except UserError:
        raise
    except Exception as error:  # each runtime has its own errors, one for each thing that can be wrong with a file
        name = "the exported graph" if isinstance(source, bytes) else str(source)
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{name} is no .onnx file that {runtime} can run ({reason}); {REMEDY}") from error


def read_session(path: Path, device: str | None = None, runtime: str = "onnxruntime") -> tuple[Session, dict[str, Any]]:
    """The session of an .onnx file of ours, and what a checkpoint would say beside its weights ("facts").

    Raises `UserError` as `open_session`, and for a file that is damaged.
    """
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
    return session, facts if isinstance(facts, dict) else {}


def _onnxruntime(source: bytes | Path, device: str | None) -> Session:
    runtime = optional_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = compute_threads()
    options.log_severity_level = 3  # errors
    # Idle threads that spin take the cores from whatever runs beside: a loader, torch, another session.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = source if isinstance(source, bytes) else str(source)
    session = runtime.InferenceSession(graph, options, providers=_providers(runtime, device))
    outputs = [node.name for node in session.get_outputs()]
    return Session(
        inputs=[node.name for node in session.get_inputs()],
        outputs=outputs,
        run=partial(session.run, outputs),
        metadata=session.get_modelmeta().custom_metadata_map,
    )


def _providers(runtime: ModuleType, device: str | None) -> list[str | tuple[str, dict[str, int]]]:
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    has_cuda = cuda in runtime.get_available_providers()
    if device is None:
        return [cuda, cpu] if has_cuda else [cpu]
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return [cpu]
    if not has_cuda:
        raise UserError("this onnxruntime has no CUDA; take the device cpu, or pip install onnxruntime-gpu instead")
    return [(cuda, {"device_id": int(index or 0)}), cpu]


def _openvino(source: bytes | Path, device: str | None, precision: str = "f32") -> Session:
    """`precision` is the whole graph's, f32 or bf16: OpenVINO doesn't distinguish parts of it."""
    runtime = optional_module("openvino", "openvino")
    if limited_below("AVX512_CORE"):  # OpenVINO 2026.4 ends the whole process by a segmentation fault then
        raise UserError("openvino fails where ONEDNN_MAX_CPU_ISA allows less than AVX512_CORE; unset it for openvino")
    if device not in (None, "cpu"):
        raise UserError("openvino has no CUDA; take the device cpu, or the runtime onnxruntime")
    if precision == "bf16" and not has_fast_bfloat16():
        raise UserError("this CPU has no arithmetic in bfloat16 (AVX512-BF16, AMX); take the runtime openvino")
    model = runtime.Core().read_model(source if isinstance(source, bytes) else str(source))
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": compute_threads()}
    compiled = runtime.compile_model(model, "CPU", options)
    framework = dict(model.get_rt_info().items()).get("framework", {})
    request = compiled.create_infer_request()
    return Session(
        inputs=[node.any_name for node in compiled.inputs],
        outputs=[_openvino_name(node.names, node.node.friendly_name) for node in compiled.outputs],
        run=lambda feed: list(request.infer(feed).values()),
        metadata={key: str(value.value) for key, value in framework.items()},
    )


def _openvino_name(names: Collection[str], friendly: str) -> str:
    """The name that the file gives to an output, which OpenVINO also calls by that of the operation before it."""
    given = friendly.split("/")[0]
    return given if given in names else min(names)


RUNTIMES: dict[str, Callable[[bytes | Path, str | None], Session]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino-bf16": partial(_openvino, precision="bf16"),
}
