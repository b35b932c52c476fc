"""Typed values out of the plain ones that a foreign file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sopose.core.utils.errors import UserError
from sopose.core.utils.files import require_key

Kind = type | tuple[type, ...]


@dataclass(frozen=True)
class PlainReader:
    """Typed values of a mapping, or a `UserError` that says what is wrong where.

    where: the mapping is from. remedy: how messages end. most: entries of a list.
    """

    plain: Mapping[str, Any]
    where: str
    remedy: str
    most: int = 10_000

    def value(self, key: str, kind: Kind) -> Any:
        """One value; a bool is no number."""
        value = require_key(dict(self.plain), key, self.where)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{self.where}: '{key}' is a {type(value).__name__} and can't be; {self.remedy}")
        return value

    def items(self, key: str, kind: Kind) -> Sequence[Any]:
        """A list of values."""
        values = self.value(key, list)
        if len(values) > self.most or not all(isinstance(x, kind) and not isinstance(x, bool) for x in values):
            raise UserError(f"{self.where}: '{key}' must be a list of values of one type; {self.remedy}")
        return values
