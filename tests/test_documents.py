"""Pages: each command that stands there can be typed, each link leads somewhere, each picture is there."""

from __future__ import annotations

import re
import shlex

import pytest

from sopose.cli.main import VERBS, load_verb, verb_parser
from tests.support.pages import commands, pages


def test_commands_of_the_pages_are_understood(repository):
    names = {verb.name for verb in VERBS}
    parsers = {name: verb_parser(name, load_verb(name, {})) for name in names}
    count = 0
    for page in pages(repository):
        for name, *words in commands(page.read_text()):
            if name.startswith("-") or name == "completion" or "--help" in words:
                continue
            assert name in names, f"{page}: sopose {name}"
            try:
                parsers[name].parse_args(words)
            except SystemExit:
                pytest.fail(f"{page}: sopose {name} {shlex.join(words)} is not understood")
            count += 1
    assert count > 40


def test_configurations_that_pages_name_exist(repository):
    for page in pages(repository):
        for name in re.findall(r"configs/[\w/]+\.(?:py|safetensors)", page.read_text()):
            assert (repository / name).is_file(), f"{page}: {name}"


def test_links_and_pictures_lead_somewhere(repository):
    for page in pages(repository):
        text = page.read_text()
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith(("http", "mailto:")):
                continue
            path, _, anchor = target.partition("#")
            other = page if not path else page.parent / path
            assert other.exists(), f"{page}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
                slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
                assert anchor in slugs, f"{page}: {target}"


def test_every_page_is_in_the_index(repository):
    index = (repository / "docs" / "README.md").read_text()
    for page in (repository / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_messages_that_the_help_explains_are_those_of_the_code(repository):
    """Each part of a message between names and numbers stands in the code, or is another library's."""
    sources = [path for folder in ("core", "gdrn_selfocc_modeling") for path in (repository / folder).rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # texts over several lines
    code = re.sub(r"\{[^{}]*\}|%[sdg]", "…", code)
    table = (repository / "docs" / "help.md").read_text().partition("## Messages")[2].partition("**No message")[0]
    rows = [line.split(" | ")[0].lstrip("| ") for line in table.splitlines() if line.startswith("| `")]
    missing = []
    for row in rows:
        if "PyTorch's text" in row:
            continue
        for message in re.findall(r"(?<!`)`([^`]+)`(?!`)", row):
            parts = [part.strip(" .,;:'") for part in message.split("…")]
            missing += [part for part in parts if len(part) > 8 and part not in code]
    assert len(rows) > 30 and not missing
