"""Which turns leave a mesh as it is: suggestions for `symmetries_discrete` and `symmetries_continuous`, measured.

Turns alone, no mirror images. Two questions are asked: is there an axis about which every turn does (a body of
revolution), and if not, which finite group of turns does. How far the object is from itself after a turn is measured
on points spread over its surface, so how that is cut into triangles doesn't matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from sopose.core.geometry.surface import SurfacePoints
from sopose.core.symmetry.motion_group import common_point, grow, make_exact, rotation_axis, straighten
from sopose.core.symmetry.motion_search import (
    SMALLEST_TURN,
    about,
    angle_between,
    best_apart,
    perpendicular,
    search,
    through,
)
from sopose.core.symmetry.self_image import Deviation, SelfImage, worst
from sopose.core.symmetry.tolerance import Tolerance

NEAR_MISS = 0.1  # of the diameter: what is farther off is not worth a word
MISSES = 3  # reported at most
TRIALS, FAILURES = 48, 4  # motions tried at most as members of a group, and of them in vain
PARALLEL = 8.0  # degrees between axes that are looked at twice
SPINS = 360 * (np.arange(1, 17) * (5**0.5 - 1) / 2 % 1)  # degrees, no multiples of one another
ROUGHLY_ROUND = 0.04  # mean distance at them above which an axis of revolution isn't looked for
AS_GOOD = 5e-4  # of the diameter: by how much rounder numbers may be the worse ones
HIGHEST_MISS = 6  # order of a finite symmetry that is reported though it is missed


@dataclass(frozen=True, eq=False)
class SymmetryAxis:
    """A line about which an object may be turned by 360° / order, and by any angle where the order is 0."""

    axis: np.ndarray  # (3,) unit, object frame
    offset: np.ndarray  # (3,) the line's point nearest to the object's origin, metres
    order: int
    deviation: Deviation  # the worst of its turns

    @property
    def angle(self) -> float:
        """Degrees of a turn to look at: the smallest, or where all are symmetries, one that is no part of a turn."""
        return 360 / self.order if self.order else 100.0


@dataclass(frozen=True, eq=False)
class Symmetries:
    """What was found. `discrete` and `continuous` are as `ObjectModel` has them, metres."""

    discrete: list[np.ndarray] = field(default_factory=list)  # (4, 4) the whole group but the identity
    continuous: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # axis, offset
    axes: list[SymmetryAxis] = field(default_factory=list)  # the same for people to read
    missed: list[SymmetryAxis] = field(default_factory=list)  # nearly symmetries, beyond the tolerance
    note: str = ""


@dataclass(frozen=True, eq=False)
class _Line:
    """As `SymmetryAxis`, in the frame of a `SelfImage`."""

    axis: np.ndarray
    point: np.ndarray
    order: int
    deviation: Deviation

    def in_object_frame(self, image: SelfImage) -> SymmetryAxis:
        at = image.point_of_object(self.point)
        return SymmetryAxis(self.axis, at - (at @ self.axis) * self.axis + 0.0, self.order, self.deviation)


def find_symmetries(
    vertices: np.ndarray,
    faces: np.ndarray,
    diameter: float,
    color_at: Callable[[SurfacePoints], np.ndarray] | None = None,
    tolerance: Tolerance | None = None,
) -> Symmetries:
    """The symmetries of a mesh of vertices (V, 3), metres, and faces (F, 3), within a tolerance.

    diameter: the largest distance of two vertices, metres. color_at: the colours (N, 3), levels, at N points of the
    mesh. A triangle must have an area. The same mesh gives the same answer.
    """
    tolerance = tolerance or Tolerance()
    image = SelfImage(vertices, faces, diameter, None if tolerance.color is None else color_at)
    if image.is_ball(tolerance.deviation):
        return _of_ball(image, tolerance)
    candidates = search(image.surface, image.distances, image.spread)
    line = _axis_of_revolution(image, candidates)
    if line is None:
        return _of_group(image, candidates, [], tolerance)
    if line.deviation.within(tolerance):
        return _of_revolution(image, line, tolerance)
    if line.deviation.greatest <= tolerance.deviation:  # round in shape, but not in colour
        candidates = _colored_turns(image, line)
    return _of_group(image, candidates, [line], tolerance)


def _of_ball(image: SelfImage, tolerance: Tolerance) -> Symmetries:
    lines = [_Line(axis, np.zeros(3), 0, _spun(image, axis, np.zeros(3))) for axis in np.eye(3)]
    axes = [line.in_object_frame(image) for line in lines]
    if not all(line.deviation.within(tolerance) for line in lines):
        return Symmetries(missed=axes[:1], note="a ball in shape; what its colours leave is not looked for")
    note = "a ball: the format can't state turns about all axes; these about three are a part of them"
    return Symmetries(continuous=[(axis.axis, image.center) for axis in axes], axes=axes, note=note)


def _axis_of_revolution(image: SelfImage, candidates: np.ndarray) -> _Line | None:
    """The line about which all turns do least, if that is little. `candidates` are motions near to good ones."""
    best, seen = None, np.empty((0, 3))
    for candidate in candidates:
        axis = rotation_axis(candidate[:3, :3])
        if len(seen) and np.abs(seen @ axis).max() > np.cos(np.radians(PARALLEL)):
            continue
        seen = np.concatenate([seen, axis[None]])
        if image.rough_distance(about(axis, SPINS)).mean() > ROUGHLY_ROUND:
            continue
        line = _line_near(image, axis)
        if line.deviation.greatest <= (NEAR_MISS if best is None else best.deviation.greatest):
            best = line
    return best


def _line_near(image: SelfImage, axis: np.ndarray) -> _Line:
    """The axis of revolution near to a direction (3,) through the centroid: that of the half turn that fits best."""
    half_turn = image.improve(about(axis, np.array([180.0])))
    fitted = np.concatenate([np.eye(4)[None], half_turn])
    straight = through(_rounder(image, common_point(fitted)), straighten(fitted))
    as_good = image.measure(straight[1]).greatest <= image.measure(fitted[1]).greatest + AS_GOOD
    chosen = straight if as_good else fitted
    axis, point = rotation_axis(chosen[1, :3, :3]), common_point(chosen)
    return _Line(axis, point, 0, _spun(image, axis, point))


def _spun(image: SelfImage, axis: np.ndarray, point: np.ndarray) -> Deviation:
    """The worst over turns by many angles about a line, or over the first of them where it is beyond a near miss."""
    measured = []
    for motion in through(point, about(axis, SPINS)):
        measured.append(image.measure(motion))
        if measured[-1].greatest > NEAR_MISS:
            break
    return worst(measured)


def _rounder(image: SelfImage, point: np.ndarray) -> np.ndarray:
    """A point (3,) with those of its coordinates in the object's frame set to 0 that nearly are."""
    at = image.point_of_object(point)
    return np.where(np.abs(at) <= 2e-3 * image.diameter, -image.center / image.diameter, point)


