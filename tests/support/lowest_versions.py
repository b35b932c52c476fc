"""The lowest versions that pyproject.toml claims, as constraints of pip: `numpy==2.1`, a line for each package."""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
BOUND = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?\s*(?:>=\s*([\w.]+))?")  # a name, its extras, its lower bound
TOOLS = ("ruff",)  # of a developer: the newest, whose verdict counts
OWN = "sopose"  # an extra that is made of others


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="packages that are left free")
    return parser.parse_args(argv)


def lowest(requirements: Iterable[str], without: Iterable[str] = ()) -> list[str]:
    """Constraints on the packages of requirements, sorted. `ValueError` for one without a lower bound."""
    found = {}
    for requirement in requirements:
        name, bound = BOUND.match(requirement).groups()
        if name in (*without, *TOOLS, OWN):
            continue
        if bound is None:
            raise ValueError(f"{requirement} has no lower bound")
        if found.setdefault(name, bound) != bound:
            raise ValueError(f"{name} has two lower bounds, {found[name]} and {bound}")
    return [f"{name}=={found[name]}" for name in sorted(found)]


def all_requirements(path: Path = PYPROJECT) -> list[str]:
    """The requirements of a pyproject.toml, those of all extras too."""
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]


def main(argv: list[str] | None = None) -> None:
    """Print the constraints."""
    args = parse_args(argv)
    print("\n".join(lowest(all_requirements(), args.without)))


if __name__ == "__main__":
    main()
