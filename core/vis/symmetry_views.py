"""Suggested symmetries as pictures to judge: a model before and after the turn, and where the two differ.

Pictures are (H, W, 3) uint8 BGR.
"""

from __future__ import annotations

import cv2
import numpy as np

from sopose.core.geometry.surface import Surface
from sopose.core.objects.model import ObjectModel
from sopose.core.symmetry.find_symmetry import Symmetries, SymmetryAxis
from sopose.core.symmetry.motion_search import about, through
from sopose.core.symmetry.suggestions import describe_axis, first_of_each_order
from sopose.core.symmetry.tolerance import Tolerance
from sopose.core.vis.colors import PALETTE, bgr
from sopose.core.vis.model_views import Portrait, View, draw_line, text_bar, tilted, titled

ROWS_OF_ORDER = 2  # of an object
TAKEN, MISSED = bgr(PALETTE[2]), bgr(PALETTE[3])
TILT = 35.0  # degrees by which the axis leans towards the camera
SAMPLES = 120_000


def symmetry_sheet(model: ObjectModel, found: Symmetries, tolerance: Tolerance, size: int = 200) -> np.ndarray:
    """A row for each suggested symmetry of a model, and for those that are missed by little; one row if none is.

    A row shows the model along the axis before and after a turn, the same from aside, and on the turned model how
    far each point is from the surface as it was: grey not at all, red by twice the tolerance and more.
    """
    portrait = Portrait(model, size)
    surface = Surface(model.vertices, model.faces, SAMPLES, np.random.default_rng(0))
    rows = []
    drawn = first_of_each_order(found.axes, ROWS_OF_ORDER)
    for axis, taken in [*((axis, True) for axis in drawn), *((axis, False) for axis in found.missed)]:
        rows.append(_row(portrait, surface, axis, taken, 2 * tolerance.deviation * model.diameter))
    if not rows:
        views = [portrait.view(tilted(np.eye(3)[2], np.eye(3)[0], degrees)).image for degrees in (80, 35, 5, -35, -80)]
        rows.append(np.concatenate([titled(view, "") for view in views], axis=1))
    width = rows[0].shape[1]
    head = f"{model.obj_id} {model.name}: {len(found.discrete)} discrete, {len(found.continuous)} continuous"
    if len(found.axes) > len(drawn):
        head += f" ({len(found.axes) - len(drawn)} more axes of the same orders not drawn)"
    head += f"; {found.note}" if found.note else ""
    return np.concatenate([text_bar(head, width), *rows])


def _row(portrait: Portrait, surface: Surface, axis: SymmetryAxis, taken: bool, red_from: float) -> np.ndarray:
    color = TAKEN if taken else MISSED
    across = _broadside(portrait.model, axis.axis)
    motion = through(axis.offset, about(axis.axis, np.array([axis.angle])))[0]
    half = 1.25 * portrait.caster.radius
    middle = axis.offset + (portrait.caster.center - axis.offset) @ axis.axis * axis.axis
    panels = []
    for degrees, name in ((90.0, "along"), (TILT, "aside")):
        camera = tilted(axis.axis, across, degrees)
        for moved, when in ((None, "before"), (motion, f"after {axis.angle:.3g} deg")):
            view = portrait.view(camera, moved)
            panels.append(titled(draw_line(view, middle, axis.axis, half, color), f"{name}, {when}"))
    difference = _difference(view, surface, motion, red_from)
    panels.append(titled(difference, f"red: off by {1e3 * red_from:.2g} mm"))
    row = np.concatenate(panels, axis=1)
    text = describe_axis(axis, portrait.model.diameter)
    text = text if taken else f"NOT TAKEN: {text}"
    return np.concatenate([text_bar(text, row.shape[1], strong=False), row])


def _broadside(model: ObjectModel, axis: np.ndarray) -> np.ndarray:
    """(3,) unit vector at right angles to an axis (3,) along which the model is wide: the side that shows most."""
    level = model.vertices - (model.vertices @ axis)[:, None] * axis
    return np.linalg.eigh(np.cov(level.T))[1][:, 2]


def _difference(view: View, surface: Surface, motion: np.ndarray, red_from: float) -> np.ndarray:
    """What a view shows of a moved model, coloured by its distance to the surface as it was."""
    seen = np.isfinite(view.depth)
    points = view.points_obj[seen] @ motion[:3, :3].T + motion[:3, 3]
    share = np.clip(surface.distance(points) / red_from, 0, 1)[:, None]
    shade = cv2.cvtColor(view.image, cv2.COLOR_BGR2GRAY)[seen][:, None] / 255
    grey = 0.45 + 0.5 * shade
    mixed = (1 - share) * grey + share * np.array([0.15, 0.1, 0.9]) * (0.6 + 0.4 * grey)
    picture = np.full_like(view.image, 255)
    picture[seen] = np.rint(255 * mixed).astype(np.uint8)
    return picture
