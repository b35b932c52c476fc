"""Examines a whole BOP folder: models, every scene's json files, and the pixels of a spread sample of images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sopose.core.bop.catalog import known_dataset
from sopose.core.bop.fields import CAMERA_NAME
from sopose.core.bop.models import default_name, load_model
from sopose.core.bop.scene_folder import scene_dirs
from sopose.core.bop.splits import FOLDER_INFO_NAME, SplitFolder, folder_names, image_lists_of, split_folders
from sopose.core.doctor.annotations import Context
from sopose.core.doctor.cameras import Size, check_camera_json, check_focal
from sopose.core.doctor.findings import Finding, Findings, words_of
from sopose.core.doctor.lists import TARGETS, check_duplicates, check_image_list, check_targets
from sopose.core.doctor.models import ModelFolder, check_models
from sopose.core.doctor.pixels import Look, look_at
from sopose.core.doctor.scenes import Scene, Shot, read_scene
from sopose.core.geometry.camera import Camera
from sopose.core.images.scene_images import SceneNames, sensors_of
from sopose.core.objects.model import ObjectModel
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.files import require_dir
from sopose.core.utils.parallel import run_jobs

JOB_IMAGES = 8
MODEL_FOLDERS = ("models", "models_cad", "models_reconst", "models_fine", "models_eval")  # the first there is rendered


@dataclass
class Examination:
    """What was found in a data set, and how much of it was looked at."""

    context: Context
    splits: list[str]
    findings: Findings = field(default_factory=Findings)
    listed: int = 0  # images in the json files
    looked_at: int = 0  # images whose pixels were compared
    fits: list[float] = field(default_factory=list)  # IoU of rendered silhouettes and mask files

    def facts(self) -> dict[str, str]:
        """What to know beside the findings."""
        facts = {
            "folder": str(self.context.root),
            "splits": ", ".join(self.splits) or "none",
            "images": f"{self.listed} listed, {self.looked_at} looked at",
            "models": f"{len(self.context.models)} rendered",
            "found": self.findings.summary(),
        }
        if self.fits:
            low, middle = np.percentile(self.fits, [1, 50])
            facts["silhouettes against masks"] = (
                f"IoU {middle:.3f} in the median, 99 % above {low:.3f} ({len(self.fits)} instances)"
            )
        return facts


@dataclass(frozen=True)
class _Job:
    scene_dir: Path
    sensor: str
    im_ids: tuple[int, ...]


def examine(
    root: Path, splits: Sequence[str] | None = None, images: int = 200, workers: int = 1, progress: bool = False
) -> Examination:
    """Examine the data set in the folder `root`.

    splits: folders of scenes, of several sensors `test_cam1`; all by default. images: of each split whose pixels are
    looked at, spread evenly, those that have a file first; 0 for all. Raises `UserError` only where there is no data
    set or no such split: whatever is wrong inside is a finding.
    """
    root = require_dir(Path(root), "name the folder of a BOP data set, the one with models/ and test/")
    chosen = _splits(root, splits)
    cameras, context, findings = _context(root, sorted({split.sensor for split in chosen} or {""}))
    if not chosen and context.known is None:
        raise UserError(f"{root} has neither models nor a split with scenes; name the folder of a BOP data set")
    examination = Examination(context, [split.name for split in chosen])
    examination.findings.add(findings)
    by_split = {split: _read_scenes(examination, split, progress) for split in chosen}
    examination.findings.add(_list_findings(root, by_split))
    examination.findings.add(_focal_findings(cameras, by_split))
    jobs = [job for split, scenes in by_split.items() for job in _jobs(scenes, split.sensor, images)]
    by_split.clear()
    _look(examination, jobs, workers, progress)
    return examination


def _splits(root: Path, wanted: Sequence[str] | None) -> list[SplitFolder]:
    there = {split.name: split for split in split_folders(root)}
    for name in wanted or ():
        if name not in there:
            known = list(there)
            raise UserError(
                f"{root} has no split '{name}'{nearest(name, known)} (splits: {', '.join(known) or 'none'}); choose one"
            )
    return [there[name] for name in dict.fromkeys(wanted)] if wanted else list(there.values())


def _context(root: Path, sensors: Sequence[str]) -> tuple[dict[str, Camera], Context, list[Finding]]:
    """The cameras of the data set by sensor, what they and the models say, and their faults."""
    findings, cameras = [], {}
    for sensor in sensors:
        faults, camera = check_camera_json(root, sensor)
        findings += faults
        cameras |= {} if camera is None else {sensor: camera}
    size = cameras[""].size if [*cameras] == [*sensors] == [""] else None  # what camera.json says is of one sensor
    dataset = known_dataset(root)
    names = dict.fromkeys([dataset.models_folder if dataset else "models", *MODEL_FOLDERS])
    folders = {path.name for path in root.glob("models*") if path.is_dir()}
    order = [*(name for name in names if name in folders), *sorted(folders - names.keys())]
    examined = [check_models(root, root / name) for name in order]
    findings += [finding for folder in examined for finding in folder.findings]
    findings += _name_findings(root)
    if not examined:
        findings.append(Finding("absent", "models", "not there: poses can't be compared with images"))
    sound = {} if any(fault.code.startswith("K-") for fault in findings) else cameras
    return sound, _context_of(root, examined, size), findings


def _name_findings(root: Path) -> Iterator[Finding]:
    try:
        folder_names(root, ())
    except UserError as error:
        yield Finding("json-broken", FOLDER_INFO_NAME, words_of(error, root / FOLDER_INFO_NAME))


def _context_of(root: Path, examined: list[ModelFolder], size: Size | None) -> Context:
    models: dict[int, Path] = {}
    diameters: dict[int, float] = {}
    middles: dict[int, np.ndarray] = {}
    for found in examined[:1]:
        models |= {obj_id: found.folder for obj_id in found.diameters}
        diameters |= found.diameters
        middles |= found.middles
    known = frozenset(obj_id for found in examined for obj_id in found.known)
    symmetric = frozenset(obj_id for found in examined for obj_id in found.symmetric)
    return Context(root, models, known or None, diameters, middles, symmetric, size)


def _read_scenes(examination: Examination, split: SplitFolder, progress: bool) -> dict[int, tuple[Path, Scene]]:
    """Examine the json files of a split's scenes; what is kept of them is small."""
    scenes, folders = {}, scene_dirs(examination.context.root / split.folder)
    if split.sensor:
        folders = [folder for folder in folders if split.sensor in sensors_of(folder)]
    for folder in tqdm(folders, split.name, unit="scene", disable=not progress):
        scene = read_scene(folder, examination.context, sensor=split.sensor)
        examination.findings.add(scene.findings)
        examination.listed += len(scene.shots)
        scene.findings, scene.shots = [], dict.fromkeys(scene.shots)  # ids are enough: workers read again
        scene_id = int(folder.name)
        if scene_id in scenes:
            twin = f"{scenes[scene_id][0].name} is scene {scene_id} too"
            examination.findings.add([Finding("scene-twice", f"{split.folder}/{folder.name}", twin)])
        scenes[scene_id] = folder, scene
    examination.findings.add(_absent(scenes))
    return scenes


