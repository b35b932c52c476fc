"""A BOP split of rendered images: written scene by scene, each whole or not at all, in any number of processes.

A scene is written into a folder beside its own and renamed when all is on the disk. Its `generated.json` says what it
was made from. Image i depends on the parameters, the seed and i alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sopose.core.bop.models import load_models
from sopose.core.objects.model import ObjectModel
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.rendered_image import render_image, render_view
from sopose.core.synthesis.scene_files import Entries, make_folders, write_image_files, write_scene_json
from sopose.core.synthesis.scenes import SceneDrawer, SceneOptions
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, require_writable_dir
from sopose.core.utils.parallel import run_jobs

VERSION = 2  # of what is drawn: another version makes other images of the same parameters
HEADER_NAME = "generated.json"
STATIC = 1  # of a seed: the scene, not an image


@dataclass(frozen=True)
class SplitPlan:
    """What a split is made of; sent to every process."""

    split_dir: Path
    models_dir: Path
    options: SceneOptions
    images: int
    seed: int = 0
    images_per_scene: int = 50
    rgb_format: Literal["jpg", "png"] = "jpg"
    backgrounds_dir: Path | None = None
    backgrounds_left_out: tuple[str, ...] = ()  # patterns as of `Backgrounds`
    object_ids: tuple[int, ...] = ()  # that stand in the images; all models where empty
    static: bool = False  # whether a scene's images show one arrangement, each from another place

    def __post_init__(self) -> None:
        if min(self.images, self.images_per_scene) < 1 or self.seed < 0:
            raise UserError("the numbers of images and of images a scene must be at least 1, the seed at least 0")

    @property
    def scenes(self) -> range:
        """Numbers of the scenes, from 1 on, as BOP's training sets."""
        return range(1, 1 + -(-self.images // self.images_per_scene))

    def scene_images(self, scene: int) -> range:
        """Numbers, within the split, of a scene's images."""
        start = (scene - 1) * self.images_per_scene
        return range(start, min(start + self.images_per_scene, self.images))

    def scene_dir(self, scene: int) -> Path:
        """Where a scene is when it is whole."""
        return self.split_dir / f"{scene:06d}"


def write_split(plan: SplitPlan, workers: int = -1, cluster: str | None = None, progress: bool = True) -> int:
    """Write the scenes that are not there yet; how many were. `workers` and `cluster` as `run_jobs` has them.

    Raises `UserError` where a scene that is there was made otherwise.
    """
    require_writable_dir(plan.split_dir)
    drawer = _drawer(plan)
    header = parameters(plan, drawer.models, drawer.backgrounds)
    todo = [scene for scene in plan.scenes if not is_written(plan, scene, header)]
    _check_surplus(plan)
    _remove_parts(plan)
    sizes = [len(plan.scene_images(scene)) for scene in todo]
    description = plan.split_dir.name if progress else ""
    done = run_jobs(partial(_write_scene, plan, header), todo, workers, cluster, description, "image", sizes)
    written = sum(1 for _ in done)
    _remove_parts(plan)
    return written


def parameters(plan: SplitPlan, models: dict[int, ObjectModel], backgrounds: Backgrounds) -> dict[str, Any]:
    """What the images follow from, for a scene's `generated.json`: a hash, and the words to start them again."""
    digest = hashlib.sha256()
    given = {**asdict(plan), "split_dir": "", "models_dir": "", "backgrounds_dir": "", "images": 0}
    del given["backgrounds_left_out"]  # the photographs themselves follow
    if not plan.static:
        del given["static"]  # splits that were written before it was known
    digest.update(json.dumps([VERSION, given], sort_keys=True, default=_plain).encode())
    for model in models.values():
        digest.update(b"about the middle" if model.middle.any() else b"")  # about the origin before
        for array in (model.vertices, model.faces, model.normals, model.colors, model.uv, model.texture):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    for path in backgrounds.paths:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return {"generator": "cad", "version": VERSION, "seed": plan.seed, "parameters": digest.hexdigest()[:32]}


def is_written(plan: SplitPlan, scene: int, header: dict[str, Any]) -> bool:
    """Whether a scene is there as the plan has it; `UserError` where something else is in its place."""
    folder = plan.scene_dir(scene)
    if not folder.exists():
        return False
    path = folder / HEADER_NAME
    found = read_json(path) if path.is_file() else None
    if found == {**header, "images": len(plan.scene_images(scene))}:
        return True
    what = "was made with other parameters" if isinstance(found, dict) else "was not made by this program"
    raise UserError(f"{folder} {what}; remove it, or choose another --split or --output")


def _check_surplus(plan: SplitPlan) -> None:
    """`UserError` where the split has scenes beyond the plan's: it would train on them too."""
    known = {plan.scene_dir(scene).name for scene in plan.scenes}
    more = sorted(path.name for path in plan.split_dir.glob("[0-9]*") if path.is_dir() and path.name not in known)
    if more:
        raise UserError(
            f"{plan.split_dir} has scenes beyond {plan.images} images ({more[0]} …); remove them or raise --images"
        )


def _remove_parts(plan: SplitPlan) -> None:
    """Remove what a killed run, or a lost worker of this one, has left."""
    for path in plan.split_dir.glob(".[0-9]*.part"):
        shutil.rmtree(path, ignore_errors=True)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _drawer(plan: SplitPlan) -> SceneDrawer:
    """What draws the plan's scenes."""
    models, backgrounds = _loaded(plan.models_dir, plan.object_ids, plan.backgrounds_dir, plan.backgrounds_left_out)
    return SceneDrawer(models, plan.options, backgrounds)


@lru_cache(maxsize=1)
def _loaded(
    models_dir: Path, object_ids: tuple[int, ...], backgrounds_dir: Path | None, left_out: tuple[str, ...]
) -> tuple[dict[int, ObjectModel], Backgrounds]:
    """Models and backgrounds, once in each process."""
    return load_models(models_dir, object_ids or None), Backgrounds(backgrounds_dir, left_out=left_out)


def _write_scene(plan: SplitPlan, header: dict[str, Any], scene: int) -> int:
    """Write one scene; its number of images."""
    folder = plan.scene_dir(scene)
    beside = folder.with_name(f".{folder.name}.{socket.gethostname()}.{os.getpid()}.part")
    images = plan.scene_images(scene)
    try:
        make_folders(beside)
        write_scene_json(beside, [_write_image(plan, beside, im_id, number) for im_id, number in enumerate(images)])
        (beside / HEADER_NAME).write_text(json.dumps({**header, "images": len(images)}) + "\n", encoding="utf-8")
        for path in _tree(beside):
            _sync(path)
        os.replace(beside, folder)
        _sync(folder.parent)
    except OSError as error:
        if not (folder.is_dir() and is_written(plan, scene, header)):  # else another worker was quicker
            reason = error.strerror or error
            raise UserError(f"{folder} cannot be written ({reason}); make room or choose another place") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return len(images)


def _write_image(plan: SplitPlan, folder: Path, im_id: int, number: int) -> Entries:
    """Render image `number` of the split and write its files; its entries of the scene's json files."""
    drawer, rng = _drawer(plan), np.random.default_rng([plan.seed, number])
    if plan.static:
        rendered = render_view(drawer, np.random.default_rng([plan.seed, number - im_id, STATIC]), rng)
    else:
        rendered = render_image(drawer, rng)
    return write_image_files(folder, im_id, rendered, plan.rgb_format)


def _tree(folder: Path) -> Iterator[Path]:
    """All files and folders of a folder, and itself."""
    yield from folder.rglob("*")
    yield folder


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
