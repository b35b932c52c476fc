"""Keys and values from the command line: `--opts KEY=VALUE`. Text is parsed, never evaluated."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sopose.core.config.read import parse_yaml
from sopose.core.utils.errors import UserError

NOTHING = ("None", "null")


def parse_overrides(texts: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """`["A.B=1", "A.C=x"]` as `{"A": {"B": 1, "C": "x"}}`; of two words for one key the later one wins."""
    nested: dict[str, Any] = {}
    for text in texts:
        key, value = parse_override(text, schema)
        *groups, name = key.split(".")
        level = nested
        for group in groups:
            if not isinstance(level.get(group), dict):
                level[group] = {}
            level = level[group]
        earlier = level.get(name)
        both = isinstance(value, dict) and isinstance(earlier, dict)
        level[name] = {**earlier, **value} if both else value
    return nested


def parse_override(text: str, schema: Mapping[str, Any]) -> tuple[str, Any]:
    """`"A.B=value"` as key and value, read as what the schema has at that key.

    Text is taken as it stands, or as quoted. A list is `[a,b]`, `(1,2)`, `a,b` or a single word. Numbers, True, False
    and groups (`{type: AdamW}`, `dict(type="AdamW")`) are written as in a file. None and null are nothing: an empty
    text or list.
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        advice = f"write {text}=VALUE, one word for both" if text and not separator else "write a key before the ="
        raise UserError(f"--opts takes KEY=VALUE, got '{text}'; {advice}")
    default = _default_of(key, schema)
    if isinstance(default, str):
        return key, _text(value)
    if isinstance(default, (list, tuple)):
        return key, _list(key, value)
    return key, _value(key, value)


def _default_of(key: str, schema: Mapping[str, Any]) -> Any:
    """The schema's value at `A.B.C`, or None."""
    value: Any = schema
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(text: str) -> str | None:
    if text in NOTHING:
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, str) else text


def _list(key: str, text: str) -> Any:
    value = _value(key, text)
    if not isinstance(value, str):
        return value
    inside = value[1:-1] if value.startswith("(") and value.endswith(")") else value
    entries = [entry.strip().strip("'\"") for entry in inside.split(",")]
    return [entry for entry in entries if entry]


def _value(key: str, text: str) -> Any:
    """A value of any type, as Python or YAML writes it."""
    if text in NOTHING:
        return None
    try:
        return ast.literal_eval(_DictCalls().visit(ast.parse(text.strip(), mode="eval")).body)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return parse_yaml(text) if text else ""
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"--opts {key}: '{text}' is not a value; quote text that holds : or [") from error


class _DictCalls(ast.NodeTransformer):
    """`dict(a=1)` as `{"a": 1}`, the way a configuration file writes a group."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        keys = [word.arg for word in node.keywords]
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args or None in keys:
            return node
        return ast.Dict([ast.Constant(key) for key in keys], [word.value for word in node.keywords])
