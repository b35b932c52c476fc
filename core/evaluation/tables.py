"""Scores as text: one result per object, several results side by side; for a terminal, as csv, as LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence

from sopose.core.evaluation.bootstrap import Interval, difference_intervals
from sopose.core.evaluation.metrics import AR, AR_MEAN, MEDIANS, PLUGINS
from sopose.core.evaluation.scores import Scores
from sopose.core.utils.plugins import plugged

# Key in `ObjectScores.values` -> heading. Recalls are shown in percent; what was not computed has no column.
TABLE_COLUMNS = {
    "ad_0.02": "ad_0.02",
    "ad_0.05": "ad_0.05",
    "ad_0.10": "ad_0.10",
    "auc_add": "AUC ADD",
    "auc_adi": "AUC ADD-S",
    "auc_ad": "AUC ADD(-S)",
    "auc10_ad": "AUC10 ADD(-S)",
    "deg_cm_sym_2": "2°2cm",
    "deg_cm_sym_5": "5°5cm",
    "deg_cm_sym_10": "10°10cm",
    "proj_sym_2": "proj_2",
    "proj_sym_5": "proj_5",
    "proj_sym_10": "proj_10",
    "re_deg": "re °",
    "te_cm": "te cm",
    "AR_VSD": "AR_VSD",
    "AR_MSSD": "AR_MSSD",
    "AR_MSPD": "AR_MSPD",
    "AR": "AR",
    "AP_MSSD": "AP_MSSD",
    "AP_MSPD": "AP_MSPD",
    "AP_BOP24": "AP",
}
NARROW = ("deg_cm_sym_10", "proj_sym_10", "auc10_ad")  # left out of the table in a terminal
SHARED_NOTES = (
    "Recalls in %, over all instances to be found; a missing one counts as wrong. ad: ADD, or ADI for "
    "objects marked *. n°n cm, proj (px) and re take the best symmetry. re, te: median over found instances.",
    "Intervals hold 95 % of a bootstrap over images (seed 0).",
)
DIFFERENCE_NOTE = (
    "Points of 100, with 95 % of a bootstrap that draws images for both alike. An interval that holds 0 shows none."
)
AR_NOTE = "AR_… of all targets are BOP's{}."
AR_MEAN_NOTE = "; the mean of AR_MSSD and AR_MSPD is not BOP's AR, which has VSD as third part"


def shown_columns(scores: Scores, all_columns: bool = False) -> list[str]:
    """Keys of the columns that these scores have."""
    have = {key for row in scores.objects for key in row.values}
    own = [key for key in TABLE_COLUMNS if key in have and (all_columns or key not in NARROW)]
    return [*own, *sorted(key for key in have if key in plugged(PLUGINS))]


def notes_of(scores: Scores) -> list[str]:
    """The lines that explain a table, and what was left out."""
    notes = [*SHARED_NOTES, *scores.notes]
    if "AR_MSSD" in scores.overall:
        notes.append(AR_NOTE.format("" if AR in scores.overall else AR_MEAN_NOTE))
    return notes


def table_rows(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: one per object, then mean over objects and all targets, each with its 95 % interval."""
    columns = shown_columns(scores)
    headings = ["object", "targets", "found", *(TABLE_COLUMNS.get(key, key) for key in columns)]
    rows = [
        [f"{row.name}{'*' if row.symmetric else ''}", str(row.targets), str(row.found), *_cells(columns, row.values)]
        for row in scores.objects
    ]
    rows.append(["mean over objects", "", "", *_cells(columns, scores.mean)])
    rows.append(["  95 %", "", "", *_interval_cells(columns, scores.mean_intervals)])
    rows.append(["all targets", str(scores.targets), str(scores.found), *_cells(columns, scores.overall)])
    rows.append(["  95 %", "", "", *_interval_cells(columns, scores.overall_intervals)])
    return headings, rows


def format_table(scores: Scores) -> str:
    """The table for a terminal, with the lines that explain it."""
    headings, rows = table_rows(scores)
    lines = aligned([headings, *rows])
    rule = "-" * len(lines[0])
    summary = []
    if AR in scores.overall:
        summary.append(f"AR (VSD, MSSD, MSPD): {format_value(AR, scores.overall[AR])}")
    elif AR_MEAN in scores.overall:
        summary.append(f"mean of AR_MSSD and AR_MSPD: {format_value(AR_MEAN, scores.overall[AR_MEAN])}")
    if scores.time_per_image is not None:
        summary.append(f"time per image: {scores.time_per_image:.3f} s")
    return "\n".join([lines[0], rule, *lines[1:-4], rule, *lines[-4:], rule, "   ".join(summary), *notes_of(scores)])


def format_comparison(results: Mapping[str, Scores]) -> str:
    """Several results side by side: means over objects, then BOP's recalls over all targets, with intervals.

    Then what each is above the first, target by target.
    """
    names, *rows = comparison_rows(results)
    numbers = ["", *(f"[{number}]" for number in range(1, len(names)))]
    legend = [f"{number} {name}" for number, name in zip(numbers[1:], names[1:], strict=True)]
    above = difference_rows(results)
    differences = ["", "above [1]:", *aligned([["", *numbers[2:]], *above]), DIFFERENCE_NOTE] if above else []
    return "\n".join([*legend, "", *aligned([numbers, *rows]), *differences])


