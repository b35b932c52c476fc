"""Rules about the code itself."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

FORBIDDEN_CALLS = {"eval", "exec"}


def sources(repository: Path, *folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (repository / folder).rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_core_knows_nothing_of_the_method(repository):
    for path in sources(repository, "core"):
        assert not any(name.startswith("gdrn_selfocc_modeling") for name in imported_modules(path)), path
        text = path.read_text().lower()
        assert "self-occlusion" not in text and "selfocc" not in text, path


def test_no_text_is_evaluated_and_nothing_is_unpickled(repository):
    for path in sources(repository, "core", "gdrn_selfocc_modeling", "tools"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
                assert node.attr not in ("load", "loads", "dump", "dumps"), f"{path}:{node.lineno}"


def test_networks_see_no_configuration(repository):
    for path in sources(repository, "gdrn_selfocc_modeling/models", "gdrn_selfocc_modeling/losses"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name in ("__init__", "forward"):
                assert "cfg" not in [argument.arg for argument in node.args.args], f"{path}:{node.lineno}"


@pytest.mark.parametrize("folder", ["tools", "gdrn_selfocc_modeling"])
def test_every_script_shows_its_help_with_an_example(repository, folder, capsys):
    for path in sorted((repository / folder).rglob("*.py")):
        text = path.read_text()
        if "__main__" not in text:
            continue
        assert "run_cli(main)" in text, path
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(path), run_name="script")["main"](["--help"])
        said = capsys.readouterr().out
        assert left.value.code == 0 and "example" in said and path.name in said.split("example")[1], path
