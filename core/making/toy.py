"""A true BOP data set made from nothing: toy objects before a textured plane, with exact annotations.

Small enough to make in a minute and to learn in a few, so that every step from training to the BOP
scores can be run and tested without a download.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from sopose.core.bop.catalog import TARGETS_NAME, TOY
from sopose.core.bop.models import write_model, write_models_info
from sopose.core.bop.scene import ImageRecord, load_split, read_mask, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.bop.targets import make_targets, write_targets
from sopose.core.geometry.camera import pixel_grid, pixel_rays, project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.making.toy_models import toy_models
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.raycast import RayCaster
from sopose.core.render.ground import Ground, random_texture
from sopose.core.render.lights import LightRange
from sopose.core.render.materials import Material
from sopose.core.render.shade import Body, Shading, render_rgb
from sopose.core.render.visibility import scene_gt_info, scene_visibility
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, write_image, write_json
from sopose.core.utils.units import M_TO_MM

VERSION = 2  # of what is drawn: another version makes another data set of the same parameters
PARAMETERS_NAME = "dataset_info.json"
IMAGES_PER_SCENE = 60
DEPTH_SCALE_MM = 0.1  # millimetres a step in depth files, as YCB-V has it
SAMPLES_PER_SIDE = 2  # of a pixel on an outline, which is smooth in a photograph
DISTANCE = (0.4, 0.9)  # metres, of object centres along the optical axis
MAX_TILT = np.radians(35)  # of the plane behind the objects, against the image plane
TEXTURE_SIZE = 0.8  # metres of the plane that its texture covers before it repeats
LIGHTS = LightRange(size=(0.0, 0.0))
SHADING = Shading(ambient_occlusion=False)


@dataclass(frozen=True)
class ToyOptions:
    """What the images depend on; the same options give the same bytes."""

    num_train: int = 240
    num_test: int = 40
    seed: int = 0
    width: int = 320
    height: int = 240

    @property
    def K(self) -> np.ndarray:
        """Intrinsics (3, 3): 45° wide, the principal point and focal lengths a little off the ideal."""
        f = 1.2 * self.width
        center = ((self.width - 1) / 2 - 2.25, (self.height - 1) / 2 + 1.75)
        return np.array([[f, 0, center[0]], [0, 1.01 * f, center[1]], [0, 0, 1.0]])


def make_toy_dataset(
    root: Path,
    num_train: int = 240,
    num_test: int = 40,
    seed: int = 0,
    image_size: tuple[int, int] = (320, 240),
    workers: int = 1,
    progress: bool = False,
) -> bool:
    """Write the data set into the folder `root`; False where it is already there with these parameters.

    `image_size` is (W, H). The bytes depend on the parameters alone, not on `workers`. The folder
    appears at once when all is written. Raises `UserError` where `root` holds something else.
    """
    root = Path(root)
    options = ToyOptions(num_train, num_test, seed, *image_size)
    if min(num_train, num_test) < 1 or min(image_size) < 32:
        raise UserError(f"a toy data set needs an image of each split and 32 pixels a side, got {options}")
    if _is_there(root, options):
        return False
    root.parent.mkdir(parents=True, exist_ok=True)
    beside = root.parent / f".{root.name}.{os.getpid()}.part" / TOY.folder
    try:
        _write_dataset(beside, options, workers, progress)
        os.replace(beside, root)
    except OSError as error:
        if not _is_there(root, options):  # else another process was quicker, with the same bytes
            raise UserError(f"the toy data set cannot be written to {root} ({error}); choose another") from error
        return False
    finally:
        shutil.rmtree(beside.parent, ignore_errors=True)
    return True


def _parameters(options: ToyOptions) -> dict[str, Any]:
    return {"generator": "toy", "version": VERSION, **asdict(options)}


def _is_there(root: Path, options: ToyOptions) -> bool:
    """Whether `root` is complete with these options; `UserError` where it is something else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    path = root / PARAMETERS_NAME
    found = read_json(path) if path.is_file() else None
    if found != _parameters(options):
        what = f"a toy data set with other parameters ({found})" if found else "no toy data set"
        raise UserError(f"{root} exists and is {what}; remove it or choose another folder")
    return True


