"""The symmetries of models that are there, or of mesh files: searched, printed, drawn, and written where asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from sopose.core.images.files import require_image_name, write_image
from sopose.core.objects.cad_files import read_cad
from sopose.core.objects.cad_mesh import cleaned, object_model, with_normals
from sopose.core.objects.mesh_files import METERS
from sopose.core.objects.model import ObjectModel
from sopose.core.symmetry.find_symmetry import Symmetries
from sopose.core.symmetry.suggestions import (
    describe,
    folder_models,
    found_fields,
    require_unset,
    suggest_symmetries,
    write_symmetries,
)
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_writable_file
from sopose.core.vis.maps import stack
from sopose.core.vis.symmetry_views import symmetry_sheet


@dataclass(frozen=True)
class SymmetriesOptions:
    """What `sopose symmetries` takes."""

    models: Sequence[Path]  # a folder of BOP models, or mesh files
    output: Path  # the picture
    objects: Sequence[int] | None = None  # of the folder; all
    units: str = "mm"  # of mesh files that don't state their own, one of `METERS`
    tolerance: Tolerance = field(default_factory=Tolerance)
    write: bool = False  # into the folder's models_info.json
    overwrite: bool = False  # also in place of others that it has


def find_and_draw(options: SymmetriesOptions) -> dict[int, Symmetries]:
    """Search, print, draw, and write where that is asked for; what was found by the models' ids.

    Raises `UserError` before any work for models that are missing or wrong, a picture that cannot be written, and
    symmetries that would be written over.
    """
    require_writable_file(require_image_name(options.output))
    folder = options.models[0] if len(options.models) == 1 and options.models[0].is_dir() else None
    if folder is None and (options.write or options.objects):
        raise UserError("--write and --objects need one folder of BOP models; sopose new makes one of files")
    if folder is None:
        models = {model.obj_id: model for model in _file_models(options.models, options.units)}
    else:
        models = folder_models(folder, options.objects)
    if options.write and not options.overwrite:
        require_unset(folder, list(models))
    found = {}
    for obj_id, model in tqdm(models.items(), desc="models", disable=len(models) == 1):
        found[obj_id] = suggest_symmetries(model, options.tolerance)
    for obj_id, model in models.items():
        print("\n".join(_report(model, found[obj_id])))
    sheets = [symmetry_sheet(model, found[obj_id], options.tolerance) for obj_id, model in models.items()]
    write_image(options.output, stack(sheets))
    print(f"drawn in {options.output}")
    if options.write:
        print(f"written to {write_symmetries(folder, models, found)}")
    return found


def _file_models(paths: Sequence[Path], units: str) -> Iterator[ObjectModel]:
    """The mesh files as models, numbered in their order."""
    for number, path in enumerate(paths, start=1):
        if path.is_dir():
            raise UserError(f"{path} is a folder: give one folder of BOP models, or mesh files")
        file = read_cad(path)
        mesh, _ = cleaned(file.mesh, str(path))
        yield object_model(with_normals(mesh.scaled(METERS[file.unit or units])), number, path.stem)


def _report(model: ObjectModel, found: Symmetries) -> list[str]:
    """Lines that say what was found, what was missed by little, and BOP's form of it."""
    counts = f"{len(found.discrete)} discrete, {len(found.continuous)} continuous"
    lines = [f"{model.obj_id} {model.name}: {counts}"]
    lines += [f"  {line}" for line in describe(found, model.diameter)]
    lines += [f'  "{key}": {json.dumps(value)}' for key, value in found_fields(found).items()]
    return lines