def _absent(scenes: dict[int, tuple[Path, Scene]]) -> Iterator[Finding]:
    """What scenes of a split don't have: one note for all that lack the same."""
    lacking: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for folder, scene in scenes.values():
        for name, what in scene.absent.items():
            lacking[name].append((folder, what))
    for name, ((first, what), *others) in lacking.items():
        more = f"; likewise {len(others)} other scenes" if others else ""
        yield Finding("absent", f"{first.parent.name}/{first.name}/{name}", what + more)


def _list_findings(root: Path, by_split: dict[SplitFolder, dict[int, tuple[Path, Scene]]]) -> Iterator[Finding]:
    for path in sorted(root.glob(TARGETS)):
        prefix = path.name.partition("_targets")[0]
        scenes: dict[int, Scene] = {}
        for split, found in by_split.items():
            if split.name == prefix or split.name.startswith(f"{prefix}_"):
                scenes |= {scene_id: scene for scene_id, (_, scene) in found.items()}
        if scenes:
            yield from check_targets(path, scenes)
    for item, folder in image_lists_of(root).items():
        found = next((found for split, found in by_split.items() if split.folder == folder), None)
        if found is not None:
            yield from check_image_list(item, {scene_id: scene for scene_id, (_, scene) in found.items()})
    files = (path for found in by_split.values() for _, scene in found.values() for path in scene.files)
    yield from check_duplicates(root, files)


