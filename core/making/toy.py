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
from sopose.core.bop.fields import CAMERA_NAME, write_camera
from sopose.core.bop.models import write_model, write_models_info
from sopose.core.bop.scene import ImageRecord, load_split, read_mask, read_rgb
from sopose.core.bop.splits import resolve_split
from sopose.core.bop.targets import make_targets, write_targets
from sopose.core.geometry.camera import pixel_grid, pixel_rays, project
from sopose.core.geometry.pose import Pose
from sopose.core.geometry.rotation import random_rotation
from sopose.core.images.files import write_image
from sopose.core.making.toy_models import toy_models
from sopose.core.render.ground import Ground, plane_behind, random_texture
from sopose.core.render.lights import LightRange
from sopose.core.render.looks import Body
from sopose.core.render.materials import Material
from sopose.core.render.packed import Scene
from sopose.core.render.shade import Shading, render_rgb
from sopose.core.render.visibility import annotate_scene
from sopose.core.synthesis.rendered_image import RenderedImage
from sopose.core.synthesis.scene_files import DEPTH_SCALE_MM, Entries, make_folders, write_image_files, write_scene_json
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import read_json, write_json

VERSION = 2  # of what is drawn: another version makes another data set of the same parameters
PARAMETERS_NAME = "dataset_info.json"
IMAGES_PER_SCENE = 60
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
    write_camera(root / CAMERA_NAME, options.K, (options.width, options.height), DEPTH_SCALE_MM)
    counts = {"train": options.num_train, "test": options.num_test}
    for code, (split, count) in enumerate(counts.items()):
        _write_split(root / split, options, code, count, workers, progress)
    records = {split: load_split(resolve_split(f"{root}:{split}", root.parent)) for split in counts}
    write_targets(root / TARGETS_NAME, make_targets(records["test"]))
    write_image(root / "overview.png", overview([*records["train"][:8], *records["test"][:8]]))
    write_json(root / PARAMETERS_NAME, _parameters(options))


def _write_split(
    split_dir: Path, options: ToyOptions, split_code: int, count: int, workers: int, progress: bool
) -> None:
    """Write the scenes of a split; the image `i` depends on the seed, the split and `i` alone."""
    from joblib import Parallel, delayed

    starts = range(0, count, IMAGES_PER_SCENE)
    for start in starts:
        make_folders(_scene_dir(split_dir, start))
    jobs = (delayed(_write_image)(_scene_dir(split_dir, index), index, options, split_code) for index in range(count))
    done = Parallel(n_jobs=workers, return_as="generator")(jobs)
    entries = list(tqdm(done, split_dir.name, count, unit="image", disable=not progress))
    for start in starts:
        write_scene_json(_scene_dir(split_dir, start), entries[start : start + IMAGES_PER_SCENE])


def _scene_dir(split_dir: Path, index: int) -> Path:
    return split_dir / f"{1 + index // IMAGES_PER_SCENE:06d}"


def _write_image(scene_dir: Path, index: int, options: ToyOptions, split_code: int) -> Entries:
    """Draw and write one image; its entries of the scene's json files."""
    rng = np.random.default_rng([options.seed, split_code, index])
    return write_image_files(scene_dir, index % IMAGES_PER_SCENE, draw_image(rng, options))


def draw_image(rng: np.random.Generator, options: ToyOptions) -> RenderedImage:
    """One image with its annotations."""
    bodies, size = sample_bodies(rng, options), (options.width, options.height)
    posed = [body.model.caster for body in bodies], [body.pose for body in bodies]
    masks, info = annotate_scene(*posed, options.K, size)
    owner = sum(number * visible.astype(np.uint8) for number, (_, visible) in enumerate(masks, start=1))
    outlines = cv2.morphologyEx(owner, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    ground = sample_plane(rng, bodies)
    image, depth = _photograph(rng, Scene(options.K, bodies, LIGHTS.draw(rng), ground), outlines, size)
    objects = [(body.model.obj_id, body.pose) for body in bodies]
    return RenderedImage(image, np.where(np.isfinite(depth), depth, 0.0), options.K, objects, masks, info)


_models = lru_cache(maxsize=1)(toy_models)  # once in each process


def sample_bodies(rng: np.random.Generator, options: ToyOptions) -> list[Body]:
    """Three or four objects, any way up, with their centres in the image and apart from each other."""
    objects = _models()
    ids = rng.choice(list(objects), int(rng.integers(3, 5)), replace=bool(rng.random() < 0.2))
    while True:
        bodies: list[Body] = []
        for obj_id in ids:
            model = objects[int(obj_id)]
            center = _free_place(rng, bodies, model.diameter, options)
            if center is None:
                break
            material = Material(specular=rng.uniform(0, 0.06), roughness=rng.uniform(0.4, 0.8))
            bodies.append(Body(model, Pose(random_rotation(rng), center), material))
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
    centers = np.array([body.pose.cam_t_obj for body in bodies])
    radii = np.array([body.model.diameter / 2 for body in bodies])
    touching = plane_behind(centers, radii, MAX_TILT, 0.0, rng)
    away = -touching.cam_R_obj[:, 2]
    pose = Pose(touching.cam_R_obj, touching.cam_t_obj + rng.uniform(0, 0.05) * away)
    return Ground(pose, random_texture(rng), TEXTURE_SIZE)


def _photograph(
    rng: np.random.Generator, scene: Scene, outlines: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The scene as (H, W, 3) uint8 BGR with a camera's blur and noise, and its depth (H, W) in metres. size is (W, H).

    Pixels of the mask `outlines` (H, W) are the mean of several samples, so that they are smooth.
    """
    grid, n = pixel_grid(*size), SAMPLES_PER_SIDE
    seen = render_rgb(scene, grid.reshape(-1, 2), SHADING)
    image = seen.rgb.reshape(*grid.shape[:2], 3).astype(np.float64)
    within = (pixel_grid(n, n).reshape(-1, 2) - (n - 1) / 2) / n  # around a pixel's centre
    samples = render_rgb(scene, (grid[outlines][:, None] + within).reshape(-1, 2), SHADING)
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
