"""A project: the folder that `sopose new` was run in, whose file `train`, `eval` and `predict` read there.

The file is a configuration like any other, so that all of it can be changed; --config-file takes another.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sopose.core.utils.errors import UserError
from sopose.core.utils.files import write_text
from sopose.settings import Settings, load_settings

NAME = Path("project.yaml")
REMEDY = f"give --config-file, or make a project by `sopose new`, which writes {NAME} into the folder it is run in"
FILE = """# Written by `sopose new`; `sopose train`, `eval` and `predict` read it in this folder. Change what you like:
# keys are in docs/configuration.md, and `sopose train --help-config GROUP` shows them.
_base_: configs/gdrn_selfocc/custom/cad_only_small.py
OUTPUT_DIR: {output}
DATASETS:
  TRAIN: [{train}]
CAD:
  Z_RANGE: [{near:.2g}, {far:.2g}]  # distances at which the camera will see the objects, metres
INPUT:
  BG_IMGS_ROOT: {photos}  # a folder of photographs of anything: needed for real images
"""


@dataclass(frozen=True)
class Project:
    """Where a project keeps what its verbs need."""

    file: Path
    dataset: Path  # the BOP folder with the models and camera.json
    output: Path  # of the pose network's run

    @property
    def detector(self) -> Path:
        """Folder of the detector's run."""
        return self.output / "detector"


def write_project(root: Path, near: float, far: float, photos: Path | None = None) -> Path:
    """Write the file of a project whose objects will be seen from so near and so far, metres, before photographs."""
    quoted = {"output": Path("output", root.name), "train": f"{root}:cad", "photos": photos or ""}
    texts = {name: json.dumps(str(value)) for name, value in quoted.items()}  # as YAML quotes them, too
    write_text(NAME, FILE.format(near=near, far=far, **texts))
    return NAME


def find_project(words: Sequence[str] = ()) -> tuple[Project, Settings] | None:
    """The project of this folder with its settings, `words` of --opts laid over them; None where there is none."""
    if not NAME.is_file():
        return None
    settings = load_settings(NAME, words)
    if not settings.datasets.train:
        raise UserError(f"{NAME}: DATASETS.TRAIN is empty; name the data set, or {REMEDY}")
    from sopose.core.bop.splits import resolve_split

    root = resolve_split(settings.datasets.train[0], Path(settings.datasets.root)).root
    return Project(NAME, root, Path(settings.output_dir)), settings


def require_config(given: Path | None) -> Path:
    """--config-file, or the project's file where it isn't given."""
    if given is None and not NAME.is_file():
        raise UserError(f"no configuration is given and this folder has no {NAME}; {REMEDY}")
    return given or NAME


def next_command(*words: str | Path) -> str:
    """A line that can be typed."""
    return f"  sopose {shlex.join(map(str, words))}"


def next_steps(root: Path, distances: tuple[float, float], photos: Path | None, added: bool) -> list[str]:
    """Write a project's file for a new data set, where there is none; lines that say so, and the next commands.

    distances: the nearest and the farthest that the objects will be seen from, metres. photos: a folder of backgrounds.
    added: to a data set that was there, for which no project is made.
    """
    near, far = distances
    if added or NAME.exists():
        config = "configs/gdrn_selfocc/custom/cad_only_small.py"
        range_ = f"CAD.Z_RANGE=({near:.2g},{far:.2g})"
        options = ["--config-file", config, "--opts", f"DATASETS.TRAIN=[{root}:cad]", range_]
        return ["next:", next_command("samples", *options), next_command("train", *options)]
    lines = [f"settings: {write_project(root, near, far, photos)}"]
    if photos is None:
        lines.append("no --photos were given: real images need a folder of them in INPUT.BG_IMGS_ROOT there")
    return [*lines, "next:", next_command("samples", "--config-file", NAME), next_command("train")]
