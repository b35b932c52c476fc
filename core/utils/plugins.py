"""What other installed packages add: entry points of a group, by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sopose.core.utils.errors import UserError


def plugged(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by their names; nothing of them is imported."""
    return {entry.name: entry for entry in entry_points(group=group)}


def load_plugin(entry: EntryPoint) -> Any:
    """The object of an entry point. Raises `UserError` where its package can't be imported."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"'{entry.name}' of the entry points '{entry.group}' can't be loaded from {entry.value} ({error}); "
            "repair or remove the package that adds it"
        ) from error
