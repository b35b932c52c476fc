"""Examines what spans scenes: lists of targets, and images that are there twice."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path

from sopose.core.bop.records import ImageList, list_lines, listed_image
from sopose.core.bop.targets import read_target, target_entries
from sopose.core.doctor.findings import Finding, words_of
from sopose.core.doctor.scenes import Scene
from sopose.core.utils.errors import UserError

TARGETS = "*_targets*.json"  # test_targets_bop19.json, val_targets_bop24.json, …
MIDDLE = 1 << 16  # bytes of a file that are compared before all of it is


def check_targets(path: Path, scenes: Mapping[int, Scene]) -> Iterator[Finding]:
    """Faults of a list of targets; `scenes` are those of its split by id."""
    try:
        entries = target_entries(path)
    except UserError as error:
        yield Finding("json-broken", path.name, words_of(error, path))
        return
    first: dict[tuple[int | None, ...], int] = {}
    for index, entry in enumerate(entries):
        where = f"{path.name}, entry {index}"
        try:
            target = read_target(entry, "the entry")
        except UserError as error:
            yield Finding("target-broken", where, str(error))
            continue
        scene_id, im_id, obj_id, count = target.scene_id, target.im_id, target.obj_id, target.inst_count
        text = f"scene {scene_id}, image {im_id}" + (f", object {obj_id}" if obj_id is not None else "")
        key = (scene_id, im_id, obj_id)
        if key in first:
            yield Finding("target-duplicate", where, f"{text} is entry {first[key]} already")
        first.setdefault(key, index)
        yield from _check_target(scenes, scene_id, im_id, obj_id, count, where)


def _check_target(
    scenes: Mapping[int, Scene], scene_id: int, im_id: int, obj_id: int | None, count: int | None, where: str
) -> Iterator[Finding]:
    scene = scenes.get(scene_id)
    if scene is not None and not scene.is_readable:
        return
    if scene is None or im_id not in scene.annotated:
        what = f"there is no scene {scene_id}" if scene is None else f"scene {scene_id} has no image {im_id}"
        yield Finding("target-image", where, what)
        return
    if obj_id is None or not scene.is_annotated:
        return
    annotated, wanted = scene.annotated[im_id], scene.wanted[im_id]
    if not annotated[obj_id]:
        have = ", ".join(map(str, sorted(annotated))) or "none"
        yield Finding("target-object", where, f"image {scene_id}/{im_id} has no object {obj_id} (it has: {have})")
    elif count is not None and not max(wanted[obj_id], 1) <= count <= annotated[obj_id]:
        seen = f", {wanted[obj_id]} of them visible by a tenth" if wanted[obj_id] else ""
        what = f"inst_count {count}, image {scene_id}/{im_id} has {annotated[obj_id]} of object {obj_id}{seen}"
        yield Finding("target-count", where, what)


def check_image_list(item: ImageList, scenes: Mapping[int, Scene]) -> Iterator[Finding]:
    """Faults of a list of images; `scenes` are those of its split by id."""
    name = f"{item.path.parent.name}/{item.path.name}"
    for where, line in list_lines(item):
        place = f"{name}{where.removeprefix(str(item.path))}"
        try:
            scene_id, im_id = listed_image(item, where, line)
        except UserError as error:
            yield Finding("list-broken", place, str(error).removeprefix(f"{where} "))
            continue
        scene = scenes.get(scene_id)
        if scene is None:
            yield Finding("list-image", place, f"there is no scene {scene_id}")
        elif scene.is_readable and im_id not in scene.shots:
            yield Finding("list-image", place, f"scene {scene_id} has no image {im_id}")


def check_duplicates(root: Path, files: Iterable[Path]) -> Iterator[Finding]:
    """Images whose files have the same bytes, and images without any; only files of one length are read."""
    by_length: dict[int, list[Path]] = defaultdict(list)
    for path in filter(Path.is_file, files):
        by_length[path.stat().st_size].append(path)
    for path in by_length.pop(0, []):
        yield Finding("image-broken", str(path.relative_to(root)), "the file is empty")
    for same_length in by_length.values():
        for same_middle in _groups(same_length, _middle):
            for same in _groups(same_middle, _digest):
                first, *others = (str(path.relative_to(root)) for path in same)
                yield from (Finding("image-duplicate", other, f"the same bytes as {first}") for other in others)


def _groups(paths: list[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Groups of at least two files that are equal by `key`."""
    if len(paths) < 2:
        return []
    keys = [key(path) for path in paths]
    counts = Counter(keys)
    return [[p for p, k in zip(paths, keys, strict=True) if k == value] for value, n in counts.items() if n > 1]


def _middle(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(0, (path.stat().st_size - MIDDLE) // 2))
        return hashlib.blake2b(file.read(MIDDLE)).digest()


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
