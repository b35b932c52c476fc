"""Rules about the code itself: which room may import which, what stands once, and what is not done at all."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

METHOD, CORE = "gdrn_selfocc_modeling", "core"
# From the ground up. A room imports from floors below its own, never from its own floor or above.
FLOORS = (
    ("core.utils",),
    ("core.config", "core.geometry", "core.solver", "core.data", "core.legacy"),
    ("core.rays", "core.engine"),
    ("core.objects",),
    ("core.bop", "core.render"),
    ("core.symmetry", "core.synthesis"),
    ("core.vis",),
    ("core.evaluation", "core.making"),
    ("core.doctor", "core.detection"),
    ("batch", "layers"),
    ("settings",),
    ("models", "losses", "maps"),
    ("data",),
    ("vis",),
    ("inference",),
    ("training", "export"),
    ("main_gdrn", "tools"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ROOTS = ("train", "evaluate_checkpoint")  # of composition, beside build_*
FORBIDDEN_CALLS = {"eval", "exec"}


def sources(repository: Path, *folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (repository / folder).rglob("*.py"))


def module_name(repository: Path, path: Path) -> str:
    """`sopose.core.bop.scene` of core/bop/scene.py."""
    parts = path.relative_to(repository).with_suffix("").parts
    parts = (("sopose", *parts) if parts[0] == CORE else ("sopose", *parts[1:])) if parts else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever the import stands; `from a import b` may be of a module a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    """The room of a module of ours: `core.bop`, `models`; None for what isn't ours or is no room."""
    parts = module.split(".")
    if parts[0] != "sopose" or len(parts) < 2:
        return None
    return ".".join(parts[1:3]) if parts[1] == CORE else parts[1]


def test_every_room_has_its_floor(repository):
    rooms = {room_of(module_name(repository, path)) for path in sources(repository, CORE, METHOD)}
    assert rooms - {None, CORE} == set(FLOOR)


def test_imports_go_down_the_floors(repository):
    """No room imports a room above or beside it. The rooms of `core` lie lowest, so `core` never imports the method."""
    for path in sources(repository, CORE, METHOD):
        here = room_of(module_name(repository, path))
        for module in imported_modules(path):
            there = room_of(module)
            if here in FLOOR and there in FLOOR and there != here:
                assert FLOOR[there] < FLOOR[here], f"{path}: {here} imports {there} ({module})"


def test_modules_import_each_other_in_no_circle(repository):
    names = {module_name(repository, path): path for path in sources(repository, CORE, METHOD)}
    imports = {name: set(imported_modules(path)) & set(names) - {name} for name, path in names.items()}
    while imports:
        leaves = {name for name, needs in imports.items() if not needs & set(imports)}
        assert leaves, f"these import each other in a circle, or stand above one that does: {sorted(imports)}"
        imports = {name: needs for name, needs in imports.items() if name not in leaves}


def test_core_knows_nothing_of_the_method(repository):
    for path in sources(repository, CORE):
        text = path.read_text().lower()
        assert METHOD not in text and "self-occlusion" not in text and "selfocc" not in text, path


def test_no_text_is_evaluated_and_nothing_is_unpickled(repository):
    for path in sources(repository, CORE, METHOD, "tools"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
                assert node.attr not in ("load", "loads", "dump", "dumps"), f"{path}:{node.lineno}"


def annotated_functions(path: Path) -> Iterator[tuple[ast.FunctionDef, set[str]]]:
    """Every function of a file with the annotations of its parameters."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node, {ast.unparse(each.annotation) for each in ast.walk(node.args) if getattr(each, "annotation", 0)}


def test_networks_and_losses_see_no_settings(repository):
    for path in sources(repository, f"{METHOD}/models", f"{METHOD}/losses"):
        for node, kinds in annotated_functions(path):
            if node.name in ("__init__", "forward", "__call__"):
                assert not [kind for kind in kinds if "Settings" in kind], f"{path}:{node.lineno}"


def test_all_settings_at_once_reach_only_what_assembles(repository):
    """A root that is handed around hides what each part depends on."""
    for path in sources(repository, METHOD):
        for node, kinds in annotated_functions(path):
            if room_of(module_name(repository, path)) != "settings" and "Settings" in kinds:
                assert node.name.startswith("build_") or node.name in ROOTS, f"{path}:{node.lineno}: {node.name}"


@pytest.mark.parametrize("folder", ["tools", METHOD])
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


# Their help has to come at once; the others are for those who train or measure anyway.
QUICK = (
    *(f"{METHOD}/{name}.py" for name in ("main_gdrn", "tools/generate_P", "tools/generate_training_images")),
    *(f"tools/{name}.py" for name in ("check_dataset", "convert_checkpoint", "evaluate", "export_weights")),
    *(f"tools/{name}.py" for name in ("find_symmetries", "make_targets", "new_dataset", "show_samples", "view")),
)
SLOW_TO_IMPORT = {"torch", "torchvision", "timm", "tensorboard", "trimesh", "matplotlib", "joblib", "scipy.stats"}
SHOW_HELP = """
import contextlib, io, runpy, sys
for path in sys.argv[1:]:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path(path, run_name="script")["main"](["--help"])
    print(path, *sys.modules)
"""


def test_help_is_shown_without_what_is_slow_to_import(repository):
    command = [sys.executable, "-c", SHOW_HELP, *QUICK]
    said = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    imported = {path: SLOW_TO_IMPORT & set(modules) for path, *modules in map(str.split, said.splitlines())}
    assert list(imported) == list(QUICK)
    assert not {path: modules for path, modules in imported.items() if modules}
