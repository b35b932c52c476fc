"""Which image files the folders of a BOP scene hold: the numbers in a file's name are its ids, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sopose.core.images.files import IMAGE_SUFFIXES, image_files
from sopose.core.utils.errors import UserError

MOST_DIGITS = 18  # of an id: what has more fits into no file of ids
CAMERA_NAME = "scene_camera.json"
IMAGE_FOLDERS = ("rgb", "gray")  # of a scene; the first that has an image gives it
MASK_FOLDERS = ("mask", "mask_visib")


@dataclass(frozen=True)
class SceneNames:
    """What files and folders of a BOP scene are called.

    Several sensors have their own, with the sensor's name at the end: `scene_camera_cam1.json`, `rgb_cam1`. HOT3D's
    folders of images have the name alone. Source: the BOP toolkit's `dataset_params.py`.
    """

    sensor: str = ""

    def of(self, name: str) -> str:
        """The sensor's own of a file or folder that a scene of one sensor calls `name`."""
        stem, dot, suffix = name.partition(".")
        return f"{stem}_{self.sensor}{dot}{suffix}" if self.sensor else name

    @property
    def image_folders(self) -> tuple[str, ...]:
        """Of colour and grey images; the first that has an image gives it."""
        own = tuple(map(self.of, IMAGE_FOLDERS))
        return (*own, self.sensor) if self.sensor else own


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The image files of a folder by their names without suffix, none without the folder.

    Of several with one name, that of the suffix which stands first in `IMAGE_SUFFIXES`.
    """
    order = {suffix: -place for place, suffix in enumerate(IMAGE_SUFFIXES)}
    return {path.stem: path for path in sorted(image_files(folder), key=lambda path: order[path.suffix.lower()])}


def images_by_ids(folder: Path, numbers: int) -> dict[tuple[int, ...], Path]:
    """The image files of a folder whose names are `numbers` numbers, `000003_000001`; other files are left out.

    Of several with the same numbers, that which is called as BOP calls it: `000003` before `3`.
    """
    named = {}
    for stem, path in images_by_stem(folder).items():
        ids = ids_of(stem)
        if len(ids) == numbers:
            named[ids, stem != bop_stem(*ids), stem] = path
    by_ids: dict[tuple[int, ...], Path] = {}
    for ids, other_name, stem in sorted(named):
        by_ids.setdefault(ids, named[ids, other_name, stem])
    return by_ids


def ids_of(stem: str) -> tuple[int, ...]:
    """The numbers in a file's name, as `bop_stem` writes them; none where the name is anything else."""
    parts = stem.split("_")
    named = all(part.isascii() and part.isdecimal() and len(part) <= MOST_DIGITS for part in parts)
    return tuple(map(int, parts)) if named else ()


def ids_by_place(stems: Sequence[str]) -> list[int]:
    """An id of its own for each of several names: its number, or, without one of its own, counted on from the largest.

    So no file changes the ids of others.
    """
    found: dict[int, int] = {}  # id -> place
    for place, stem in enumerate(stems):
        ids = ids_of(stem)
        if len(ids) == 1:
            found.setdefault(ids[0], place)
    numbered = {place: im_id for im_id, place in found.items()}
    further = count(max(found, default=-1) + 1)
    return [numbered[place] if place in numbered else next(further) for place in range(len(stems))]


def bop_stem(*ids: int) -> str:
    """BOP's name of a file without its suffix: `000003` of an image, `000003_000001` of an instance's mask."""
    return "_".join(f"{number:06d}" for number in ids)


def scene_images(scene_dir: Path, sensor: str = "") -> dict[int, Path]:
    """The colour images of a scene's folder (and sensor) by id, ascending; where there is none, its grey image."""
    found: dict[int, Path] = {}
    for name in reversed(SceneNames(sensor).image_folders):
        found |= {im_id: path for (im_id,), path in images_by_ids(scene_dir / name, 1).items()}
    return dict(sorted(found.items()))


def sensors_of(scene_dir: Path) -> list[str]:
    """The sensors that a scene has cameras of, sorted; "" is the one of a scene whose files name none."""
    stem = CAMERA_NAME.removesuffix(".json")
    found = {path.stem.removeprefix(f"{stem}_") for path in scene_dir.glob(f"{stem}_*.json")}
    return sorted(found | ({""} if (scene_dir / CAMERA_NAME).is_file() else set()))


def scene_of(folder: Path) -> tuple[Path, str] | None:
    """The scene whose images a folder holds, and the sensor that took them; None for any other folder.

    A scene holds its own, and for a scene's `rgb`, `gray` or `rgb_cam1` it is the one above. Raises `UserError` for a
    scene whose images are all of several sensors.
    """
    if any((folder / name).is_dir() for name in IMAGE_FOLDERS):
        return folder, ""
    there = [
        (folder, sensor, name)
        for sensor in sensors_of(folder)
        for name in SceneNames(sensor).image_folders
        if (folder / name).is_dir()
    ]
    if len({sensor for _, sensor, _ in there}) > 1:
        folders = ", ".join(name for _, _, name in there)
        raise UserError(f"{folder} has images of several sensors; name the folder of one of them: {folders}")
    within = (
        (folder.parent, sensor, folder.name)
        for sensor in sensors_of(folder.parent)
        if folder.name in SceneNames(sensor).image_folders
    )
    return next(((scene, sensor) for scene, sensor, _ in (*there, *within)), None)
