"""Run `sopose` as in an environment that has the base packages alone: `python only_base.py VERB ...`, or a script.

Every other package is refused by name, so that what an import needs shows without another environment.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from importlib.machinery import ModuleSpec

# What pyproject.toml's dependencies are imported by, and what they need themselves.
BASE = ("numpy", "cv2", "onnxruntime", "flatbuffers", "google", "packaging", "yaml", "tqdm", "sopose")


class OnlyBase:
    """Finds no package that isn't Python's own or one of `BASE`."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in BASE or top.startswith("_"):
            return None
        raise ModuleNotFoundError(f"No module named '{name}' here", name=name)


def has_package(name: str, package: str | None = None) -> ModuleSpec | None:
    """`importlib.util.find_spec`, which gives None for what isn't installed."""
    try:
        return FIND_SPEC(name, package)
    except ModuleNotFoundError:
        return None


if __name__ == "__main__":
    FIND_SPEC = importlib.util.find_spec
    importlib.util.find_spec = has_package
    sys.meta_path.insert(0, OnlyBase())
    if sys.argv[1:2] and sys.argv[1].endswith(".py"):
        runpy.run_path(sys.argv[1], run_name="__main__")
    else:
        from sopose.cli.main import run

        run()
