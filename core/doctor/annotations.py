"""Examines the annotations of one image by their numbers alone: rotations, units, objects, duplicates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sopose.core.bop.fields import read_obj_id, read_pose_numbers, rotation_fault
from sopose.core.bop.scene_folder import GtInfo
from sopose.core.doctor.findings import Finding
from sopose.core.geometry.pose import Pose
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import M_TO_MM

# Distance of an object, by its diameter: nearer, the camera is deep inside; farther, it has no pixel.
NEAREST, FARTHEST = 0.1, 500.0
PLAUSIBLE = (0.5, 200.0)  # diameters, after the factor 1000 is taken out
USUAL_DIAMETER = 0.1  # metres, of objects without a mesh
SAME_PLACE, SAME_TURN = 0.02, np.radians(5)  # diameters, angle: two annotations are of one object


@dataclass(frozen=True, eq=False)
class Context:
    """What is known of a data set before its images are looked at."""

    root: Path
    models: dict[int, Path]  # folder of the mesh, of each object that can be cast
    known: frozenset[int] | None  # ids with a mesh or an entry; None without models
    diameters: dict[int, float]  # metres
    middles: dict[int, np.ndarray]  # (3,) metres, see `middle_of`
    symmetric: frozenset[int]
    image_size: tuple[int, int] | None  # width and height by camera.json


@dataclass(frozen=True, eq=False)
class Annotation:
    """A readable entry of scene_gt.json."""

    obj_id: int
    gt_index: int
    pose: Pose


def check_annotations(
    entries: list[Any], infos: list[GtInfo | None] | None, where: str, context: Context
) -> tuple[list[Annotation], list[Finding]]:
    """The sound annotations of an image and the faults of the others.

    `infos` are its entries of scene_gt_info.json, None for one that cannot be read; `where` names scene_gt.json and
    the image.
    """
    sound, findings = [], []
    for index, entry in enumerate(entries):
        place = f"{where}, entry {index}"
        try:
            obj_id = read_obj_id(entry, "the entry")
            place += f" (object {obj_id})"
            pose = read_pose_numbers(entry, "the entry")
        except UserError as error:
            findings.append(Finding("gt-broken", place, str(error)))
            continue
        faults = list(_faults(obj_id, pose, infos[index] if infos else None, place, context))
        findings += faults
        if not faults:
            sound.append(Annotation(obj_id, index, pose))
    findings += _duplicates(sound, where, context)
    return sound, findings


def _faults(obj_id: int, pose: Pose, info: GtInfo | None, where: str, context: Context) -> Iterator[Finding]:
    """Faults of the numbers that an object's pose has."""
    if context.known is not None and obj_id not in context.known:
        known = ", ".join(map(str, sorted(context.known)[:30]))
        yield Finding("gt-object", where, f"no model has the id {obj_id}; there are: {known}")
    fault = rotation_fault(pose.cam_R_obj)
    if fault:
        yield Finding("gt-rotation", where, fault)
    t = pose.cam_t_obj
    away = np.linalg.norm(t) / context.diameters.get(obj_id, USUAL_DIAMETER)
    translation = f"cam_t_m2c {' '.join(f'{x:.4g}' for x in M_TO_MM * t)}"
    if away < NEAREST and PLAUSIBLE[0] < 1000 * away < PLAUSIBLE[1]:
        yield Finding("gt-unit", where, f"{translation} is in metres, factor 1000")
    elif away > FARTHEST:
        is_micro = PLAUSIBLE[0] < away / 1000 < PLAUSIBLE[1]
        hint = "in micrometres, factor 1/1000" if is_micro else f"{away:.3g} diameters away"
        yield Finding("gt-unit", where, f"{translation} is {hint}")
    elif pose.transform(context.middles.get(obj_id, np.zeros(3)))[2] <= 0 and not is_hidden(info):
        hint = "; OpenGL's and Blender's cameras look along -z: turn the y and z rows of R and t round"
        yield Finding("gt-behind", where, f"{translation}: z is not above zero{hint if t[2] < 0 else ''}")


def is_hidden(info: GtInfo | None) -> bool:
    """Whether an entry of scene_gt_info.json says that nothing of its object is in the image."""
    return info is not None and info.visib_fract in (0, -1)


def _duplicates(annotations: list[Annotation], where: str, context: Context) -> Iterator[Finding]:
    for first, second in itertools.combinations(annotations, 2):
        if first.obj_id != second.obj_id:
            continue
        apart = np.linalg.norm(first.pose.cam_t_obj - second.pose.cam_t_obj)
        turn = first.pose.cam_R_obj.T @ second.pose.cam_R_obj
        angle = np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))
        near = apart < SAME_PLACE * context.diameters.get(first.obj_id, USUAL_DIAMETER)
        if near and (angle < SAME_TURN or first.obj_id in context.symmetric):
            what = (
                f"entry {first.gt_index} is the same object {M_TO_MM * apart:.2g} mm and {np.degrees(angle):.0f}° away"
            )
            yield Finding("gt-duplicate", f"{where}, entry {second.gt_index} (object {second.obj_id})", what)
