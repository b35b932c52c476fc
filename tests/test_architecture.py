"""Rules about the code itself: which room may import which, what stands once, and what is not done at all."""

from __future__ import annotations

import ast
import runpy
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from sopose.cli.main import VERBS
from sopose.cli.main import main as command

METHOD, CORE = "gdrn_selfocc_modeling", "core"
# From the ground up. A room imports from floors below its own, never from its own floor or above.
FLOORS = (
    ("core.utils",),
    ("core.images",),
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
    ("tools",),
    ("cli",),
    ("main_gdrn", "__main__"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ROOTS = (
    "train",
    "train_project",
    "evaluate_checkpoint",
    "evaluate_run",
    "report_again",
)  # of composition, beside build_*
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
    yield from modules_of(ast.walk(ast.parse(path.read_text())), path)


def modules_of(nodes: Iterable[ast.AST], path: Path) -> Iterator[str]:
    """The modules that some nodes of a file import."""
    for node in nodes:
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


def test_pictures_import_no_network(repository):
    for path in sources(repository, f"{METHOD}/vis"):
        assert "models" not in {room_of(module) for module in imported_modules(path)}, path


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


def attribute_of(node: ast.AST) -> tuple[str, str]:
    """The last two words of `a.b.c`: ("b", "c"); empty words for what is no such thing."""
    if not isinstance(node, ast.Attribute):
        return "", ""
    owner = node.value
    return getattr(owner, "attr", getattr(owner, "id", "")), node.attr


def decodes_images(node: ast.AST) -> bool:
    imports = isinstance(node, ast.ImportFrom) and node.module == "PIL"
    imports |= isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "PIL" for alias in node.names)
    owner, name = attribute_of(node)
    return imports or (owner == "cv2" and name.startswith(("imread", "imdecode"))) or (owner, name) == ("Image", "open")


def loads_meshes(node: ast.AST) -> bool:
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
    exchange = module.startswith("trimesh") and any(name.startswith("load") for name in names)
    owner, name = attribute_of(node)
    return exchange or (owner in ("trimesh", "exchange", "load") and name.startswith("load"))


def reads_key(*keys: str):
    """Whether a node is one of the keys of a json file, but not where an object to be written has it."""

    def finds(node: ast.AST) -> bool:
        return isinstance(node, ast.Constant) and node.value in keys

    return finds


# What one module alone may do: whoever needs it asks there, so that no two readers of one thing can differ.
READERS = {
    "core/images/files.py": decodes_images,
    "core/objects/mesh_files.py": loads_meshes,
    "core/objects/ply.py": reads_key("end_header", "end_header\n", "texturefile"),
    "core/bop/fields.py": reads_key("cam_K"),
    "core/bop/detections.py": reads_key("bbox_est", "counts"),
}


def uses(text: str, finds) -> list[int]:
    """The lines of a module that have what is looked for; keys of objects that are written are left out."""
    tree = ast.parse(text)
    written = {id(key) for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
    return [node.lineno for node in ast.walk(tree) if id(node) not in written and finds(node)]


@pytest.mark.parametrize("home", READERS)
def test_what_is_read_is_read_in_one_module(repository, home):
    for path in sources(repository, CORE, METHOD, "tools"):
        lines = uses(path.read_text(), READERS[home])
        assert bool(lines) == (path == repository / home), f"{path}:{lines}: {home} is the place to read it"


@pytest.mark.parametrize(
    ("home", "line"),
    [
        ("core/images/files.py", "import cv2; image = cv2.imread('a.png')"),
        ("core/images/files.py", "image = cv2.imdecode(data, 1)"),
        ("core/images/files.py", "from PIL import Image"),
        ("core/images/files.py", "import PIL.Image; PIL.Image.open('a.png')"),
        ("core/objects/mesh_files.py", "import trimesh; mesh = trimesh.load('a.obj')"),
        ("core/objects/mesh_files.py", "mesh = trimesh.load_mesh('a.obj')"),
        ("core/objects/mesh_files.py", "from trimesh.exchange.ply import load_ply"),
        ("core/bop/fields.py", "K = entry['cam_K']"),
        ("core/bop/fields.py", "K = require_key(entry, 'cam_K', where)"),
        ("core/bop/fields.py", "K = entry.get('cam_K')"),
        ("core/bop/detections.py", "box = entry['bbox_est']"),
        ("core/bop/detections.py", "counts = item.segmentation['counts']"),
    ],
)
def test_a_second_reader_is_found(home, line):
    assert uses(line, READERS[home])
    assert not uses("entry = {'cam_K': K, 'segmentation': mask, 'bbox_est': box}", READERS[home])


@pytest.mark.parametrize("folder", ["tools", METHOD])
def test_every_script_shows_its_help_with_an_example(repository, folder, capsys):
    for path in sorted((repository / folder).rglob("*.py")):
        text = path.read_text()
        if "__main__" not in text or path.name == "__main__.py":
            continue
        assert "run_cli(main)" in text, path
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(path), run_name="script")["main"](["--help"])
        said = capsys.readouterr().out
        assert left.value.code == 0 and "example" in said and path.name in said.split("example")[1], path


# Their help has to come at once: that of every verb, and of the scripts that stand for some.
SCRIPTS = tuple(f"{METHOD}/{name}.py" for name in ("main_gdrn", "tools/generate_P", "tools/generate_training_images"))
SLOW_TO_IMPORT = {"torch", "torchvision", "timm", "tensorboard", "trimesh", "matplotlib", "joblib", "scipy.stats"}
SHOW_HELP = """
import contextlib, io, runpy, sys
from sopose.cli.main import main
for path in sys.argv[1:]:
    script = runpy.run_path(path, run_name="script")["main"] if path.endswith(".py") else None
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        script(["--help"]) if script else main([path, "--help"])
    print(path, *sys.modules)
"""


def test_help_is_shown_without_what_is_slow_to_import(repository):
    asked = [*SCRIPTS, *(verb.name for verb in VERBS)]
    command = [sys.executable, "-c", SHOW_HELP, *asked]
    said = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    imported = {path: SLOW_TO_IMPORT & set(modules) for path, *modules in map(str.split, said.splitlines())}
    assert list(imported) == asked
    assert not {path: modules for path, modules in imported.items() if modules}


@pytest.mark.parametrize("name", [verb.name for verb in VERBS])
def test_every_verb_shows_its_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as left:
        command([name, "--help"])
    said = capsys.readouterr().out
    assert left.value.code == 0 and f"sopose {name}" in said.split("example")[1]


# Their classes are of torchvision; whoever needs them imports them where that is.
OF_TORCHVISION = {f"{CORE}/detection/model.py", f"{METHOD}/models/torchvision_backbone.py"}


def test_what_is_slow_to_import_is_imported_where_it_is_used(repository):
    slow = SLOW_TO_IMPORT - {"torch"} | {"torch.utils.tensorboard"}
    for path in sources(repository, CORE, METHOD):
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        if str(path.relative_to(repository)) not in OF_TORCHVISION:
            found = {name for name in slow for module in modules_of(top, path) if f"{module}.".startswith(f"{name}.")}
            assert not found, f"{path} imports {found}"
