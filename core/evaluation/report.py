"""One html file that shows a result: scores, plots, pictures of cases; nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sopose.core.evaluation.metrics import AR, AR_MEAN, MEDIANS
from sopose.core.evaluation.scores import Scores
from sopose.core.evaluation.tables import (
    comparison_rows,
    format_value,
    interval_text,
    notes_of,
    per_target,
    shown_columns,
    table_rows,
)
from sopose.core.utils.files import write_text
from sopose.core.vis import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

CURVE_LABELS = {
    "ad": ("ADD(-S)", "threshold, diameters"),
    "mssd": ("MSSD", "threshold, diameters"),
    "mspd": ("MSPD", "threshold, px in an image 640 px wide"),
}
BARS = {
    "ad_0.10": "ADD(-S) 0.1 d",
    "auc_ad": "AUC ADD(-S)",
    "AR_VSD": "AR VSD",
    "AR_MSSD": "AR MSSD",
    "AR_MSPD": "AR MSPD",
}
# Headline numbers: column -> (name, what it is).
TILES = {
    "ad_0.10": ("ADD(-S) 0.1 d", "%, mean over objects"),
    "auc_ad": ("AUC ADD(-S)", "%, mean over objects"),
    "AR": ("AR", "%, all targets (BOP)"),
    "AR_VSD": ("AR VSD", "%, all targets (BOP)"),
    "AR_MSSD": ("AR MSSD", "%, all targets (BOP)"),
    "AR_MSPD": ("AR MSPD", "%, all targets (BOP)"),
    "AP_BOP24": ("AP", "%, mean over objects (BOP24)"),
}
MAX_ERROR = 0.5  # diameters: the upper end of the scale of error plots, MSSD's largest threshold
LARGE_PNG = 100_000  # bytes; larger pictures are photographs, and are embedded as JPEG


Panel = tuple[str, np.ndarray]  # name, (H, W, 3) uint8 RGB picture


@dataclass(frozen=True, eq=False)
class ReportCase:
    """One example: a title, a line of explanation and pictures, each with its name."""

    title: str
    caption: str
    panels: list[Panel]


def drawn_case(title: str, caption: str, panels: Iterable[Panel]) -> ReportCase:
    """A case of the pictures that could be drawn; where drawing fails, the log and the caption say what is missing.

    Scores are never lost to a picture, so nothing is raised, whatever is wrong with a mask, an image or a pose.
    """
    drawn: list[Panel] = []
    try:
        drawn.extend(panels)
    except Exception as error:
        reason = _reason(error)
        logger.warning("%s: a picture of the report is missing (%s)", title, reason)
        caption = f"{caption}. The picture is missing: {reason}"
    return ReportCase(title, caption, drawn)


@dataclass(frozen=True)
class _Figure:
    """A plot twice, for light and for dark pages, as data URIs; both are empty where it could not be drawn."""

    title: str
    light: str = ""
    dark: str = ""
    wide: bool = False


def write_report(
    path: Path,
    title: str,
    scores: Scores,
    cases: Sequence[ReportCase] = (),
    facts: Mapping[str, str] | None = None,
    metrics: Sequence[Mapping[str, float]] | None = None,
    compared: Mapping[str, Scores] | None = None,
) -> None:
    """Write the report, atomically.

    Args:
        facts: what a reader should know beside the scores (model, data set, date, …), shown on top.
        metrics: rows of a training's `metrics.json`; every loss is drawn over the iteration.
        compared: several results, this one among them, for a table side by side.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("sopose.core.evaluation").joinpath("report.html").read_text("utf-8"))
    headings, rows = table_rows(scores)
    html = template.render(
        title=title,
        facts=dict(facts or {}),
        tiles=_tiles(scores),
        headings=headings,
        objects=rows[:-4],
        means=rows[-4:],
        share_columns=[i for i, key in enumerate(shown_columns(scores), start=3) if key not in MEDIANS],
        notes=notes_of(scores),
        compared=comparison_rows(compared) if compared else [],
        figures=_figures(scores, metrics, compared),
        cases=[
            (case.title, case.caption, [(name, image_uri(picture)) for name, picture in case.panels]) for case in cases
        ],
    )
    write_text(path, html)


