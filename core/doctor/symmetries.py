"""Whether the symmetries that models_info.json lists leave their mesh as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sopose.core.bop.models import SYMMETRY_KEYS, continuous_symmetry, discrete_symmetry, symmetry_items
from sopose.core.doctor.findings import Finding
from sopose.core.geometry.surface import Surface, sample_surface
from sopose.core.geometry.symmetry import continuous_rotations
from sopose.core.utils.errors import UserError
from sopose.core.utils.units import M_TO_MM

POINTS = 1000  # of a surface that are moved
SAMPLES = 10000  # of the surface that their distance is searched with
PERCENTILE = 95  # of the distances: scans differ in small parts, and a handle is a large one
MAX_DISTANCE = 0.05  # diameters
MOST_EXAMINED = 120  # symmetries of a kind; a solid has at most 60 turns, but for a prism's
FAR = 1e6  # diameters
TURNS = (29, 71, 112, 157, 233)  # steps of 2 π / 315 that a continuous symmetry is tried at

Distance = Callable[[np.ndarray], float]  # of a (4, 4) transform in metres: how far it takes the surface off itself


def check_symmetries(
    vertices: np.ndarray, faces: np.ndarray, diameter: float, entry: dict[str, Any], where: str
) -> tuple[list[Finding], bool]:
    """Faults of an entry's symmetries, which are numbered from 1, and whether it lists any.

    Vertices (V, 3) and diameter are in metres, the entry in millimetres as its file has it.
    """
    findings: list[Finding] = []
    try:
        listed = {key: symmetry_items(entry, key, "the entry") for key in SYMMETRY_KEYS}
    except UserError as error:
        return [Finding("symmetry-broken", where, str(error))], False
    if not any(listed.values()):
        return findings, False
    distance = _distance_of(vertices, faces, diameter)
    for key, check in zip(SYMMETRY_KEYS, (_discrete, _continuous), strict=True):
        count = len(listed[key])
        if count > MOST_EXAMINED:
            findings.append(Finding("symmetry-many", where, f"{key} has {count}, {MOST_EXAMINED} of them are examined"))
        for number in np.unique(np.linspace(1, count, min(count, MOST_EXAMINED)).round().astype(int)).tolist():
            item, place = listed[key][number - 1], f"{where}, {key} {number} of {count}"
            try:
                findings += check(item, distance, place)
            except UserError as error:
                findings.append(Finding("symmetry-broken", place, str(error)))
    return findings, True


def _distance_of(vertices: np.ndarray, faces: np.ndarray, diameter: float) -> Distance:
    rng = np.random.default_rng(0)
    surface = Surface(vertices, faces, SAMPLES, rng)
    points = sample_surface(vertices, faces, POINTS, rng).points

    def distance(transform: np.ndarray) -> float:
        if np.abs(transform[:3, 3]).max() > FAR * diameter:  # the search tree has no such points
            return FAR
        moved = points @ transform[:3, :3].T + transform[:3, 3]
        return float(np.percentile(surface.distance(moved), PERCENTILE)) / diameter

    return distance


def _discrete(item: Any, distance: Distance, where: str) -> Iterator[Finding]:
    transform = discrete_symmetry(item, "the matrix")
    yield from _judge(lambda scale: distance(_scaled(transform, scale)), transform[:3, 3], "translation", where)


def _scaled(transform: np.ndarray, scale: float) -> np.ndarray:
    scaled = transform.copy()
    scaled[:3, 3] *= scale
    return scaled


def _continuous(item: Any, distance: Distance, where: str) -> Iterator[Finding]:
    axis, offset = continuous_symmetry(item, "the symmetry")

    def turned(scale: float) -> float:
        turns = continuous_rotations(axis, scale * offset)
        return max(distance(turns[step]) for step in TURNS)

    yield from _judge(turned, offset, "offset", where)


def _judge(distance: Callable[[float], float], shift: np.ndarray, name: str, where: str) -> Iterator[Finding]:
    """A finding where the distance is large; it is asked for with `shift` (3,), metres, and with 1000 times as much."""
    off = distance(1.0)
    if off <= MAX_DISTANCE:
        return
    if shift.any() and distance(M_TO_MM) <= MAX_DISTANCE:
        text = " ".join(f"{M_TO_MM * x:g}" for x in shift)
        yield Finding("symmetry-unit", where, f"{name} {text} is in metres, factor 1000", badness=off)
        return
    what = f"{PERCENTILE} % of the surface comes to lie up to {off:.0%} of the diameter off the mesh"
    yield Finding("symmetry", where, f"{what} (at most {MAX_DISTANCE:.0%})", badness=off)
