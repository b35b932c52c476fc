"""What base files say about their keys: default and meaning, read from their source.

A key's meaning is the comment behind its value or, without one, the comment above it. A comment above that says
"accepted, without effect" holds for the keys below it too, up to the next comment. A group's meaning stands behind its
opening bracket or above it.
"""

from __future__ import annotations

import ast
import io
import shutil
import textwrap
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from sopose.core.config.read import base_paths
from sopose.core.utils.errors import UserError, nearest

WITHOUT_EFFECT = "accepted, without effect"
# A subgroup with so many keys is shown by itself; a smaller one, and a constructor's arguments, within its parent.
OWN_SECTION = 7
CONSTRUCTOR = "INIT_CFG"


@dataclass(frozen=True)
class Entry:
    """A key of a base file."""

    key: str  # dotted
    default: str  # as Python writes it
    meaning: str

    @property
    def group(self) -> str:
        """The dotted name of the group it is in, "" at the top."""
        return self.key.rpartition(".")[0]

    @property
    def has_effect(self) -> bool:
        return not self.meaning.startswith(WITHOUT_EFFECT)


@dataclass(frozen=True)
class Section:
    """Keys that are shown together: a group with its small subgroups."""

    name: str  # dotted, "" for the keys of no group
    meaning: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Description:
    """All keys of a base file and of its bases, in their order, and what each group is for."""

    entries: tuple[Entry, ...]
    meanings: dict[str, str]  # of groups, by dotted name

    def sections(self) -> list[Section]:
        """The keys in groups worth a heading."""
        counts = {group: len(self.below(group)) for group in self.meanings}
        names = {group for group, count in counts.items() if _stands_alone(group, count)}
        gathered: dict[str, list[Entry]] = {"": [], **{name: [] for name in self.meanings if name in names}}
        for entry in self.entries:
            gathered[next(group for group in _ancestors(entry.group) if not group or group in names)].append(entry)
        return [
            Section(name, self.meanings.get(name, ""), tuple(entries)) for name, entries in gathered.items() if entries
        ]

    def below(self, group: str) -> list[Entry]:
        """The keys of a group and of the groups in it."""
        return [entry for entry in self.entries if entry.key.startswith(f"{group}.")]

    def find(self, name: str) -> list[Entry]:
        """The keys of the group `name`, or the key of that name; `UserError` naming the nearest."""
        same = [known for known in self.meanings if known.casefold() == name.casefold()]
        entries = self.below(same[0]) if same else [e for e in self.entries if e.key.casefold() == name.casefold()]
        if not entries:
            known = [*self.meanings, *(entry.key for entry in self.entries)]
            raise UserError(
                f"no configuration group or key '{name}'{nearest(name, known) or nearest(name.upper(), known)} "
                f"(groups: {', '.join(group for group in self.meanings if '.' not in group)})"
            )
        return entries


def describe(path: Path, spare_bases: Path | None = None) -> Description:
    """The keys of a base file; those of the files it is based on come first, and what it says itself counts."""
    entries: dict[str, Entry] = {}
    meanings: dict[str, str] = {}
    for base in base_paths(path, spare_bases):
        below = describe(base, spare_bases)
        entries |= {entry.key: entry for entry in below.entries}
        meanings |= below.meanings
    own = describe_source(path.read_text(encoding="utf-8"))
    entries |= {entry.key: entry for entry in own.entries}
    return Description(tuple(entries.values()), meanings | own.meanings)


def describe_source(source: str) -> Description:
    """The keys of the source of a Python base file: assignments of literals and of `dict(KEY=literal, …)`."""
    comments, lines = _Comments(source), source.splitlines()
    entries: list[Entry] = []
    meanings: dict[str, str] = {}

    def visit(name: str, value: ast.expr, line: int, group_comment: str) -> None:
        """Take in what `value` of the key `name` says, and all below it; a group's comment serves keys without one."""
        if not _is_dict_call(value):
            meaning = comments.behind(value.end_lineno) or comments.above(line) or group_comment
            entries.append(Entry(name, _as_written(lines, value), meaning))
            return
        one_line = value.end_lineno == line
        behind = comments.behind(value.end_lineno if one_line else value.lineno)
        meanings[name] = behind or comments.above(line) or group_comment
        running = meanings[name] if one_line or meanings[name].startswith(WITHOUT_EFFECT) else ""
        for word in value.keywords:
            above = comments.above(word.lineno)
            running = (above if above.startswith(WITHOUT_EFFECT) else "") if above else running
            visit(f"{name}.{word.arg}", word.value, word.lineno, running)

    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if not name.startswith("_"):
                visit(name, node.value, node.lineno, "")
    return Description(tuple(entries), meanings)


def format_groups(description: Description) -> str:
    """One line for each section that has keys with an effect: name, number of these, what it is for."""
    counts = {section: sum(entry.has_effect for entry in section.entries) for section in description.sections()}
    shown = {section: count for section, count in counts.items() if section.name and count}
    width = max(len(section.name) for section in shown)
    return "\n".join(
        f"  {section.name:<{width}}  {count:>3} keys  {section.meaning}" for section, count in shown.items()
    )


def format_entries(entries: Sequence[Entry], width: int | None = None) -> str:
    """Keys as `KEY = default` with their meanings behind, for a terminal of `width` columns (default: this one)."""
    width = width or shutil.get_terminal_size().columns
    heads = [f"{entry.key} = {entry.default}" for entry in entries]
    indent = min(max(map(len, heads)), max(width // 2, 20)) + 2
    lines: list[str] = []
    for head, entry in zip(heads, entries, strict=True):
        meaning = textwrap.wrap(entry.meaning, max(width - indent, 30))
        if len(head) > indent - 2:
            lines.append(head)
            head = ""
        rows = zip_longest([head] if head else [], meaning, fillvalue="")
        lines += [f"{start:<{indent}}{text}".rstrip() for start, text in rows]
    return "\n".join(lines)


class _Comments:
    """The comments of a source, by line: behind code, or alone on their lines."""

    def __init__(self, source: str) -> None:
        self._behind: dict[int, str] = {}
        self._alone: dict[int, str] = {}
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                place = self._alone if not token.line[: token.start[1]].strip() else self._behind
                place[token.start[0]] = token.string.lstrip("#").strip()

    def behind(self, line: int | None) -> str:
        """The comment behind the code of a line."""
        return self._behind.get(line or 0, "")

    def above(self, line: int) -> str:
        """The comment on the lines directly above one."""
        first = line
        while first - 1 in self._alone:
            first -= 1
        return " ".join(self._alone[number] for number in range(first, line))


def _as_written(lines: Sequence[str], value: ast.expr) -> str:
    """A default on one line, as it stands in the source's lines where that is one line: 1e-4 rather than 0.0001."""
    if value.lineno != value.end_lineno:
        return ast.unparse(value)
    return lines[value.lineno - 1].encode()[value.col_offset : value.end_col_offset].decode()


def _is_dict_call(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict"


def _stands_alone(group: str, count: int) -> bool:
    return "." not in group or (count >= OWN_SECTION and group.rpartition(".")[2] != CONSTRUCTOR)


def _ancestors(group: str) -> Iterable[str]:
    """`A.B`, `A` and "" of the group `A.B`."""
    while group:
        yield group
        group = group.rpartition(".")[0]
    yield ""
