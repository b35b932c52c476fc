"""Tables for papers and programs say what the scores say."""

from __future__ import annotations

import csv
import io
import re

import pytest

from sopose.core.evaluation.tables import (
    comparison_rows,
    difference_rows,
    format_comparison,
    format_csv,
    format_latex,
    format_table,
    table_rows,
)


@pytest.fixture
def results(world):
    return {"a_b": world.score(world.shifted(0.07)), "truth": world.score(world.truth())}


def test_the_csv_has_every_number(results):
    rows = list(csv.DictReader(io.StringIO(format_csv(results))))
    by_key = {(row["result"], row["object"], row["column"]): row for row in rows}
    scores = results["a_b"]
    for row in scores.objects:
        for column, value in row.values.items():
            assert float(by_key["a_b", row.name, column]["value"]) == value
    mean = by_key["a_b", "mean over objects", "ad_0.10"]
    assert (float(mean["low"]), float(mean["high"])) == scores.mean_intervals["ad_0.10"]
    assert by_key["truth", "all targets", "AR_MSSD"]["targets"] == "9"


def test_latex_of_one_result_has_its_objects_and_of_several_a_row_each(results):
    one = format_latex({"truth": results["truth"]})
    assert "symmetric$^*$ & 100.0" in one and "mean & 100.0" in one and "\\midrule" in one
    both = format_latex(results)
    assert "a\\_b & " in both and "truth & 100.0" in both and "symmetric" not in both
    for text in (one, both):
        widths = {line.count("&") for line in text.splitlines() if "&" in line}
        assert len(widths) == 1 and text.startswith("\\begin{tabular}{l" + "r" * widths.pop())


def test_means_stand_above_their_intervals(results):
    headings, rows = table_rows(results["a_b"])
    assert all(len(row) == len(headings) for row in rows)
    assert [row[0] for row in rows[-4:]] == ["mean over objects", "  95 %", "all targets", "  95 %"]
    column = headings.index("ad_0.05")
    low, high = map(float, rows[-3][column].split("–"))
    assert low <= float(rows[-4][column]) <= high


def test_results_of_other_metrics_are_compared_where_they_have_them(world):
    rows = comparison_rows({"a": world.score(world.truth(), metrics=("add",)), "b": world.score(world.truth())})
    assert rows[0] == ["", "a", "b"]
    ar = next(row for row in rows if row[0].startswith("AR_MSSD"))
    assert ar[1:] == ["–", "100.0 [100.0–100.0]"]


def test_what_one_result_is_above_the_first_is_said_target_by_target(world):
    results = {"far": world.score(world.shifted(0.03)), "right": world.score(world.truth())}
    rows = {row[0]: row[1:] for row in difference_rows(results)}
    above = 100 * (1 - results["far"].mean["ad_0.10"])
    (cell,) = rows["ad_0.10 (mean over objects)"]
    value, low, high = (float(number) for number in re.findall(r"[+-]\d+\.\d", cell))
    assert value == pytest.approx(above, abs=0.05) and low <= value <= high
    text = format_comparison(results)
    assert "above [1]:" in text and cell in text
    same = difference_rows({"a": results["right"], "b": results["right"]})
    assert all(row[1] == "+0.0 [+0.0 to +0.0]" for row in same)
    assert difference_rows({"alone": results["right"]}) == []


def test_a_table_of_medians_alone_can_be_printed(world):
    assert "te cm" in format_table(world.score(world.truth(), metrics=("pose",)))
