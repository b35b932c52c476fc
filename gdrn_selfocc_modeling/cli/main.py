"""The command `sopose`: one verb for each thing that it does, each in a module of its own.

A verb's module has a docstring (its description), `EXAMPLES`, `register_parser(parser)`, `handle(args)` and, where
options depend on each other, `check(args, parser)`; `REPORTS = True` where it logs how things go. It is imported when
its verb is called. Other packages add verbs by entry points of the group `sopose.verbs`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, version
from types import ModuleType
from typing import NoReturn

from sopose.core.utils.errors import UserError, nearest, run_cli
from sopose.core.utils.plugins import load_plugin, plugged

GROUP = "sopose.verbs"
SHELLS = ("bash", "zsh", "tcsh")
# What the extra `train` brings, by the names they are imported by.
PACKAGES = (
    *("torch", "torchvision", "timm", "scipy", "trimesh", "fast_simplification", "embreex", "pycocotools"),
    *("tensorboard", "safetensors", "matplotlib", "jinja2", "joblib", "PIL", "onnx", "onnxscript"),
)


@dataclass(frozen=True)
class Verb:
    """A verb of ours, in the order of a project."""

    name: str
    summary: str  # one line of `sopose --help`


VERBS = (
    Verb("new", "make a data set of CAD or mesh files"),
    Verb("symmetries", "find the symmetries of models"),
    Verb("check", "find mistakes in a data set"),
    Verb("toy", "make the toy data set, or generated parts"),
    Verb("samples", "draw training samples as the network gets them"),
    Verb("view", "show a model, or an image with its poses"),
    Verb("train", "train a pose network, then evaluate it"),
    Verb("detector", "train a detector on the same data"),
    Verb("refiner", "train a refiner, which corrects poses"),
    Verb("eval", "evaluate a trained network"),
    Verb("predict", "estimate poses in images, videos or a webcam"),
    Verb("score", "score results files of any method as BOP does"),
    Verb("export", "write a network as .onnx"),
    Verb("weights", "write the weights of a checkpoint alone"),
    Verb("ablate", "compare variants of a configuration"),
    Verb("maps", "write P and Q into files"),
    Verb("render", "write rendered training images into files"),
    Verb("targets", "write test targets, masks and visibilities"),
    Verb("replay", "compute again a batch that stopped a training"),
)
EPILOG = """examples:
  sopose new part.stl --units mm --root datasets/mine
  sopose train --config-file configs/gdrn_selfocc/toy/demo.py
  sopose predict --help
  sopose completion bash > ~/.local/share/bash-completion/completions/sopose
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest option."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2. A word that looks like an option that exists is answered by that option."""
        words = message.partition("unrecognized arguments: ")[2].split()
        wrong = next((word for word in words if word.startswith("-")), "")
        known = [text for action in self._actions for text in action.option_strings]
        hint = nearest(wrong.partition("=")[0], known) if wrong else ""
        super().error(f"{message}{hint}")


def main(argv: list[str] | None = None) -> None:
    """Run one verb."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words and not words[0].startswith("-"):
        if words[0] == "completion":
            print(completion(*words[1:]))
            return
        run_verb(words[0], words[1:])
        return
    parser = build_parser()
    parser.parse_args(words)
    parser.print_help()


def run_verb(name: str, words: list[str]) -> None:
    """Run a verb with the words behind it. Leaves with exit code 2 where there is no such verb or option."""
    others = plugged(GROUP)
    names = [verb.name for verb in VERBS]
    if name not in names and name not in others:
        build_parser().error(f"there is no verb '{name}'{nearest(name, [*names, *others])}")
    try:
        module = load_verb(name, others)
        parser = verb_parser(name, module)
        args = parser.parse_args(words)
        if hasattr(module, "check"):
            module.check(args, parser)
        start_log(getattr(module, "REPORTS", False))
        module.handle(args)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PACKAGES:
            raise
        raise UserError(
            f"sopose {name} needs the package {package}, which is missing; pip install 'sopose[train]'"
        ) from error


def start_log(reports: bool) -> None:
    """Show warnings, and with `reports` how things go, of the first of several processes."""
    level = logging.WARNING
    if reports:
        from sopose.core.engine.distributed import launched_world

        level = logging.INFO if launched_world().is_first else level
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")


def load_verb(name: str, others: Mapping[str, EntryPoint]) -> ModuleType:
    """The module of a verb: ours, or that of another package."""
    if name in {verb.name for verb in VERBS}:
        return import_module(f"sopose.cli.{name}")
    return load_plugin(others[name])


def verb_parser(name: str, module: ModuleType) -> Parser:
    """The parser of a verb's own words."""
    parser = Parser(
        prog=f"sopose {name}",
        description=module.__doc__,
        epilog=module.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.register_parser(parser)
    return parser


def build_parser() -> Parser:
    """The parser of the words before a verb; its help lists the verbs."""
    width = max(len(verb.name) for verb in VERBS)
    listed = [f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS]
    others = [f"  {name:<{width}}  of {entry.value}" for name, entry in sorted(plugged(GROUP).items())]
    parser = Parser(
        prog="sopose",
        usage="sopose VERB ...  (sopose VERB --help says more)",
        description="6D poses of known objects from single images.\n\nverbs:\n" + "\n".join([*listed, *others]),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sopose {installed_version()}")
    return parser


def installed_version() -> str:
    """The version of the installed package."""
    try:
        return version("sopose")
    except PackageNotFoundError:  # a folder of sources on the path
        return "of sources"


def completion(shell: str = "bash", *rest: str) -> str:
    """A script that has a shell complete verbs and options."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise UserError("completion needs the package shtab; run: pip install shtab") from error
    if shell not in SHELLS or rest:
        raise UserError(f"completion is written for {', '.join(SHELLS)}, got '{' '.join([shell, *rest])}'")
    parser = build_parser()
    verbs = parser.add_subparsers()
    for verb in VERBS:
        module = load_verb(verb.name, {})
        module.register_parser(verbs.add_parser(verb.name, help=verb.summary))
    return shtab.complete(parser, shell)


def run() -> None:
    """The entry point of the command."""
    run_cli(main)
