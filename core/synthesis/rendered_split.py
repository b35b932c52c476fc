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

import cv2
import numpy as np

from sopose.core.bop.models import load_models
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.synthesis.backgrounds import Backgrounds
from sopose.core.synthesis.rendered_image import ImageOptions, RenderedImage, render_image
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, require_writable_dir
from sopose.core.utils.parallel import run_jobs
from sopose.core.utils.units import M_TO_MM

VERSION = 1  # of what is drawn: another version makes other images of the same parameters
HEADER_NAME = "generated.json"
DEPTH_SCALE_MM = 0.1  # millimetres a step in depth files
JPEG_QUALITY = 95
PNG_LEVEL = 1  # zlib's: more takes several times as long and saves a tenth


@dataclass(frozen=True)
class SplitPlan:
    """What a split is made of; sent to every process."""

    split_dir: Path
    models_dir: Path
    options: ImageOptions
    images: int
    seed: int = 0
    images_per_scene: int = 50
    rgb_format: Literal["jpg", "png"] = "jpg"
    backgrounds_dir: Path | None = None
    object_ids: tuple[int, ...] = ()  # that stand in the images; all models where empty

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
    models, _, backgrounds = _loaded(plan)
    header = parameters(plan, models, backgrounds)
    todo = [scene for scene in plan.scenes if not is_written(plan, scene, header)]
    _check_surplus(plan)
    _remove_parts(plan)
    sizes = [len(plan.scene_images(scene)) for scene in todo]
    description = plan.split_dir.name if progress else ""
    done = run_jobs(partial(_write_scene, plan, header), todo, workers, cluster, description, "image", sizes)
    return sum(1 for _ in done)


def parameters(plan: SplitPlan, models: dict[int, ObjectModel], backgrounds: Backgrounds) -> dict[str, Any]:
    """What the images follow from, told by a scene's `generated.json`: a hash, and the words to start them again."""
    digest = hashlib.sha256()
    given = {**asdict(plan), "split_dir": "", "models_dir": "", "backgrounds_dir": "", "images": 0}
    digest.update(json.dumps([VERSION, given], sort_keys=True, default=_plain).encode())
    for model in models.values():
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
    """Remove what a killed run has left."""
    for path in plan.split_dir.glob(".[0-9]*.part"):
        shutil.rmtree(path, ignore_errors=True)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _loaded(plan: SplitPlan) -> tuple[dict[int, ObjectModel], dict[int, RayCaster], Backgrounds]:
    """The plan's models, casters and backgrounds, once in each process."""
    return _load(plan.models_dir, plan.object_ids, plan.backgrounds_dir)


@lru_cache(maxsize=1)
def _load(
    models_dir: Path, object_ids: tuple[int, ...], backgrounds_dir: Path | None
) -> tuple[dict[int, ObjectModel], dict[int, RayCaster], Backgrounds]:
    models = load_models(models_dir, object_ids or None)
    casters = {obj_id: RayCaster(model.vertices, model.faces) for obj_id, model in models.items()}
    return models, casters, Backgrounds(backgrounds_dir)


def _write_scene(plan: SplitPlan, header: dict[str, Any], scene: int) -> int:
    """Write one scene; its number of images."""
    folder = plan.scene_dir(scene)
    beside = folder.with_name(f".{folder.name}.{socket.gethostname()}.{os.getpid()}.part")
    images = plan.scene_images(scene)
    try:
        for name in ("rgb", "depth", "mask", "mask_visib"):
            (beside / name).mkdir(parents=True)
        entries = [_write_image(plan, beside, im_id, number) for im_id, number in enumerate(images)]
        for name in ("scene_camera", "scene_gt", "scene_gt_info"):
            content = {str(im_id): entry[name] for im_id, entry in enumerate(entries)}
            (beside / f"{name}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
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


def _write_image(plan: SplitPlan, folder: Path, im_id: int, number: int) -> dict[str, Any]:
    """Render image `number` of the split and write its files; its entries of the scene's json files."""
    models, casters, backgrounds = _loaded(plan)
    rendered = render_image(models, casters, plan.options, backgrounds, np.random.default_rng([plan.seed, number]))
    _save(folder / "rgb" / f"{im_id:06d}.{plan.rgb_format}", rendered.image)
    steps = np.minimum(np.rint(rendered.depth * (M_TO_MM / DEPTH_SCALE_MM)), 65535).astype(np.uint16)
    _save(folder / "depth" / f"{im_id:06d}.png", steps)
    for index, pair in enumerate(rendered.masks):
        for name, mask in zip(("mask", "mask_visib"), pair, strict=True):
            _save(folder / name / f"{im_id:06d}_{index:06d}.png", mask.view(np.uint8) * np.uint8(255))
    return {
        "scene_camera": {"cam_K": plan.options.K.reshape(-1).tolist(), "depth_scale": DEPTH_SCALE_MM},
        "scene_gt": _gt_entries(rendered),
        "scene_gt_info": rendered.info,
    }


def _gt_entries(rendered: RenderedImage) -> list[dict[str, Any]]:
    return [
        {
            "cam_R_m2c": pose.cam_R_obj.reshape(-1).tolist(),
            "cam_t_m2c": (M_TO_MM * pose.cam_t_obj).tolist(),
            "obj_id": obj_id,
        }
        for obj_id, pose in rendered.objects
    ]


def _save(path: Path, image: np.ndarray) -> None:
    # Not `write_image`: the scene appears at once, so its files need no names of their own on the way.
    options = [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL, cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    encoded, data = cv2.imencode(path.suffix, image, options)
    if not encoded:
        raise UserError(f"{path} cannot be written as an image; choose another --format")
    path.write_bytes(data)


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