def _of_revolution(image: SelfImage, line: _Line, tolerance: Tolerance) -> Symmetries:
    axis = line.in_object_frame(image)
    continuous = [(axis.axis, axis.offset)]
    flip = _flip_line(image, line, perpendicular(line.axis)[0])
    if flip.deviation.within(tolerance):
        motion = image.motion_of_object(through(flip.point, about(flip.axis, np.array([180.0])))[0])
        return Symmetries([motion], continuous, [axis, flip.in_object_frame(image)])
    missed = [flip.in_object_frame(image)] if flip.deviation.greatest <= NEAR_MISS else []
    return Symmetries([], continuous, [axis], missed)


def _flip_line(image: SelfImage, line: _Line, across: np.ndarray) -> _Line:
    """The line along `across`, at right angles to an axis of revolution, whose half turn swaps its ends best."""
    half_turn = through(line.point, about(across, np.array([180.0])))
    middle = common_point(image.improve(half_turn))
    point = _rounder(image, line.point + ((middle - line.point) @ line.axis) * line.axis)
    deviation = image.measure(through(point, about(across, np.array([180.0])))[0])
    return _Line(across, point, 2, deviation)


def _colored_turns(image: SelfImage, line: _Line) -> np.ndarray:
    """Motions (K, 4, 4) of a body of revolution that keep its colours best, the best first."""
    first, second = perpendicular(line.axis)
    angles = np.radians(np.arange(180))
    around = np.outer(np.cos(angles), first) + np.outer(np.sin(angles), second)
    turns = through(line.point, about(line.axis, np.arange(SMALLEST_TURN, 181)))
    flips = through(_flip_line(image, line, first).point, about(around, np.full(180, 180.0)))
    motions = np.concatenate([turns, flips])
    return best_apart(motions, image.color_deviations(motions), np.inf)


