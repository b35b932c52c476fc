"""Write docs/configuration.md, every option with its default and its meaning, from the files of configs/_base_."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sopose.core.config.describe import WITHOUT_EFFECT, Entry, describe
from sopose.core.utils.errors import UserError, run_cli
from sopose.core.utils.files import write_text
from sopose.settings import SCHEMA
from sopose.settings.rules import DISTRIBUTED_WORDS, RULES

OUTPUT = SCHEMA.parents[2] / "docs" / "configuration.md"
EPILOG = """examples:
  python tools/document_config.py
  python tools/document_config.py --check

With --check nothing is written, and the exit code is 1 where the page doesn't say what the files do.
"""
INTRODUCTION = """# Configuration

Every option, its default and its meaning. This page is written by `python tools/document_config.py` from the comments
of [configs/_base_](../configs/_base_): change those, not this page. On the command line
`sopose train --help-config SOLVER` shows the same.

## Layers

A configuration is a Python, YAML or JSON file. It says what differs from the files it is based on:

```python
_base_ = ["../lmo/gdrn_selfocc_multistep_40E.py"]

DATASETS = dict(TRAIN=("mine_train",), TEST=("mine_test",))
SOLVER = dict(TOTAL_EPOCHS=20, OPTIMIZER_CFG=dict(_delete_=True, type="AdamW", lr=1e-3))
```

From below to above: the defaults of this page, the files of `_base_`, the file itself, `--opts`. Groups are merged
key by key. `_delete_=True` in a group forgets what the layers below said of it: the keys it doesn't give are at their
defaults again. An optimizer has no defaults here: with `_delete_=True`, or with another `type`, only `lr` stays.
`None` for a text or a list is an empty one.

A Python file is read, not run. It assigns texts, numbers, `True`, `False`, `None`, lists, tuples, `dict(...)` and
`{...}`. Numbers may be calculated (`1 / 255`), texts and lists joined by `+` and repeated by `*`. Names assigned before
can be used, and so can values of the bases, as `_base_.SOLVER.TOTAL_EPOCHS`. Anything else, such as an import or a
call, is an error that names the line and the expression.

A key that doesn't exist is an error that names the nearest one; so is a value of another type. Paths are opened when
they are needed, not before.

## The command line

```
sopose train --config-file configs/gdrn_selfocc/lmo/cad_only.py --opts \\
    SOLVER.IMS_PER_BATCH=16 SOLVER.OPTIMIZER_CFG.lr=3e-4 INPUT.BG_IMGS_ROOT=path/to/photos \\
    DATASETS.TEST=[lmo_test,lmo_bop_test] SOLVER.REL_STEPS=0.5,0.75 'CAD.Z_RANGE=(0.4, 1.5)' \\
    'SOLVER.OPTIMIZER_CFG={type: SGD, momentum: 0.9}'
```

Each word is `KEY=VALUE`, without spaces around `=`. A text is taken as it stands; a list is `[a,b]`, `(1,2)`, `a,b`
or one name, and nothing (`KEY=`) is the empty list. Quote words that hold spaces or parentheses, as the shell
demands.

One network for each object is the same file with one option:

```
for OBJ in ape can cat driller duck eggbox glue holepuncher; do
  sopose train --config-file configs/gdrn_selfocc/lmo/gdrn_selfocc_multistep_40E.py \\
      --opts DATASETS.OBJS=[$OBJ] OUTPUT_DIR=output/lmo/$OBJ
done
```

## Files of GDR-Net and SO-Pose

They load as they are, wherever they lie: where `../../_base_/gdrn_base.py` is not beside them, the file of that name
in [configs/_base_](../configs/_base_) takes its place. Keys that do nothing any more are named in one warning (the
last section lists them). `MODEL.CDPN`, the layout of GDR-Net's first release, is another network and is refused.

## Shipped configurations

| folder of configs | what |
|---|---|
| [gdrn_selfocc](../configs/gdrn_selfocc) | SO-Pose: `lm`, `lmo`, `ycbv`, `tless`, `toy`; `custom` to copy as your own |
| [gdrn](../configs/gdrn) | the single-layer baseline on LM, LM-O and YCB-V |
"""
RETIRED = """## Keys without effect

Accepted, so that older files load; setting one to another value prints a warning.

"""
UNKNOWN_TO_SCHEMA = """
Of the frameworks that those files were written for, with everything below them:

{names}

and every key whose name contains {words}, in any case and place.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the page (default: docs/configuration.md)")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    return parser.parse_args(argv)


def make_page(base: Path = SCHEMA) -> str:
    """The page as Markdown."""
    description = describe(base)
    parts = [INTRODUCTION]
    for section in description.sections():
        entries = [entry for entry in section.entries if entry.has_effect]
        if entries:
            meaning = f"{_sentence(section.meaning)}\n\n" if section.meaning else ""
            title = f"## {section.name or 'The run'}"
            parts.append(f"{title}\n\n{meaning}{_table(entries, section.name)}\n")
    without = [entry for entry in description.entries if not entry.has_effect]
    names = ", ".join(f"`{name}`" for name in sorted(RULES.retired))
    words = ", ".join(f"`{word}`" for word in DISTRIBUTED_WORDS)
    parts.append(RETIRED + _table(without, "") + "\n" + UNKNOWN_TO_SCHEMA.format(names=names, words=words))
    return "\n".join(parts)


def _table(entries: Sequence[Entry], group: str) -> str:
    """Keys relative to `group`, their defaults and their meanings."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for entry in entries:
        meaning = _escape(entry.meaning.removeprefix(WITHOUT_EFFECT).lstrip(": "))
        default = entry.default.replace("|", "\\|")
        rows.append(f"| `{entry.key.removeprefix(f'{group}.')}` | `{default}` | {meaning} |")
    return "\n".join(rows)


def _sentence(text: str) -> str:
    return f"{_escape(text[:1].upper() + text[1:])}."


def _escape(text: str) -> str:
    """Text as Markdown shows it literally: no tags, columns, or emphasis."""
    for sign in "|*_":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("<", "&lt;")


def main(argv: list[str] | None = None) -> None:
    """Write the page, or compare it."""
    args = parse_args(argv)
    page = make_page()
    if not args.check:
        write_text(args.output, page)
        print(f"{args.output} written")
        return
    if not args.output.is_file() or args.output.read_text(encoding="utf-8") != page:
        raise UserError(f"{args.output} is not what configs/_base_ says; run python tools/document_config.py")
    print(f"{args.output} is up to date")


if __name__ == "__main__":
    run_cli(main)
