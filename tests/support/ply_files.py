"""PLY files in every form, written by hand: elements as lists of properties with their values."""

from __future__ import annotations

import struct
from collections.abc import Sequence

CODES = {"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d"}
FORMS = ("ascii", "binary_little_endian", "binary_big_endian")
Property = tuple[str, str, Sequence]  # name, "float" or "list uchar int", the value of each row

XYZ = ("x", "y", "z")


def columns(names: Sequence[str], kind: str, values: Sequence[Sequence]) -> list[Property]:
    """Properties of one kind, of rows of values."""
    return [(name, kind, [row[k] for row in values]) for k, name in enumerate(names)]


def indices(faces: Sequence[Sequence[int]]) -> list[Property]:
    return [("vertex_indices", "list uchar int", faces)]


def ply(
    form: str,
    vertex: Sequence[Property],
    face: Sequence[Property] = (),
    comments: Sequence[bytes] = (),
    end: str = "\n",
) -> bytes:
    """The content of a PLY file; `end` is that of the header's lines."""
    lines = [b"ply", f"format {form} 1.0".encode(), *(b"comment " + comment for comment in comments)]
    body = b""
    for name, properties in (("vertex", vertex), ("face", face)):
        if properties:
            count = len(properties[0][2])
            lines.append(f"element {name} {count}".encode())
            lines += [f"property {kind} {key}".encode() for key, kind, _ in properties]
            body += b"".join(_row(form, properties, row) for row in range(count))
    return end.encode().join([*lines, b"end_header", b""]) + body


def _row(form: str, properties: Sequence[Property], row: int) -> bytes:
    words, packed = [], b""
    for _, kind, values in properties:
        kinds = kind.split()[1:] if kind.startswith("list") else [kind]
        value = values[row]
        numbers = [(kinds[0], len(value)), *((kinds[1], x) for x in value)] if len(kinds) == 2 else [(kind, value)]
        for code, number in numbers:
            order = ">" if "big" in form else "<"
            packed += struct.pack(order + CODES[code], number)
            words.append(repr(number))
    return (" ".join(words) + "\n").encode() if form == "ascii" else packed