def _of_group(image: SelfImage, candidates: np.ndarray, missed: list[_Line], tolerance: Tolerance) -> Symmetries:
    """The largest group that candidates (K, 4, 4) make, added one after the other; `missed` so far."""
    group, deviations = np.eye(4)[None], [Deviation()]
    missed, failures = [line for line in missed if line.deviation.greatest <= NEAR_MISS], 0
    for candidate in candidates[:TRIALS]:
        if angle_between(group, candidate).min() < SMALLEST_TURN - 1:
            continue
        motion = image.improve(candidate[None])[0]
        if angle_between(group, motion).min() < SMALLEST_TURN - 1:
            continue
        deviation = image.measure(motion)
        hopeful = deviation.within(tolerance) and failures < FAILURES
        larger = _larger_group(image, group, motion, tolerance) if hopeful else None
        failures += hopeful and larger is None
        if larger is not None:
            group, deviations = larger
        elif deviation.greatest <= NEAR_MISS:
            missed += _missed_line(motion, deviation)
    lines = _lines_of(group, deviations)
    discrete = [image.motion_of_object(motion) for motion in group[1:]]
    near = [line.in_object_frame(image) for line in _worth_reporting(missed, lines)]
    return Symmetries(discrete, [], [line.in_object_frame(image) for line in lines], near)


def _larger_group(
    image: SelfImage, group: np.ndarray, motion: np.ndarray, tolerance: Tolerance
) -> tuple[np.ndarray, list[Deviation]] | None:
    """The group with one more motion, exact, and the deviation of each member; None where one is beyond tolerance."""
    grown = grow(group, motion, image.improve_roughly)
    exact = None if grown is None else make_exact(grown)
    if exact is None:
        return None
    straight = through(_rounder(image, common_point(exact)), straighten(exact))
    rounder = _deviations(image, straight, tolerance)
    if rounder and (np.allclose(straight, exact, atol=1e-9) or worst(rounder).greatest <= AS_GOOD):
        return straight, rounder
    deviations = _deviations(image, exact, tolerance)
    if rounder and (not deviations or worst(rounder).greatest <= worst(deviations).greatest + AS_GOOD):
        return straight, rounder
    return (exact, deviations) if deviations else None


def _deviations(image: SelfImage, group: np.ndarray, tolerance: Tolerance) -> list[Deviation]:
    """The deviation of every member (S, 4, 4); empty where one is beyond tolerance."""
    measured = []
    for motion in group:
        measured.append(image.measure(motion))
        if not measured[-1].within(tolerance):
            return []
    return measured


def _lines_of(group: np.ndarray, deviations: Sequence[Deviation]) -> list[_Line]:
    """The axes of a group (S, 4, 4), those of the highest order first."""
    axes = np.array([rotation_axis(motion[:3, :3]) for motion in group[1:]]).reshape(-1, 3)
    lines, left = [], np.arange(len(axes))
    while len(left):
        together = np.abs(axes[left] @ axes[left[0]]) > np.cos(np.radians(1))
        members = left[together]
        deviation = worst(deviations[member + 1] for member in members)
        lines.append(_Line(axes[left[0]], common_point(group[1:][members]), len(members) + 1, deviation))
        left = left[~together]
    return sorted(lines, key=lambda line: (-line.order, line.deviation.greatest))


def _missed_line(motion: np.ndarray, deviation: Deviation) -> list[_Line]:
    """A motion (4, 4) that is no symmetry as the line of the n-fold turn it nearly is; none where it is none."""
    angle = float(angle_between(motion, np.eye(4)))
    orders = [order for order in range(2, HIGHEST_MISS + 1) if abs(angle - 360 / order) <= 2]
    line = rotation_axis(motion[:3, :3]), common_point(motion[None])
    return [_Line(*line, order, deviation) for order in orders]


def _worth_reporting(missed: list[_Line], found: list[_Line]) -> list[_Line]:
    """The nearest of the missed symmetries, one for each axis, none that was found."""
    chosen: list[_Line] = []
    for line in sorted(missed, key=lambda line: (line.order > 0, line.deviation.greatest)):
        same = [other for other in [*chosen, *found] if np.abs(other.axis @ line.axis) > np.cos(np.radians(PARALLEL))]
        known = any(other in chosen or (line.order > 0 and other.order % line.order == 0) for other in same)
        if not known and line.deviation.greatest <= NEAR_MISS and len(chosen) < MISSES:
            chosen.append(line)
    return chosen