def _write_dataset(root: Path, options: ToyOptions, workers: int, progress: bool) -> None:
    models = toy_models()
    for folder in ("models", "models_eval"):
        for model in models.values():
            write_model(root / folder / f"obj_{model.obj_id:06d}.ply", model)
        write_models_info(root / folder, models.values())
    _write_camera(root, options)
    counts = {"train": options.num_train, "test": options.num_test}
    for code, (split, count) in enumerate(counts.items()):
        _write_split(root / split, options, code, count, workers, progress)
    records = {split: load_split(resolve_split(f"{root}:{split}", root.parent)) for split in counts}
    write_targets(root / TARGETS_NAME, make_targets(records["test"]))
    write_image(root / "overview.png", overview([*records["train"][:8], *records["test"][:8]]))
    write_json(root / PARAMETERS_NAME, _parameters(options))


def _write_camera(root: Path, options: ToyOptions) -> None:
    K = options.K
    camera = {"cx": K[0, 2], "cy": K[1, 2], "fx": K[0, 0], "fy": K[1, 1], "depth_scale": DEPTH_SCALE_MM}
    write_json(root / "camera.json", {**camera, "width": options.width, "height": options.height})


def _write_split(
    split_dir: Path, options: ToyOptions, split_code: int, count: int, workers: int, progress: bool
) -> None:
    """Write the scenes of a split; the image `i` depends on the seed, the split and `i` alone."""
    from joblib import Parallel, delayed

    for index in range(0, count, IMAGES_PER_SCENE):
        for folder in ("rgb", "depth", "mask", "mask_visib"):
            (_scene_dir(split_dir, index) / folder).mkdir(parents=True)
    jobs = (delayed(_write_image)(_scene_dir(split_dir, index), index, options, split_code) for index in range(count))
    done = Parallel(n_jobs=workers, return_as="generator")(jobs)
    entries = list(tqdm(done, split_dir.name, count, unit="image", disable=not progress))
    for start in range(0, count, IMAGES_PER_SCENE):
        for name, key in (("scene_camera", "camera"), ("scene_gt", "gt"), ("scene_gt_info", "gt_info")):
            scene = entries[start : start + IMAGES_PER_SCENE]
            content = {str(im_id): entry[key] for im_id, entry in enumerate(scene)}
            write_json(_scene_dir(split_dir, start) / f"{name}.json", content, indent=None)


def _scene_dir(split_dir: Path, index: int) -> Path:
    return split_dir / f"{1 + index // IMAGES_PER_SCENE:06d}"


@lru_cache(maxsize=1)
def _objects() -> dict[int, tuple[RayCaster, ObjectModel]]:
    """The objects with their ray casters, once in each process."""
    return {k: (RayCaster(model.vertices, model.faces), model) for k, model in toy_models().items()}


