"""Examines a scene's folder by its json files and the names of its images, and says what there is to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.fields import read_depth_scale, read_obj_id
from sopose.core.bop.records import ImageRecord
from sopose.core.bop.scene_folder import (
    GT_INFO_NAME,
    GT_NAME,
    GtInfo,
    SceneFiles,
    annotation_list,
    entries_by_image,
    matching_infos,
    read_info,
)
from sopose.core.doctor.annotations import Context, check_annotations
from sopose.core.doctor.cameras import Size, check_camera
from sopose.core.doctor.findings import Finding, words_of
from sopose.core.images.files import image_files, read_header
from sopose.core.images.scene_images import CAMERA_NAME, MASK_FOLDERS, SceneNames, bop_stem, images_by_stem
from sopose.core.utils.errors import UserError

FEW = 0.5  # of the files a folder should have: with fewer it is a part of a set, and what lacks is no fault
SIZED = 5  # images of a scene whose size is read to judge its cameras
TARGET_VISIB = 0.1  # BOP19 asks for instances that are this much visible


@dataclass(frozen=True)
class Shot:
    """An image with what its scene's files say of it."""

    record: ImageRecord  # `instances`: sound annotations of objects that can be cast; `others`: without a mesh
    split: str
    scene: str  # its folder's name
    infos: list[GtInfo | None] | None  # its entries of scene_gt_info.json, None for one that cannot be read
    castable: bool  # K is sound; else it is the identity
    complete: bool  # all annotated objects are among `instances`

    @property
    def where(self) -> str:
        """The scene's folder below the data set's."""
        return f"{self.split}/{self.scene}"

    def file(self, name: str) -> str:
        """A file or folder of the scene, below the data set's folder; `name` is that without a sensor."""
        return f"{self.where}/{SceneNames(self.record.sensor).of(name)}"


@dataclass
class Scene:
    """A scene's faults and images."""

    findings: list[Finding] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)  # file or folder that need not be there -> what of it isn't
    shots: dict[int, Shot] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)  # of colour and grey images
    focal: float | None = None  # of most of its cameras, in widths of the image
    is_readable: bool = False  # scene_camera.json is
    is_annotated: bool = False  # scene_gt.json is there and readable
    # By image and object: how many are annotated, and how many a target has to ask for at least.
    annotated: dict[int, Counter[int]] = field(default_factory=dict)
    wanted: dict[int, Counter[int]] = field(default_factory=dict)


def read_scene(scene_dir: Path, context: Context, im_ids: Collection[int] | None = None, sensor: str = "") -> Scene:
    """Examine a scene as one of its sensors took it, or only some of its images; nothing of them is decoded."""
    return _Reader(SceneFiles(scene_dir, sensor), context).read(im_ids)


