"""One html file that shows an examination: its findings, and pictures of the worst instances."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sopose.core.bop.catalog import dataset_name
from sopose.core.bop.records import Instance
from sopose.core.bop.scene import read_mask, read_rgb
from sopose.core.doctor.annotations import Context
from sopose.core.doctor.examine import Examination, models_of
from sopose.core.doctor.findings import Finding, Findings, Severity
from sopose.core.doctor.scenes import Shot, read_scene
from sopose.core.evaluation.report import ReportCase, image_uri
from sopose.core.making.annotate import all_instances
from sopose.core.render.visibility import render_depth
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import write_text
from sopose.core.vis.colors import AXES, ESTIMATE, TRUTH, bgr
from sopose.core.vis.overlays import contour, legend, object_view

logger = logging.getLogger(__name__)

VIEW_SIZE = 480  # pixels a side
MOST_LISTED = 20  # findings of a kind
LABELS = {"pose": TRUTH, "mask file": ESTIMATE, "box": AXES[1]}


def write_page(path: Path, examination: Examination, cases: int = 12) -> None:
    """Write the page, atomically, with up to `cases` pictures."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("sopose.core.doctor").joinpath("page.html").read_text("utf-8"))
    findings = examination.findings
    html = template.render(
        title=f"Data set {dataset_name(examination.context.root)}",
        facts=examination.facts(),
        tiles=[(f"{severity.value}s", severity.value, findings.count(severity)) for severity in Severity],
        kinds=[(kind, count, worst[:MOST_LISTED]) for kind, count, worst in findings],
        colors=LABELS,
        cases=[
            (case.title, case.caption, [(name, image_uri(picture)) for name, picture in case.panels])
            for case in worst_cases(findings, examination.context, cases)
        ],
    )
    write_text(path, html)


def worst_cases(findings: Findings, context: Context, count: int) -> list[ReportCase]:
    """Pictures of up to `count` instances, the worst of each kind first."""
    ranked = [[finding for finding in worst if finding.place] for _, _, worst in findings]
    rounds = itertools.chain.from_iterable(itertools.zip_longest(*ranked))
    by_place: dict[Any, list[Finding]] = {}
    for finding in rounds:
        if finding is not None and (finding.place in by_place or len(by_place) < count):
            by_place.setdefault(finding.place, []).append(finding)
    cases = []
    for faults in by_place.values():
        try:
            cases.append(_case(faults, context))
        except UserError as error:  # a damaged picture is no reason to lose the page
            logger.warning("no picture of %s: %s", faults[0].where, error)
    return cases


def _case(faults: Sequence[Finding], context: Context) -> ReportCase:
    """Pictures of one instance with all that was found on it."""
    place = faults[0].place
    scene = read_scene(context.root / place.split / place.scene, context, [place.im_id], place.sensor)
    shot = scene.shots[place.im_id]
    item = next(item for item in all_instances(shot.record) if item.gt_index == place.gt_index)
    image = read_rgb(shot.record)
    mask = _mask_of(item, faults[0], image.shape[:2])
    pose_mask = _silhouette(shot, item, context, shot.record.K, image.shape[1::-1])
    box = _box_of(shot, item, faults)
    view, view_K = object_view(image, shot.record.K, _around(mask, pose_mask, box, image.shape[:2]), VIEW_SIZE)
    view_A_image = view_K @ np.linalg.inv(shot.record.K)
    close = (
        None if mask is None else _moved(mask, view_A_image),
        _silhouette(shot, item, context, view_K, (VIEW_SIZE, VIEW_SIZE)),
        None if box is None else (box.reshape(2, 2) @ view_A_image[:2, :2].T + view_A_image[:2, 2]).reshape(4),
    )
    title = (
        f"{place.split}, scene {int(place.scene)}, image {place.im_id}, entry {place.gt_index} (object {item.obj_id})"
    )
    panels = [
        ("close-up", _drawn(view, *close)[..., ::-1]),
        ("whole image", _drawn(image, mask, pose_mask, box)[..., ::-1]),
    ]
    return ReportCase(title, "; ".join(f"{finding.code}: {finding.what}" for finding in faults), panels)


def _mask_of(item: Instance, finding: Finding, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask file (H, W) that a finding is about; None where there is none that fits the image."""
    paths = [item.mask_path, item.mask_visib_path]
    if "mask_visib" in finding.where or "visib" in finding.code:
        paths.reverse()
    for path in paths:
        mask = None if path is None else read_mask(path)
        if mask is not None and mask.shape == shape:
            return mask
    return None


def _silhouette(
    shot: Shot, item: Instance, context: Context, K: np.ndarray, size: tuple[int, int]
) -> np.ndarray | None:
    """The instance as its label has it, (H, W) bool; None where it can't be rendered."""
    model = models_of(shot, context).get(item.obj_id) if shot.castable else None
    return None if model is None else render_depth(model.caster, item.pose, K, size) > 0


def _box_of(shot: Shot, item: Instance, faults: Sequence[Finding]) -> np.ndarray | None:
    """The box x1, y1, x2, y2 that a finding is about, as its file has it; else None."""
    keys = [f"bbox_{finding.code.removeprefix('box-')}" for finding in faults if finding.code.startswith("box-")]
    if not keys or not shot.infos:
        return None
    x, y, w, h = getattr(shot.infos[item.gt_index], keys[0])
    return np.array([x, y, x + w, y + h])


def _around(
    mask: np.ndarray | None, silhouette: np.ndarray | None, box: np.ndarray | None, shape: tuple[int, int]
) -> np.ndarray:
    """The smallest box x1, y1, x2, y2 about everything that is drawn, within the image."""
    points = [np.argwhere(part)[:, ::-1] for part in (mask, silhouette) if part is not None and part.any()]
    points += [] if box is None else [box.reshape(2, 2)]
    corners = np.concatenate(points) if points else np.array([[0, 0], shape[::-1]])
    limits = np.array(shape[::-1]) - 1
    return np.concatenate([np.clip(corners.min(axis=0), 0, limits), np.clip(corners.max(axis=0), 0, limits)])


def _moved(mask: np.ndarray, view_A_image: np.ndarray) -> np.ndarray:
    """A mask (H, W) of the image in the close-up."""
    values = cv2.warpAffine(255 * mask.astype(np.uint8), view_A_image[:2], (VIEW_SIZE, VIEW_SIZE))
    return values > 127


def _drawn(
    image: np.ndarray, mask: np.ndarray | None, silhouette: np.ndarray | None, box: np.ndarray | None
) -> np.ndarray:
    """`image` (BGR) with the outlines that there are, and a legend."""
    shown = {"pose": silhouette, "mask file": mask}
    for label, part in shown.items():
        image = image if part is None else contour(image, part, LABELS[label])
    if box is not None:
        corners = np.clip(np.rint(box), -30000, 30000).astype(int).reshape(2, 2).tolist()
        image = cv2.rectangle(image.copy(), *corners, bgr(LABELS["box"]), 2)
    labels = [label for label, part in {**shown, "box": box}.items() if part is not None]
    return legend(image, {label: LABELS[label] for label in labels})