def _write_image(scene_dir: Path, index: int, options: ToyOptions, split_code: int) -> dict[str, Any]:
    """Draw and write one image; its entries of scene_camera, scene_gt and scene_gt_info."""
    rng = np.random.default_rng([options.seed, split_code, index])
    im_id, size, K = index % IMAGES_PER_SCENE, (options.width, options.height), options.K
    bodies = sample_bodies(rng, options)
    casters, poses = [body.caster for body in bodies], [body.pose for body in bodies]
    masks = scene_visibility(casters, poses, K, size)
    owner = sum(number * visible.astype(np.uint8) for number, (_, visible) in enumerate(masks, start=1))
    outlines = cv2.morphologyEx(owner, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    image, depth = _photograph(rng, bodies, sample_plane(rng, bodies), outlines, options)

    _save(scene_dir / "rgb" / f"{im_id:06d}.png", image)
    steps = np.where(np.isfinite(depth), np.rint(depth * M_TO_MM / DEPTH_SCALE_MM), 0)
    _save(scene_dir / "depth" / f"{im_id:06d}.png", np.minimum(steps, 65535).astype(np.uint16))
    for number, pair in enumerate(masks):
        for folder, mask in zip(("mask", "mask_visib"), pair, strict=True):
            _save(scene_dir / folder / f"{im_id:06d}_{number:06d}.png", 255 * mask.astype(np.uint8))
    return {
        "camera": {"cam_K": K.reshape(-1).tolist(), "depth_scale": DEPTH_SCALE_MM},
        "gt": [_gt_entry(body) for body in bodies],
        "gt_info": scene_gt_info(casters, poses, K, size),
    }


def _save(path: Path, image: np.ndarray) -> None:
    # Not `write_image`: the whole folder appears at once, so its files need no sync of their own.
    if not cv2.imwrite(str(path), image):
        raise UserError(f"{path} cannot be written; is the disk full?")


def _gt_entry(body: Body) -> dict[str, Any]:
    return {
        "cam_R_m2c": body.pose.cam_R_obj.reshape(-1).tolist(),
        "cam_t_m2c": (M_TO_MM * body.pose.cam_t_obj).tolist(),
        "obj_id": body.model.obj_id,
    }


def sample_bodies(rng: np.random.Generator, options: ToyOptions) -> list[Body]:
    """Three or four objects, any way up, with their centres in the image and apart from each other."""
    objects = _objects()
    ids = rng.choice(list(objects), int(rng.integers(3, 5)), replace=bool(rng.random() < 0.2))
    while True:
        bodies: list[Body] = []
        for obj_id in ids:
            caster, model = objects[int(obj_id)]
            center = _free_place(rng, bodies, model.diameter, options)
            if center is None:
                break
            material = Material(specular=rng.uniform(0, 0.06), roughness=rng.uniform(0.4, 0.8))
            bodies.append(Body(caster, model, Pose(random_rotation(rng), center), material))
        if len(bodies) == len(ids):
            return bodies


def _free_place(
    rng: np.random.Generator, bodies: Sequence[Body], diameter: float, options: ToyOptions
) -> np.ndarray | None:
    """A centre (3,) whose ball is clear of the others, often before or behind one; None after some trials."""
    size = np.array([options.width, options.height])
    for _ in range(50):
        uv = rng.uniform(0.1, 0.9, 2) * (size - 1)
        if bodies and rng.random() < 0.6:
            neighbour = bodies[rng.integers(len(bodies))].pose.cam_t_obj
            spread = 0.5 * options.K[0, 0] * diameter / neighbour[2]
            uv = project(neighbour, options.K) + rng.normal(size=2) * spread
        center = rng.uniform(*DISTANCE) * pixel_rays(options.K, uv)
        inside = (uv >= 0.05 * size).all() and (uv <= 0.95 * size).all()
        clear = all(
            np.linalg.norm(center - body.pose.cam_t_obj) > (diameter + body.model.diameter) / 2 for body in bodies
        )
        if inside and clear:
            return center
    return None


def sample_plane(rng: np.random.Generator, bodies: Sequence[Body]) -> Ground:
    """A textured plane behind all objects, tilted, so close that they throw shadows on it."""
    tilt, turn = rng.uniform(0, MAX_TILT), rng.uniform(0, 2 * np.pi)
    away = np.array([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    reach = max(away @ body.pose.cam_t_obj + body.model.diameter / 2 for body in bodies)
    across = np.cross(away, rng.normal(size=3))
    across /= np.linalg.norm(across)
    cam_R_plane = np.stack([across, np.cross(across, away), -away], axis=1)
    pose = Pose(cam_R_plane, (reach + rng.uniform(0, 0.05)) * away)
    return Ground(pose, random_texture(rng), TEXTURE_SIZE)


def _photograph(
    rng: np.random.Generator, bodies: Sequence[Body], ground: Ground, outlines: np.ndarray, options: ToyOptions
) -> tuple[np.ndarray, np.ndarray]:
    """The scene as (H, W, 3) uint8 BGR with a camera's blur and noise, and its depth (H, W) in metres.

    Pixels of the mask `outlines` (H, W) are the mean of several samples, so that they are smooth.
    """
    lights, n = LIGHTS.draw(rng), SAMPLES_PER_SIDE
    grid = pixel_grid(options.width, options.height)
    seen = render_rgb(bodies, options.K, grid.reshape(-1, 2), lights, SHADING, ground)
    image = seen.rgb.reshape(*grid.shape[:2], 3).astype(np.float64)
    within = (pixel_grid(n, n).reshape(-1, 2) - (n - 1) / 2) / n  # around a pixel's centre
    positions = (grid[outlines][:, None] + within).reshape(-1, 2)
    samples = render_rgb(bodies, options.K, positions, lights, SHADING, ground)
    image[outlines] = samples.rgb.reshape(-1, n * n, 3).mean(axis=1)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8))
    image += rng.normal(0, rng.uniform(0, 5), image.shape)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)[:, :, ::-1], seen.depth.reshape(grid.shape[:2])


def overview(records: Iterable[ImageRecord], columns: int = 4) -> np.ndarray:
    """A sheet of images (BGR) with the outlines of the objects' visible parts, numbered by object."""
    tiles = []
    for record in records:
        tile = read_rgb(record)
        for instance in record.instances:
            color = tuple(255 * (instance.obj_id >> bit & 1) for bit in range(3))
            if instance.mask_visib_path is not None:
                mask = read_mask(instance.mask_visib_path).astype(np.uint8)
                outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(tile, outlines, -1, color, 1)
            at = np.rint(project(instance.pose.cam_t_obj, record.K)).astype(int).tolist()
            cv2.putText(tile, str(instance.obj_id), at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)])
