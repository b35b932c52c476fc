"""Choices by name: a registry entry stands beside the class it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.plugins import load_plugin, plugged

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of thing. An unknown name is a `UserError` that lists the known ones.

    group: of entry points by which other packages add entries; one of ours comes first.
    """

    def __init__(self, kind: str, group: str = "") -> None:
        self.kind, self.group = kind, group
        self._entries: dict[str, T] = {}

    def register(self, *names: str) -> Callable[[T], T]:
        """Decorator that enters its object under one or more names; a name can be taken once."""

        def enter(entry: T) -> T:
            for name in names:
                if name in self._entries:
                    raise ValueError(f"{self.kind} '{name}' is registered twice")
                self._entries[name] = entry
            return entry

        return enter

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            others = plugged(self.group) if self.group else {}
            if name in others:
                return load_plugin(others[name])
            known = sorted({*self._entries, *others})
            raise UserError(f"unknown {self.kind} '{name}'{nearest(name, known)} (known: {', '.join(known)})")
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)
