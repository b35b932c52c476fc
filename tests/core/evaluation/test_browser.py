"""The report in a browser: it opens without an error, asks for nothing, and its pictures are there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from sopose.core.evaluation.report import ReportCase, write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--log-level=0",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no name leads anywhere
)
WIDTH, HEIGHT = 1200, 5200
# Appended to a copy of the page: it counts the pictures that did not load.
PROBE = """<script>
window.addEventListener('load', () => {
  const bad = [...document.images].filter(image => !image.complete || image.naturalWidth === 0).length;
  const loaded = performance.getEntriesByType('resource').filter(entry => !entry.name.startsWith('data:')).length;
  document.title = `images ${document.images.length} bad ${bad} loaded ${loaded}`;
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser; install one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)")
    return found


@pytest.fixture
def page(world, tmp_path) -> Path:
    picture = np.full((60, 80, 3), (200, 30, 30), np.uint8)
    cases = [ReportCase("worst", "far off", [("overlay", picture), ("image", picture)])]
    scores, other = world.score(world.shifted(0.07)), world.score(world.truth())
    compared = {"shifted": scores, "truth": other}
    write_report(tmp_path / "report.html", "Boxes", scores, cases, {"data": "boxes"}, compared=compared)
    return tmp_path / "report.html"


def run(browser: str, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={WIDTH},{HEIGHT}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=tmp_path)


def test_the_page_opens_without_an_error_and_is_pictured(browser, page, tmp_path):
    done = run(browser, tmp_path, f"--screenshot={tmp_path / 'page.png'}", page.as_uri())
    # The page's own messages; the browser's complaints of a missing desktop are not the page's.
    assert "CONSOLE" not in done.stderr
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    rows_with_ink = (picture.reshape(HEIGHT, -1).std(axis=1) > 1).mean()
    assert rows_with_ink > 0.5
    red = (np.abs(picture.astype(int) - (30, 30, 200)).max(axis=-1) < 12).sum()
    assert red > 1000  # the case's picture is shown


def test_every_picture_is_shown_and_nothing_is_loaded_from_elsewhere(browser, page, tmp_path):
    probe = page.with_name("probe.html")
    html = page.read_text(encoding="utf-8").replace('loading="lazy"', "")
    probe.write_text(html.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    dom = run(browser, tmp_path, "--virtual-time-budget=5000", "--dump-dom", probe.as_uri()).stdout
    images, bad, loaded = map(int, re.search(r"images (\d+) bad (\d+) loaded (\d+)", dom).groups())
    assert images >= 8 and bad == loaded == 0