class _Reader:
    """One scene's folder while it is read: by the loader's functions, entry by entry."""

    def __init__(self, files: SceneFiles, context: Context) -> None:
        self.files, self.dir, self.context = files, files.dir, context
        self.where = f"{self.dir.parent.name}/{self.dir.name}"
        self.scene = Scene()
        self.called = files.names.of
        self.folders = files.names.image_folders
        folders = (*self.folders, *map(self.called, ("depth", *MASK_FOLDERS)))
        self.stems = {name: images_by_stem(self.dir / name) for name in folders}
        self.images = {stem: path for name in reversed(self.folders) for stem, path in self.stems[name].items()}
        self.scene.files = list(self.images.values())
        self.masks: set[str] = set()  # stems of all instances, and of those that aren't in their image
        self.hidden: set[str] = set()

    def read(self, im_ids: Collection[int] | None) -> Scene:
        """The scene with its findings; of some images only, or of all, whose files are then compared too."""
        cameras, gts, infos = (self._json(name) for name in (CAMERA_NAME, GT_NAME, GT_INFO_NAME))
        if cameras is None:
            return self.scene
        self.scene.is_readable, self.scene.is_annotated = True, bool(gts)
        infos = infos if gts is not None else None
        size = self._image_size()
        for im_id in sorted({*cameras, *(gts or {})} if im_ids is None else im_ids):
            self._read_image(im_id, cameras.get(im_id), (gts or {}).get(im_id, []), (infos or {}).get(im_id), size)
        focals = [shot.record.K[0, 0] for shot in self.scene.shots.values() if shot.castable]
        self.scene.focal = float(np.median(focals)) / size[0] if focals and size else None
        if im_ids is None:
            self._compare_ids(cameras, gts, infos)
            self._check_files({bop_stem(im_id) for im_id in self.scene.shots})
        return self.scene

    def _found(self, code: str, where: str, what: str) -> None:
        self.scene.findings.append(Finding(code, f"{self.where}/{where}", what))

    def _json(self, name: str) -> dict[int, Any] | None:
        """A json file by image; None where it is missing or broken."""
        path = self.files.json(name)
        lost = name == GT_NAME and self.files.json(GT_INFO_NAME).is_file()  # the loader refuses one without the other
        if not path.is_file() and name != CAMERA_NAME and not lost:
            meaning = {
                GT_NAME: "not there: images without annotations can be tested on, not trained or scored",
                GT_INFO_NAME: "not there: boxes are made from the models, visibility from masks or the models",
            }
            self.scene.absent[path.name] = meaning[name]
            return None
        try:
            return entries_by_image(path)
        except UserError as error:
            self._found("json-broken", path.name, words_of(error, path))
            return None

    def _compare_ids(self, cameras: dict, gts: dict | None, infos: dict | None) -> None:
        for name, have, other_name, other in (
            (CAMERA_NAME, cameras, GT_NAME, gts),
            (GT_INFO_NAME, infos, GT_NAME, gts),
            (GT_NAME, gts, GT_INFO_NAME, infos),
        ):
            if have is not None and other is not None:
                for im_id in sorted(other.keys() - have.keys()):
                    what = f"no entry, {self.called(other_name)} has it"
                    self._found("scene-ids", f"{self.called(name)}, image {im_id}", what)
        if gts is not None:
            for im_id in sorted(cameras.keys() - gts.keys() - (infos or {}).keys()):
                where = f"{self.called(GT_NAME)}, image {im_id}"
                self._found("image-unannotated", where, f"no list, {self.called(CAMERA_NAME)} has it")

    def _image_size(self) -> Size | None:
        """Width and height that most of some of the scene's images have, else of camera.json."""
        sizes: Counter[Size] = Counter()
        paths = sorted(self.scene.files)
        for path in paths[:: max(len(paths) // SIZED, 1)][:SIZED]:
            with suppress(UserError):  # reported where the image is examined
                sizes[read_header(path).size] += 1
        return sizes.most_common(1)[0][0] if sizes else self.context.image_size

    def _read_image(self, im_id: int, camera: Any, entries: Any, infos: Any, size: Size | None) -> None:
        where = f"{self.where}/{self.called(CAMERA_NAME)}, image {im_id}"
        K, depth_scale = None, np.nan
        if camera is not None:
            K, findings = check_camera(camera, where, size)
            self.scene.findings += findings
            if isinstance(camera, dict):
                depth_scale = self._depth_scale(camera, where)
        entries, infos = self._lists(im_id, entries, infos)
        read_infos = None if infos is None else [self._info(im_id, *item) for item in enumerate(infos)]
        place = f"{self.where}/{self.called(GT_NAME)}, image {im_id}"
        sound, findings = check_annotations(entries, read_infos, place, self.context)
        self.scene.findings += findings
        self._count(im_id, entries, read_infos)
        instances = (self.files.instance(im_id, item.gt_index, item.obj_id, item.pose) for item in sound)
        K_or_none = np.eye(3) if K is None else K
        record = self.files.record(im_id, K_or_none, depth_scale, instances, set(self.context.models))
        complete = len(record.instances) == len(entries)
        self.scene.shots[im_id] = Shot(
            record, self.dir.parent.name, self.dir.name, read_infos, castable=K is not None, complete=complete
        )

    def _depth_scale(self, camera: dict[str, Any], where: str) -> float:
        """Metres per step of an image's depth file; nan with its fault."""
        try:
            return read_depth_scale(camera, "the entry")
        except UserError as error:
            self.scene.findings.append(Finding("depth-scale", where, str(error)))
            return np.nan

    def _lists(self, im_id: int, entries: Any, infos: Any) -> tuple[list[Any], list[Any] | None]:
        """An image's annotations as a list, and its infos where they are as many."""
        try:
            entries = annotation_list(entries, "the value")
        except UserError as error:
            self._found("gt-broken", f"{self.called(GT_NAME)}, image {im_id}", str(error))
            entries = []
        try:
            return entries, matching_infos(infos, entries, self.called(GT_NAME))
        except UserError as error:
            self._found("gt-length", f"{self.called(GT_INFO_NAME)}, image {im_id}", str(error))
            return entries, None

    def _info(self, im_id: int, index: int, info: Any) -> GtInfo | None:
        try:
            return read_info(info, "the entry")
        except UserError as error:
            self._found("info-broken", f"{self.called(GT_INFO_NAME)}, image {im_id}, entry {index}", str(error))
            return None

    def _count(self, im_id: int, entries: list[Any], infos: list[GtInfo | None] | None) -> None:
        """Note an image's objects for targets, and their masks; some programs write none of what is hidden."""
        self.scene.annotated[im_id], self.scene.wanted[im_id] = Counter(), Counter()
        for index, entry in enumerate(entries):
            info = infos[index] if infos else None
            share = None if info is None else info.visib_fract
            with suppress(UserError):  # reported with its annotation
                obj_id = read_obj_id(entry, "the entry")
                self.scene.annotated[im_id][obj_id] += 1
                self.scene.wanted[im_id][obj_id] += share is not None and share >= TARGET_VISIB
            self.masks.add(bop_stem(im_id, index))
            if share in (0, -1):
                self.hidden.add(bop_stem(im_id, index))

    def _check_files(self, stems: set[str]) -> None:
        """Compare the files of each folder with those that the annotations need."""
        folder, depth = next((name for name in self.folders if self.stems[name]), self.folders[0]), self.called("depth")
        self._expect(folder, self.images, stems, "image-missing")
        self._expect(depth, self.stems[depth], stems, "depth-missing")
        self._check_twice()
        for folder in map(self.called, MASK_FOLDERS) if self.scene.is_annotated else ():
            self._expect(folder, self.stems[folder], self.masks, "mask-missing", self.hidden)

    def _check_twice(self) -> None:
        """Files that the loader doesn't read, since the same name is there with another suffix."""
        for folder, by_stem in self.stems.items():
            for path in image_files(self.dir / folder):
                if by_stem[path.stem] != path:
                    self._found("image-twice", f"{folder}/{path.name}", f"not read, {by_stem[path.stem].name} is")

    def _expect(
        self, folder: str, have: dict[str, Path], expected: set[str], code: str, optional: Set[str] = frozenset()
    ) -> None:
        """Compare the files of a folder, by their stems, with those there should be; `optional` may be missing."""
        missing, stray = expected - have.keys() - optional, have.keys() - expected
        if not have and missing:
            self.scene.absent[folder] = f"not there ({len(missing)} files)"
            return
        renamed = {stem: _bop_name(stem) for stem in sorted(stray) if _bop_name(stem) in missing}
        if renamed:
            old, new = next(iter(renamed.items()))
            example = f"{have[old].name} should be {new}{have[old].suffix}"
            self._found("image-name", folder, f"{len(renamed)} files have other names than BOP's: {example}")
            missing, stray = missing - {*renamed.values()}, stray - renamed.keys()
        if len(missing) > FEW * len(expected):
            self.scene.absent[folder] = f"{len(missing)} of {len(expected)} files are not there"
        else:
            for stem in sorted(missing):
                self._found(code, f"{folder}/{stem}.png", "not there, the json files have its entry")
        for stem in sorted(stray):
            self._found("image-unlisted", f"{folder}/{have[stem].name}", "no entry in the json files")


def _bop_name(stem: str) -> str:
    """The stem with all its numbers padded to six digits."""
    parts = stem.split("_")
    return bop_stem(*map(int, parts)) if all(part.isdecimal() for part in parts) else stem
