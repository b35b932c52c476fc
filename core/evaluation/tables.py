"""Scores as text: one result per object, or several results side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from core.evaluation.evaluator import AR_MEAN, Scores

# Key in `ObjectScores.values` -> heading. Recalls are shown in percent.
TABLE_COLUMNS = {
    "ad_0.02": "ad_0.02",
    "ad_0.05": "ad_0.05",
    "ad_0.10": "ad_0.10",
    "deg_cm_sym_2": "2°2cm",
    "deg_cm_sym_5": "5°5cm",
    "proj_sym_2": "proj_2",
    "proj_sym_5": "proj_5",
    "re_deg": "re °",
    "te_cm": "te cm",
    "AR_MSSD": "AR_MSSD",
    "AR_MSPD": "AR_MSPD",
}
MEDIANS = ("re_deg", "te_cm")
NOTES = (
    "Recalls in %, over all instances to be found; a missing one counts as wrong. ad: ADD, or ADI for "
    "objects marked *. n°n cm, proj (px) and re take the best symmetry. re, te: median over found instances.",
    "AR_MSSD and AR_MSPD of all targets are BOP's; their mean is not BOP's AR, which has VSD as third part.",
)


def table_rows(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table: one row per object, the mean over objects, and all targets."""
    headings = ["object", "targets", "found", *TABLE_COLUMNS.values()]
    rows = [
        [f"{row.name}{'*' if row.symmetric else ''}", str(row.targets), str(row.found), *_cells(row.values)]
        for row in scores.objects
    ]
    rows.append(["mean over objects", "", "", *_cells(scores.mean)])
    rows.append(["all targets", str(scores.targets), str(scores.found), *_cells(scores.overall)])
    return headings, rows


def format_table(scores: Scores) -> str:
    """The table for a terminal, with the lines that explain it."""
    headings, rows = table_rows(scores)
    lines = _aligned([headings, *rows])
    rule = "-" * len(lines[0])
    summary = f"mean of AR_MSSD and AR_MSPD: {format_value(AR_MEAN, scores.overall[AR_MEAN])}"
    if scores.time_per_image is not None:
        summary += f"   time per image: {scores.time_per_image:.3f} s"
    return "\n".join([lines[0], rule, *lines[1:-2], rule, *lines[-2:], rule, summary, *NOTES])


def format_comparison(results: Mapping[str, Scores]) -> str:
    """Several results side by side: means over objects, then BOP's recalls over all targets."""
    names = list(results)
    per_object = [key for key in TABLE_COLUMNS if not key.startswith("AR_")]
    per_target = [key for key in (*TABLE_COLUMNS, AR_MEAN) if key.startswith("AR_")]
    lines = [["", *(f"[{number}]" for number in range(1, len(names) + 1))]]
    for key in per_object:
        label = f"{TABLE_COLUMNS[key]} (mean over objects)"
        lines.append([label, *(format_value(key, results[name].mean.get(key)) for name in names)])
    for key in per_target:
        label = f"{TABLE_COLUMNS.get(key, 'mean of both')} (all targets)"
        lines.append([label, *(format_value(key, results[name].overall.get(key)) for name in names)])
    lines.append(["found instances", *(f"{results[name].found}/{results[name].targets}" for name in names)])
    times = [results[name].time_per_image for name in names]
    lines.append(["time per image, s", *("–" if time is None else f"{time:.3f}" for time in times)])
    legend = [f"[{number}] {name}" for number, name in enumerate(names, start=1)]
    return "\n".join([*legend, "", *_aligned(lines)])


def format_value(key: str, value: float | None) -> str:
    """A recall in percent with one decimal, a median with two; a dash for what is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.2f}" if key in MEDIANS else f"{100 * value:.1f}"


def _cells(values: Mapping[str, float]) -> list[str]:
    return [format_value(key, values.get(key)) for key in TABLE_COLUMNS]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of equal width: the first column left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
