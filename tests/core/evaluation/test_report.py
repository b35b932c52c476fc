"""The report is one well-formed file that needs nothing else."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np

from sopose.core.evaluation.report import ReportCase, drawn_case, image_uri, write_report
from sopose.core.vis import plots

VOID = {"meta", "img", "source", "link", "br"}


class Page(HTMLParser):
    """Collects addresses and text, and checks that every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert tag != "script"
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "srcset", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def decode(uri: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",", 1)[1]), np.uint8), cv2.IMREAD_UNCHANGED)


def write(world, tmp_path, **settings) -> str:
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    cases = [ReportCase("the <worst>", "a & b", [("overlay", picture), ("map", picture[:10])])]
    scores = world.score(world.shifted(0.07)[1:])
    write_report(tmp_path / "r.html", "Boxes <1>", scores, cases, {"model": "none & nothing"}, **settings)
    return (tmp_path / "r.html").read_text(encoding="utf-8")


def test_the_report_is_well_formed_and_self_contained(world, tmp_path):
    html = write(world, tmp_path)
    page = Page(html)
    assert page.open == []
    assert page.addresses and all(uri.startswith("data:image/") for uri in page.addresses)
    assert not re.search(r"https?://|//cdn|@import|url\(", html)
    assert all(decode(uri) is not None for uri in page.addresses)


def test_the_report_shows_scores_facts_and_cases_as_they_are(world, tmp_path):
    text = Page(write(world, tmp_path)).text
    for expected in (
        "Boxes <1>",
        "none & nothing",
        "the <worst>",
        "a & b",
        "symmetric*",
        "mean over objects",
        "8/9",
    ):
        assert expected in text
    assert "Training" not in text


def test_training_curves_appear_with_metrics(world, tmp_path):
    metrics = [{"iteration": step, "total_loss": 1 / step, "lr": 1e-4} for step in range(1, 5)]
    assert "Training" in Page(write(world, tmp_path, metrics=metrics)).text


def test_a_report_without_any_estimate_can_be_written(world, tmp_path):
    write_report(tmp_path / "r.html", "nothing", world.score([]))
    assert "0/9" in Page((tmp_path / "r.html").read_text(encoding="utf-8")).text


def test_the_report_is_the_same_each_time(world, tmp_path):
    assert write(world, tmp_path) == write(world, tmp_path)


def test_a_small_picture_is_embedded_exactly():
    picture = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    np.testing.assert_array_equal(decode(image_uri(picture))[..., ::-1], picture)
    photograph = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    assert image_uri(photograph).startswith("data:image/jpeg")


def test_a_picture_that_fails_is_reported_and_those_before_it_are_kept(world, tmp_path, caplog):
    def panels():
        yield "first", np.zeros((4, 4, 3), np.uint8)
        raise ValueError("a <mask>\nof another size")

    case = drawn_case("mug", "far off", panels())
    assert [name for name, _ in case.panels] == ["first"]
    assert case.caption == "far off. The picture is missing: a <mask> of another size" and "mug" in caplog.text
    write_report(tmp_path / "r.html", "one", world.score([]), [case])
    assert Page((tmp_path / "r.html").read_text()).open == []


def test_a_plot_that_fails_is_missing_and_the_report_is_there(world, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(plots, "error_against", lambda *args, **named: 1 / 0)
    write_report(tmp_path / "r.html", "one", world.score(world.shifted(0.07)))
    html = (tmp_path / "r.html").read_text()
    assert html.count("The plot is missing") == 2 and "division by zero" in caplog.text
    assert html.count("<picture>") == html.count('alt="') > 2