def difference_rows(results: Mapping[str, Scores]) -> list[list[str]]:
    """What each result but the first is above the first, a row for each recall: "+3.1 [0.4 to 5.8]", points of 100.

    No rows where results aren't of the same targets, or of one image alone.
    """
    first, *others = results.values()
    given = [scores.credits for scores in (first, *others)]
    if not others or any(credits is None or not credits.same_targets(given[0]) for credits in given):
        return []
    columns = [key for key in (*TABLE_COLUMNS, AR_MEAN) if all(key in credits.found for credits in given)]
    intervals = [difference_intervals(credits, given[0]) for credits in given[1:]]
    rows = []
    for key in sorted(columns, key=per_target):
        cells = []
        for scores, (mean, overall) in zip(others, intervals, strict=True):
            own, reference = ((of.overall if per_target(key) else of.mean)[key] for of in (scores, first))
            low, high = (overall if per_target(key) else mean)[key]
            cells.append(f"{100 * (own - reference):+.1f} [{100 * low:+.1f} to {100 * high:+.1f}]")
            if math.isnan(low):
                return []
        rows.append([_row_label(key), *cells])
    return rows


def _row_label(key: str) -> str:
    over = "all targets" if per_target(key) else "mean over objects"
    return f"{TABLE_COLUMNS.get(key, 'mean of both AR')} ({over})"


def comparison_rows(results: Mapping[str, Scores]) -> list[list[str]]:
    """Cells of `format_comparison`: the names of the results, then a row for each column."""
    have = {key for scores in results.values() for key in (*scores.mean, *scores.overall)}
    rows = [["", *results]]
    for key in sorted((key for key in (*TABLE_COLUMNS, AR_MEAN) if key in have), key=per_target):
        rows.append([_row_label(key), *(_with_interval(scores, key) for scores in results.values())])
    rows.append(["found instances", *(f"{scores.found}/{scores.targets}" for scores in results.values())])
    times = [scores.time_per_image for scores in results.values()]
    rows.append(["time per image, s", *("–" if time is None else f"{time:.3f}" for time in times)])
    return rows


def format_csv(results: Mapping[str, Scores]) -> str:
    """All numbers of all results: one row a result, object (or mean) and column, shares in [0, 1]."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["result", "object", "targets", "found", "column", "value", "low", "high"])
    for name, scores in results.items():
        means = [
            ("mean over objects", "", "", scores.mean, scores.mean_intervals),
            ("all targets", scores.targets, scores.found, scores.overall, scores.overall_intervals),
        ]
        rows = [(row.name, row.targets, row.found, row.values, row.intervals) for row in scores.objects]
        for label, targets, found, values, intervals in [*rows, *means]:
            for key, value in values.items():
                low, high = intervals.get(key, ("", ""))
                writer.writerow([name, label, targets, found, key, *map(_number, (value, low, high))])
    return out.getvalue()


def format_latex(results: Mapping[str, Scores]) -> str:
    """A LaTeX `tabular` (booktabs): a row for each result, or for one result a row for each object."""
    first = next(iter(results.values()))
    columns = [key for key in shown_columns(first) if all(key in shown_columns(scores) for scores in results.values())]
    headings = [_latex(TABLE_COLUMNS.get(key, key)) for key in columns]
    if len(results) == 1:
        body = [
            [_latex(row.name) + ("$^*$" if row.symmetric else ""), *_cells(columns, row.values)]
            for row in first.objects
        ]
        body += [["mean", *_cells(columns, first.mean)], ["all targets", *_cells(columns, first.overall)]]
        rule = len(body) - 2
    else:
        body = [[_latex(name), *(_main_value(scores, key) for key in columns)] for name, scores in results.items()]
        rule = 0
    lines = [
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        " & ".join(["", *headings]) + " \\\\",
        "\\midrule",
    ]
    for index, cells in enumerate(body):
        lines += ["\\midrule"] if rule and index == rule else []
        lines.append(" & ".join(cell.replace("–", "--") for cell in cells) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def format_value(key: str, value: float | None) -> str:
    """A recall in percent with one decimal, a median with two; a dash for what is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.2f}" if key in MEDIANS else f"{100 * value:.1f}"


def per_target(key: str) -> bool:
    """Whether a column is reported over all targets (BOP's AR), not as a mean over objects."""
    return key.startswith("AR")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines of equal width: the first column left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _main_value(scores: Scores, key: str) -> str:
    return format_value(key, (scores.overall if per_target(key) else scores.mean).get(key))


def _with_interval(scores: Scores, key: str) -> str:
    intervals = scores.overall_intervals if per_target(key) else scores.mean_intervals
    value = _main_value(scores, key)
    return f"{value} [{interval_text(key, intervals[key])}]" if key in intervals else value


def _cells(columns: Sequence[str], values: Mapping[str, float]) -> list[str]:
    return [format_value(key, values.get(key)) for key in columns]


def _interval_cells(columns: Sequence[str], intervals: Mapping[str, Interval]) -> list[str]:
    return [interval_text(key, intervals[key]) if key in intervals else "" for key in columns]


def interval_text(key: str, bounds: Interval) -> str:
    """Both bounds, or a dash where there is no interval: of a single image."""
    low, high = (format_value(key, bound) for bound in bounds)
    return f"{low}–{high}" if low != "–" else "–"


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else repr(float(value)) if math.isfinite(value) else ""


def _latex(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    return text.replace("°", "$^\\circ$")
