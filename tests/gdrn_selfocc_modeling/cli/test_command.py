"""The command: verbs, what a mistyped word is answered, verbs of other packages, and what it says of itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sopose.cli.main import VERBS, main
from sopose.core.utils.errors import UserError

PLUGIN = '''
"""Says a word."""

EXAMPLES = """examples:
  sopose greet you
"""


def register_parser(parser):
    parser.add_argument("name")


def handle(args):
    print(f"hello {args.name}")
'''


def left_with(words: list[str], capsys) -> tuple[int, str]:
    """The exit code, and all that was said."""
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr()
    return left.value.code, said.out + said.err


def test_without_a_verb_the_verbs_are_listed(capsys):
    main([])
    said = capsys.readouterr().out
    assert all(f"  {verb.name} " in said and verb.summary in said for verb in VERBS)


def test_every_verb_has_a_module_and_every_module_is_a_verb(repository):
    helpers = {"__init__", "main", "config_options", "project"}
    modules = {path.stem for path in (repository / "gdrn_selfocc_modeling" / "cli").glob("*.py")} - helpers
    assert modules == {verb.name for verb in VERBS}


def test_the_version_is_that_of_the_package(repository, capsys):
    code, said = left_with(["--version"], capsys)
    assert code == 0 and said.startswith("sopose ")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["trian"], "there is no verb 'trian'; did you mean 'train'?"),
        (["xyzzy"], "there is no verb 'xyzzy'"),
        (["toy", "--wokers", "2"], "unrecognized arguments: --wokers 2; did you mean '--workers'?"),
        (["toy", "--work", "2"], "unrecognized arguments: --work 2; did you mean '--workers'?"),
        (["toy", "--train", "0"], "--train and --test must be at least 1"),
        (["toy", "--parts", "3"], "--parts need a --root of their own"),
        (["train", "--config-file", "x.py", "--dry-run", "--resume"], "--dry-run makes two steps"),
        (["weights", "out.safetensors"], "give IN and OUT, or OUT with --config-file"),
        (["train", "--help-config", "SOLVR"], "SOLVER"),
    ],
)
def test_wrong_words_are_answered_with_exit_code_2(words, answer, capsys):
    if "--help-config" in words:
        with pytest.raises(UserError, match=answer):
            main(words)
        return
    code, said = left_with(words, capsys)
    assert code == 2 and answer in said


def test_keys_of_a_group_are_shown(capsys):
    code, said = left_with(["train", "--help-config", "TEST.REFINE"], capsys)
    assert code == 0 and "ITERATIONS" in said and "WEIGHTS" in said


def test_keys_without_effect_are_counted_not_shown(capsys):
    code, said = left_with(["train", "--help-config", "MODEL.POSE_NET.SELFOCC_HEAD"], capsys)
    assert code == 0 and "Q0_CLASS_AWARE" in said and "REGION_CLASS_AWARE" not in said
    assert "more are accepted from older files and do nothing" in said
    _, said = left_with(["train", "--help-config", "MODEL.POSE_NET.SELFOCC_HEAD.REGION_CLASS_AWARE"], capsys)
    assert "accepted, without effect" in said


def test_the_common_keys_exist(capsys):
    from sopose.cli.config_options import COMMON_KEYS
    from sopose.core.config.describe import describe
    from sopose.settings import SCHEMA

    schema = describe(SCHEMA)
    keys = [line.split()[0] for line in COMMON_KEYS.splitlines() if line.startswith("  ")]
    assert len(keys) > 15
    for key in keys:
        schema.find(key)  # an error where there is none


@pytest.fixture
def plugin(tmp_path, monkeypatch) -> Path:
    """Another package, installed: a module, and the entry point that names it."""
    (tmp_path / "greeting.py").write_text(PLUGIN)
    info = tmp_path / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sopose.verbs]\ngreet = greeting\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("greeting", None)


def test_other_packages_add_verbs(plugin, capsys):
    main(["greet", "you"])
    assert capsys.readouterr().out == "hello you\n"
    main([])
    assert "greet" in capsys.readouterr().out
    code, said = left_with(["greet", "--help"], capsys)
    assert code == 0 and "Says a word." in said
    code, said = left_with(["great", "you"], capsys)
    assert code == 2 and "did you mean 'greet'" in said


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_verbs_and_options(shell, capsys):
    pytest.importorskip("shtab")
    main(["completion", shell])
    script = capsys.readouterr().out
    assert all(verb.name in script for verb in VERBS) and "--config-file" in script
    with pytest.raises(UserError, match="bash, zsh, tcsh, got 'fish'"):
        main(["completion", "fish"])