def _focal_findings(
    cameras: dict[str, Camera], by_split: dict[SplitFolder, dict[int, tuple[Path, Scene]]]
) -> Iterator[Finding]:
    """Each sensor's camera of the data set against those of its scenes."""
    for sensor, camera in cameras.items():
        scenes = (scene for split, found in by_split.items() if split.sensor == sensor for _, scene in found.values())
        focals = [scene.focal for scene in scenes if scene.focal is not None]
        yield from check_focal(camera, focals, SceneNames(sensor).of(CAMERA_NAME))


def _jobs(scenes: dict[int, tuple[Path, Scene]], sensor: str, images: int) -> Iterator[_Job]:
    """The chosen images of a split, in parts of one scene each."""
    there = {folder: {path.stem for path in scene.files} for folder, scene in scenes.values()}
    listed = [(folder, im_id) for folder, scene in scenes.values() for im_id in scene.shots]
    with_file = [(folder, im_id) for folder, im_id in listed if f"{im_id:06d}" in there[folder]]
    chosen = _spread(with_file, images or len(listed))
    without = [item for item in listed if f"{item[1]:06d}" not in there[item[0]]]
    chosen += _spread(without, max((images or len(listed)) - len(chosen), 0))
    by_scene: dict[Path, list[int]] = defaultdict(list)
    for folder, im_id in chosen:
        by_scene[folder].append(im_id)
    for folder in sorted(by_scene):
        im_ids = sorted(by_scene[folder])
        for first in range(0, len(im_ids), JOB_IMAGES):
            yield _Job(folder, sensor, tuple(im_ids[first : first + JOB_IMAGES]))


def _spread(items: list, count: int) -> list:
    """`count` of the items, evenly spread, or all where there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[round(place)] for place in np.linspace(0, len(items) - 1, count)] if count else []


def _look(examination: Examination, jobs: list[_Job], workers: int, progress: bool) -> None:
    sizes: dict[tuple[Path, str], dict[Size, list[int]]] = defaultdict(lambda: defaultdict(list))
    weights = [len(job.im_ids) for job in jobs]
    bar = "pixels" if progress else ""
    look = partial(_look_at_images, examination.context)
    for job, looks in zip(jobs, run_jobs(look, jobs, workers, None, bar, "image", weights), strict=True):
        for im_id, seen in zip(job.im_ids, looks, strict=True):
            examination.looked_at += 1
            examination.findings.add(seen.findings)
            examination.fits += seen.fits
            if seen.size:
                sizes[job.scene_dir, job.sensor][seen.size].append(im_id)
    for (folder, sensor), images in sizes.items():
        where = f"{folder.parent.name}/{folder.name}" + (f" ({sensor})" if sensor else "")
        examination.findings.add(_size_findings(where, images, examination.context.image_size))


def _size_findings(where: str, images: dict[Size, list[int]], expected: Size | None) -> Iterator[Finding]:
    """A scene's images by size: those of other sizes than most, and most against camera.json."""
    usual = max(images, key=lambda size: (len(images[size]), size == expected))
    for size in images.keys() - {usual}:
        factor = size[0] / usual[0]
        hint = f" (factor {factor:.4g})" if abs(size[1] / usual[1] - factor) < 0.01 else ""
        for im_id in images[size]:
            yield Finding(
                "image-size", f"{where}, image {im_id}", f"{_size_text(size)}, most are {_size_text(usual)}{hint}"
            )
    if expected and usual != expected:
        yield Finding("camera-size", where, f"images are {_size_text(usual)}, camera.json says {_size_text(expected)}")


def _size_text(size: Size) -> str:
    return f"{size[0]} × {size[1]}"


def _look_at_images(context: Context, job: _Job) -> list[Look]:
    scene = read_scene(job.scene_dir, context, job.im_ids, job.sensor)
    return [look_at(shot, models_of(shot, context), context) for shot in scene.shots.values()]


def models_of(shot: Shot, context: Context) -> dict[int, ObjectModel]:
    """The meshes of an image's `instances` by object id, read once in a process."""
    paths = {k: context.models[k] / f"{default_name(k)}.ply" for k in {item.obj_id for item in shot.record.instances}}
    return {obj_id: _model(path, obj_id, path.stat().st_mtime_ns) for obj_id, path in paths.items()}


@lru_cache(maxsize=32)
def _model(path: Path, obj_id: int, changed: int) -> ObjectModel:
    return load_model(path, obj_id, default_name(obj_id))