def image_uri(picture: np.ndarray) -> str:
    """An (H, W, 3) uint8 RGB picture as a data URI: PNG, or JPEG where that is large."""
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    kind, data = "png", cv2.imencode(".png", bgr)[1].tobytes()
    if len(data) > LARGE_PNG:
        kind, data = "jpeg", cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    return _data_uri(kind, data)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _tiles(scores: Scores) -> list[tuple[str, str, str]]:
    """The headline numbers: (name, value, what it is)."""
    tiles = []
    for key, (name, meaning) in TILES.items():
        values, intervals = (
            (scores.overall, scores.overall_intervals) if per_target(key) else (scores.mean, scores.mean_intervals)
        )
        if key in values:
            interval = f"; 95 %: {interval_text(key, intervals[key])}" if key in intervals else ""
            tiles.append((name, format_value(key, values[key]), meaning + interval))
    if AR_MEAN in scores.overall and AR not in scores.overall:
        tiles.append(("mean of both AR", format_value("", scores.overall[AR_MEAN]), "%, without VSD"))
    tiles.append(("found", f"{scores.found}/{scores.targets}", "instances with an estimate"))
    if scores.time_per_image is not None:
        tiles.append(("time", f"{scores.time_per_image:.3f} s", "per image"))
    return tiles


def _figures(
    scores: Scores, metrics: Sequence[Mapping[str, float]] | None, compared: Mapping[str, Scores] | None
) -> list[_Figure]:
    names = {str(row.obj_id): row.name for row in scores.objects}
    many = len(names) > plots.MANY
    have = {key: label for key, label in BARS.items() if key in scores.objects[0].values}
    bars = {label: [row.values[key] for row in scores.objects] for key, label in have.items()}
    figures = []
    if bars:
        draw = partial(plots.object_bars, labels=list(names.values()), series=bars)
        figures.append(_figure("Per object", draw, wide=many or len(bars) > 3))
    for key, (label, xlabel) in CURVE_LABELS.items():
        if key not in scores.curves:
            continue
        curve = scores.curves[key]
        recalls = {names[obj_id]: curve[obj_id] for obj_id in names}
        draw = partial(plots.recall_curves, recalls=recalls, mean=curve["mean"], xlabel=xlabel)
        figures.append(_figure(f"{label}: recall over threshold", partial(draw, thresholds=curve["thresholds"])))
        if compared:
            means = {_short(name): other.curves[key]["mean"] for name, other in compared.items() if key in other.curves}
            draw = partial(plots.recall_curves, recalls=means, mean=None, xlabel=xlabel)
            figures.append(_figure(f"{label}: results compared", partial(draw, thresholds=curve["thresholds"])))
    diameters = {row.obj_id: row.diameter_m for row in scores.objects}
    errors = [row.errors["mssd"] / diameters[row.obj_id] for row in scores.instances]
    for attribute, label in (("visib_fract", "visible fraction"), ("distance_m", "distance, m")):
        quantity = [getattr(row, attribute) for row in scores.instances]
        draw = partial(plots.error_against, quantity=quantity, errors=errors, limit=MAX_ERROR, xlabel=label)
        figures.append(_figure(f"MSSD over {label.split(',')[0]}", partial(draw, ylabel="MSSD, diameters")))
    return figures + _training_figures(metrics or [])


def _training_figures(metrics: Sequence[Mapping[str, float]]) -> list[_Figure]:
    """Every entry with "loss" in its name, over the entry "iteration"."""
    names = sorted({key for row in metrics for key in row if "loss" in key})
    if not names:
        return []
    steps = [row["iteration"] for row in metrics]
    # A loss that was not finite is null there.
    series = {name: [np.nan if row.get(name) is None else row[name] for row in metrics] for name in names}
    return [_figure("Training", partial(plots.training_curves, steps=steps, series=series), wide=True)]


def _figure(title: str, draw: Callable[[Axes], None], wide: bool = False) -> _Figure:
    size = (11.4, 3.8) if wide else (5.6, 3.6)
    try:
        light, dark = (_data_uri("png", plots.plot_png(draw, theme, size)) for theme in (plots.LIGHT, plots.DARK))
    except Exception as error:  # a plot is no reason to lose the report
        logger.warning("the plot '%s' of the report is missing (%s)", title, _reason(error))
        return _Figure(title)
    return _Figure(title, light, dark, wide)


def _reason(error: Exception) -> str:
    """An error in one short line."""
    return " ".join((str(error) or type(error).__name__).split())[:200]


def _short(name: str, limit: int = 28) -> str:
    """A result's name that fits a legend."""
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
