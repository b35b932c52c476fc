"""A process that reads files of anybody: for each it reports whether it gave a value, one line, or something else.

A line on stdin is `kind path`; the answer is a line of json: the outcome, words, and megabytes of memory more than
before. Address space is limited, so that whoever asks for gigabytes gets a MemoryError.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sopose.core.bop.detections import read_detections
from sopose.core.bop.fields import read_camera
from sopose.core.bop.models import load_model, load_models
from sopose.core.bop.results import read_results
from sopose.core.bop.scene import load_split
from sopose.core.bop.splits import resolve_split
from sopose.core.bop.targets import load_targets
from sopose.core.detection.facts import read_facts
from sopose.core.engine.checkpoint import model_weights, read_checkpoint
from sopose.core.engine.facts import FACTS, plain_facts
from sopose.core.images.files import read_header, read_image
from sopose.core.objects.cad_files import read_cad
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_arrays, read_json
from sopose.inference.checkpoint_facts import read_network_facts
from sopose.inference.onnx_network import read_onnx
from sopose.settings import load_settings

MORE = 1 << 30  # bytes of address space beyond what the process has once it is warm


def read_ply_twice(path: Path) -> None:
    """As an object of a data set, and as a CAD file."""
    with contextlib.suppress(UserError):
        load_model(path, 1, "a")
    read_cad(path)


def read_weights(path: Path) -> None:
    """What tools take from a checkpoint before a network is made of it."""
    state = read_checkpoint(path)
    model_weights(state, path)
    with contextlib.suppress(UserError):
        read_facts(plain_facts(state), str(path))
    read_network_facts(state, path)


READERS: dict[str, Callable[[Path], Any]] = {
    "csv": read_results,
    "detections": read_detections,
    "targets": load_targets,
    "camera": read_camera,
    "scene": lambda path: load_split(resolve_split(f"{path.parents[2]}:test", path.parents[3])),
    "models_info": lambda path: load_models(path.parent),
    "ply": read_ply_twice,
    "mesh": read_cad,
    "mtl": lambda path: read_cad(path.with_suffix(".obj")),
    "config": load_settings,
    "weights": read_weights,
    "facts": lambda path: read_network_facts({FACTS: read_json(path)}, path),
    "onnx": lambda path: read_network_facts(read_onnx(path)[1], path),
    "arrays": lambda path: read_arrays(path, None),
    "image": lambda path: (read_header(path), read_image(path)),
}


def answer(kind: str, path: Path) -> tuple[str, str]:
    """The outcome of one file: "value", "refused" or "fault", and what was said."""
    try:
        READERS[kind](path)
    except UserError as error:
        return ("refused", str(error)) if "\n" not in str(error) else ("fault", f"two lines: {error}")
    except BaseException:
        return "fault", traceback.format_exc()
    return "value", ""


def memory(which: str) -> int:
    """Bytes of this process by /proc: VmSize, or VmHWM, the most that was resident."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


def main() -> None:
    """Answer until stdin ends. The first lines are good files, which warm it up; then comes the word `go`."""
    logging.disable(logging.CRITICAL)
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints
    before = 0
    for line in sys.stdin:
        if line.strip() == "go":
            resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + MORE,) * 2)
            before = memory("VmHWM")
            continue
        kind, _, name = line.rstrip("\n").partition(" ")
        outcome, words = answer(kind, Path(name))
        print(json.dumps([outcome, words, max(memory("VmHWM") - before, 0) >> 20]), file=channel)


if __name__ == "__main__":
    main()
