"""Looks at one image: its files, and poses, masks, boxes and depth against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from sopose.core.bop.records import Instance
from sopose.core.bop.scene_folder import GT_INFO_NAME, GT_NAME
from sopose.core.doctor.annotations import Context, is_hidden
from sopose.core.doctor.boxes import check_info
from sopose.core.doctor.cameras import Size, fits_size
from sopose.core.doctor.depths import check_depth
from sopose.core.doctor.findings import Finding, Place, words_of
from sopose.core.doctor.fits import MIN_PIXELS, Seen, check_poses, check_visible
from sopose.core.doctor.scenes import Shot
from sopose.core.geometry.pose import Pose
from sopose.core.images.files import read_header, read_image
from sopose.core.images.photo import fills_few_bits
from sopose.core.images.scene_images import CAMERA_NAME, MASK_FOLDERS
from sopose.core.making.annotate import all_instances
from sopose.core.objects.model import ObjectModel
from sopose.core.render.visibility import annotate_scene, render_depth
from sopose.core.utils.errors import UserError

GREY_SHARE = 0.01  # of a mask's pixels that may be neither black nor white


@dataclass
class Look:
    """What looking at an image gave."""

    findings: list[Finding] = field(default_factory=list)
    size: Size | None = None  # width and height of the image's file
    fits: list[float] = field(default_factory=list)  # IoU of each rendered silhouette and its mask file


def look_at(shot: Shot, models: Mapping[int, ObjectModel], context: Context) -> Look:
    """Examine an image; `models` holds the meshes of its `instances` by object id."""
    look = Look()
    record, root = shot.record, context.root
    if record.rgb_path.is_file():
        look.findings += _check_image(record.rgb_path, root)
        with suppress(UserError):  # reported above
            look.size = read_header(record.rgb_path).size
    size = look.size or context.image_size
    if size is None:
        return look
    seen = []
    for item in all_instances(record):
        one, findings = _seen(shot, item, size)
        seen.append(one)
        look.findings += findings
    comparable = shot.infos or record.depth_path or any(one.has_file for one in seen)
    if comparable and shot.castable and fits_size(record.K, size):
        look.findings += _compare(shot, seen, models, size)
    look.fits = [one.fit for one in seen if one.fit is not None]
    for one in seen if shot.infos else ():
        where = f"{shot.file(GT_INFO_NAME)}, image {record.im_id}, entry {one.item.gt_index}"
        info = shot.infos[one.item.gt_index]
        look.findings += [] if info is None else check_info(info, one, size, where)
    return look


def _check_image(path: Path, root: Path) -> Iterator[Finding]:
    where = str(path.relative_to(root))
    try:
        image = read_image(path, cv2.IMREAD_UNCHANGED)
    except UserError as error:
        yield Finding("image-broken", where, words_of(error, path))
        return
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or channels != 3:
        kinds = {1: "grey", 3: "colour", 4: "colour with transparency"}
        yield Finding("image-format", where, f"{8 * image.itemsize} bit, {kinds.get(channels, f'{channels} channels')}")
    colors = image if channels == 1 else image[..., :3]
    if fills_few_bits(colors):
        yield Finding("image-dark", where, f"its largest value is {colors.max()} of 65535")
    turn = read_header(path).orientation
    if turn != 1:
        yield Finding("image-turned", where, f"EXIF orientation {turn}")


def _seen(shot: Shot, item: Instance, size: Size) -> tuple[Seen, list[Finding]]:
    """An instance with its mask files as they are, and their faults."""
    im_id = shot.record.im_id
    paths = dict(zip(MASK_FOLDERS, (item.mask_path, item.mask_visib_path), strict=True))
    names = {folder: path.name if path else f"{im_id:06d}_{item.gt_index:06d}.png" for folder, path in paths.items()}
    files = {folder: f"{shot.file(folder)}/{name}" for folder, name in names.items()}
    (mask, faults), (visib, more) = (_read_mask(path, size, files[folder]) for folder, path in paths.items())
    where = f"{shot.file(GT_NAME)}, image {im_id}, entry {item.gt_index} (object {item.obj_id})"
    place = Place(shot.split, shot.scene, im_id, item.gt_index, shot.record.sensor)
    info = shot.infos[item.gt_index] if shot.infos else None
    seen = Seen(item, where, place, files, mask, visib, is_hidden=is_hidden(info))
    return seen, [*faults, *more]


def _read_mask(path: Path | None, size: Size, where: str) -> tuple[np.ndarray | None, list[Finding]]:
    """A mask file as (H, W) bool, None where it is not there or can't be compared, and its faults."""
    if path is None:
        return None, []
    try:
        values = read_image(path, cv2.IMREAD_GRAYSCALE)
    except UserError as error:
        return None, [Finding("image-broken", where, words_of(error, path))]
    if values.shape != size[::-1]:
        text = f"{values.shape[1]} × {values.shape[0]}, its image has {size[0]} × {size[1]}"
        return None, [Finding("mask-size", where, text)]
    mask = values > 0  # as training reads it
    grey = np.count_nonzero(mask & (values < values.max()))
    if grey > GREY_SHARE * np.count_nonzero(mask):
        text = f"{grey} of {np.count_nonzero(mask)} pixels are between 0 and {values.max()}, and count as the object"
        return values > values.max() / 2, [Finding("mask-values", where, text)]
    return mask, []


def _compare(shot: Shot, seen: list[Seen], models: Mapping[int, ObjectModel], size: Size) -> Iterator[Finding]:
    """Render what can be, and compare."""
    record = shot.record
    rendered = [one for one in seen if one.item.obj_id in models]
    masks, entries = annotate_scene(
        [models[one.item.obj_id].caster for one in rendered], [one.item.pose for one in rendered], record.K, size
    )
    for one, (whole, visible), entry in zip(rendered, masks, entries, strict=True):
        one.whole, one.visible, one.entry = whole, visible, entry

    def depth(obj_id: int, pose: Pose, K: np.ndarray) -> np.ndarray:
        return render_depth(models[obj_id].caster, pose, K, size)

    yield from check_poses(seen, record.K, lambda *label: depth(*label) > 0)
    yield from check_visible(seen, shot.complete)
    if record.depth_path is not None and np.isfinite(record.depth_scale):
        sound = [one for one in rendered if one.pose_is_sound and one.mask_is_sound and one.visible.sum() >= MIN_PIXELS]
        pairs = ((one, depth(one.item.obj_id, one.item.pose, record.K)) for one in sound)
        where = f"{shot.file('depth')}/{record.depth_path.name}"
        yield from check_depth(record, pairs, size, where, f"{shot.file(CAMERA_NAME)}, image {record.im_id}")
