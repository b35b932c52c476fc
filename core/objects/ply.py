"""PLY files: read as they are, in every form that programs write them in, and written as binary."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from sopose.core.images.files import write_image
from sopose.core.objects.limits import PixelAllowance
from sopose.core.objects.mesh import Mesh
from sopose.core.objects.textures import find_beside, missing_texture, on_stack, own_picture, read_texture, stacked
from sopose.core.utils.errors import UserError
from sopose.core.utils.files import atomic_path, decode_text

TYPES = {
    "i1": ("char", "int8"),
    "u1": ("uchar", "uint8"),
    "i2": ("short", "int16"),
    "u2": ("ushort", "uint16"),
    "i4": ("int", "int32"),
    "u4": ("uint", "uint32"),
    "i8": ("int64", "long"),
    "u8": ("uint64", "ulong"),
    "f2": ("float16", "half"),
    "f4": ("float", "float32"),
    "f8": ("double", "float64"),
}
TYPE_OF = {name: code for code, names in TYPES.items() for name in names}
MOST_HEADER = 1 << 20  # bytes
END = re.compile(rb"end_header[ \t]*(\r\n|\n|\r)")
INDEX_NAMES = ("vertex_indices", "vertex_index")
UV_NAMES = (("texture_u", "texture_v"), ("u", "v"), ("s", "t"))
MISSING = np.full((8, 8, 3), 170, np.uint8)  # of a texture that was not found, beside others
COLOR_NAMES = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("r", "g", "b"))


@dataclass(frozen=True)
class _Property:
    name: str
    kind: str  # numpy's code without the order of bytes
    count_kind: str | None = None  # of a list: that of its length


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]


@dataclass(frozen=True)
class _Header:
    order: str | None  # "<" or ">" of a binary file, None of a text
    elements: list[_Element]
    textures: list[str]  # names in its comments


@dataclass(frozen=True, eq=False)
class _Lists:
    """A list for each of N rows, one behind the other."""

    counts: np.ndarray  # (N,) int64
    values: np.ndarray  # (sum of counts,)


Columns = Mapping[str, np.ndarray | _Lists]
_Field = tuple[str, str, int]  # name, numpy's code, numbers in a row


def read_ply(path: Path) -> Mesh:
    """A PLY file, text or binary, as a mesh; points alone are one without faces. `UserError` for a damaged file."""
    data = Path(path).read_bytes()
    end = END.search(data, 0, MOST_HEADER)
    if not data.startswith(b"ply") or end is None:
        raise UserError(f"{path} is not a PLY mesh; restore the file")
    try:
        header = _read_header(decode_text(data[: end.start()]))
        content = memoryview(data)[end.end() :]
        source = _Text(content) if header.order is None else _Binary(content, header.order)
        elements = [element for element in header.elements if element.count and element.properties]
        mesh, texnumber = _mesh({element.name: _read_element(source, element) for element in elements})
    except KeyError as error:
        raise UserError(
            f"{path} cannot be read as a PLY mesh ('{error.args[0]}' is unknown); restore the file"
        ) from error
    except (ValueError, OverflowError, IndexError, MemoryError) as error:
        raise UserError(f"{path} cannot be read as a PLY mesh ({error}); restore the file") from error
    if len(mesh.faces) and (mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices)):
        raise UserError(f"{path} has faces without vertices; restore the file")
    return mesh if mesh.uv is None else _with_textures(mesh, Path(path), header.textures, texnumber)


def _read_header(text: str) -> _Header:
    order: str | None = None
    elements: list[_Element] = []
    textures: list[str] = []
    for line in text.splitlines()[1:]:
        words = line.split()
        match words:
            case ["format", form, *_]:
                order = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}[form.lower()]
            case ["element", name, count]:
                elements.append(_Element(name, int(count), []))
            case ["property", "list", count_type, kind, name]:
                elements[-1].properties.append(_Property(name, TYPE_OF[kind], TYPE_OF[count_type]))
            case ["property", kind, name]:
                elements[-1].properties.append(_Property(name, TYPE_OF[kind]))
            case ["comment", word, _, *_] if word.lower() == "texturefile":
                textures.append(line.split(None, 2)[2].strip())
    if any(element.count < 0 for element in elements):
        raise ValueError("an element has fewer than none")
    return _Header(order, elements, textures)


class _Binary:
    """Numbers of a binary file, one after the other from byte `at` on."""

    def __init__(self, data: memoryview, order: str) -> None:
        self.data, self.order, self.at = data, order, 0

    def take(self, kind: str, count: int) -> np.ndarray:
        """The next numbers."""
        values = np.frombuffer(self.data, self.order + kind, count, self.at) if count else np.empty(0, kind)
        self.at += values.nbytes
        return values

    def rows(self, fields: Sequence[_Field], count: int) -> Mapping[str, np.ndarray] | None:
        """The next rows, all with these fields, each (count, length); None where the file ends before them."""
        dtype = np.dtype([(name, self.order + kind, (length,)) for name, kind, length in fields])
        if self.at + count * dtype.itemsize > len(self.data):
            return None
        rows = np.frombuffer(self.data, dtype, count, self.at)
        self.at += rows.nbytes
        return {name: rows[name] for name, _, _ in fields}


class _Text:
    """Numbers of a text, one after the other from number `at` on."""

    def __init__(self, data: memoryview) -> None:
        self.at = 0
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # what older numpy says of a word that is no number
            try:
                self.numbers = np.fromstring(bytes(data), np.float64, sep=" ")
            except (DeprecationWarning, ValueError) as error:
                raise ValueError("a word is no number") from error

    def take(self, kind: str, count: int) -> np.ndarray:
        """As `_Binary.take`."""
        if self.at + count > len(self.numbers):
            raise ValueError("it ends too early")
        self.at += count
        return self.numbers[self.at - count : self.at].astype(kind)

    def rows(self, fields: Sequence[_Field], count: int) -> Mapping[str, np.ndarray] | None:
        """As `_Binary.rows`."""
        ends = np.cumsum([length for _, _, length in fields])
        if self.at + count * int(ends[-1]) > len(self.numbers):
            return None
        rows = self.take("f8", count * int(ends[-1])).reshape(count, -1)
        return {name: rows[:, end - n : end].astype(kind) for (name, kind, n), end in zip(fields, ends, strict=True)}


def _read_element(source: _Binary | _Text, element: _Element) -> Columns:
    """An element's columns; quick where all lists of a property are of one length, else row by row."""
    start, fields = source.at, []
    for item in element.properties:
        length = 1
        if item.count_kind is not None:
            length = max(int(source.take(item.count_kind, 1)[0]), 0)
            fields.append((f"length of {item.name}", item.count_kind, 1))
        fields.append((item.name, item.kind, length))
        source.take(item.kind, length)
    source.at = start
    rows = source.rows(fields, element.count)
    lists = [item.name for item in element.properties if item.count_kind is not None]
    if rows is not None and all((rows[f"length of {name}"] == rows[name].shape[1]).all() for name in lists):
        counts = {name: np.full(element.count, rows[name].shape[1]) for name in lists}
        values = {item.name: rows[item.name].reshape(-1) for item in element.properties}
    else:
        source.at = start
        counts, values = _uneven_rows(source, element)
    return {name: _Lists(counts[name], column) if name in counts else column for name, column in values.items()}


def _uneven_rows(source: _Binary | _Text, element: _Element) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The lengths of lists, and the values of all properties, by name."""
    parts: dict[str, list[np.ndarray]] = {item.name: [] for item in element.properties}
    for _ in range(element.count):
        for item in element.properties:
            length = 1 if item.count_kind is None else max(int(source.take(item.count_kind, 1)[0]), 0)
            parts[item.name].append(source.take(item.kind, length))
    lists = [item.name for item in element.properties if item.count_kind is not None]
    counts = {name: np.array([len(part) for part in parts[name]]) for name in lists}
    return counts, {name: np.concatenate(values) for name, values in parts.items()}


def _mesh(tables: Mapping[str, Columns]) -> tuple[Mesh, np.ndarray | None]:
    """The mesh without textures, and for each triangle the number of its texture where the file has that."""
    vertex, face = tables.get("vertex", {}), tables.get("face", {})
    vertices = _table(vertex, ("x", "y", "z"))
    if vertices is None:
        raise ValueError("it has no vertices")
    normals, colors = _table(vertex, ("nx", "ny", "nz")), _levels(vertex)
    uv = next(filter(lambda found: found is not None, (_table(vertex, names) for names in UV_NAMES)), None)
    indices = next((face[name] for name in INDEX_NAMES if isinstance(face.get(name), _Lists)), None)
    if indices is None:
        return Mesh(vertices, np.empty((0, 3), np.int64), normals, colors), None
    source, corner = _triangles(indices.counts)
    if colors is None and (of_faces := _levels(face)) is not None:
        colors = np.repeat(of_faces[source][:, None], 3, axis=1)
    texcoord = face.get("texcoord")
    if isinstance(texcoord, _Lists) and (texcoord.counts == 2 * indices.counts).any():
        uv = _corner_coordinates(indices.counts, texcoord)[corner]
    faces = indices.values.astype(np.int64)[corner]
    texnumber = face.get("texnumber")
    return Mesh(vertices, faces, normals, colors, uv), (
        texnumber[source].astype(np.int64) if isinstance(texnumber, np.ndarray) else None
    )


def _table(columns: Columns, names: Sequence[str]) -> np.ndarray | None:
    """Columns side by side, (N, c) float64; None where one is missing."""
    if not all(isinstance(columns.get(name), np.ndarray) for name in names):
        return None
    return np.stack([columns[name] for name in names], axis=1).astype(np.float64)


def _levels(columns: Columns) -> np.ndarray | None:
    """Colours (N, 3) as levels, 0 to 255; None where there are none.

    Numbers of 16 bits reach to 65535, floating point to 1 or, where one is above that, to 255.
    """
    for names in COLOR_NAMES:
        values = _table(columns, names)
        if values is not None:
            kind = columns[names[0]].dtype
            is_share = kind.kind == "f" and np.nanmax(values, initial=0) <= 1
            factor = 255.0 if is_share else 1 / 257 if kind.kind == "u" and kind.itemsize == 2 else 1.0
            return np.clip(np.nan_to_num(np.rint(factor * values)), 0, 255)
    return None


def _triangles(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The face (T,) that each triangle is of, and its corners (T, 3) among all faces' corners, one behind the other.

    Triangles come first, then the halves of quads, then polygons as fans; faces of two corners are none.
    """
    starts = np.cumsum(counts) - counts
    three, four, more = (np.flatnonzero(which) for which in (counts == 3, counts == 4, counts > 4))
    fan = np.repeat(more, counts[more] - 2)
    step = np.concatenate([np.arange(1, n - 1) for n in counts[more]] or [np.empty(0, np.int64)])
    parts = [
        (three, np.tile([0, 1, 2], (len(three), 1))),
        (four, np.tile([0, 1, 2], (len(four), 1))),
        (four, np.tile([2, 3, 0], (len(four), 1))),
        (fan, np.stack([np.zeros_like(step), step, step + 1], axis=1)),
    ]
    face = np.concatenate([faces for faces, _ in parts])
    return face, starts[face][:, None] + np.concatenate([corners for _, corners in parts])


def _corner_coordinates(counts: np.ndarray, texcoord: _Lists) -> np.ndarray:
    """(sum of counts, 2) coordinates on textures of all faces' corners; 0 for faces that have none."""
    fits = texcoord.counts == 2 * counts
    coordinates = np.zeros((int(counts.sum()), 2))
    coordinates[np.repeat(fits, counts)] = texcoord.values[np.repeat(fits, texcoord.counts)].reshape(-1, 2)
    return coordinates


def _with_textures(mesh: Mesh, path: Path, names: Sequence[str], texnumber: np.ndarray | None) -> Mesh:
    """The mesh with the textures that its header names, or with the picture of its own name."""
    found = [find_beside(path.parent, name) for name in names]
    missing = [name for name, place in zip(names, found, strict=True) if place is None]
    notes = (missing_texture(missing),) if missing else ()
    if not any(found):
        own = own_picture(path)
        texture = None if own is None else read_texture(own)
        return replace(mesh, texture=texture, notes=() if texture is not None else notes)
    if len(names) == 1 or texnumber is None:
        first = read_texture(next(place for place in found if place is not None))
        left_out = f"it names {len(names)} textures and not which face has which: the first is taken"
        return replace(mesh, texture=first, notes=(*notes, left_out) if len(names) > 1 else notes)
    allowance = PixelAllowance(path)
    pictures = [MISSING if place is None else read_texture(allowance.take_file(place)) for place in found]
    return replace(_on_one_texture(mesh, pictures, texnumber, path), notes=notes)


def _on_one_texture(mesh: Mesh, pictures: Sequence[np.ndarray], texnumber: np.ndarray, path: Path) -> Mesh:
    """A mesh whose triangles are on several pictures, by their number, on one that has them all."""
    texture, tops = stacked(pictures, path)
    corners = mesh.corners(mesh.uv)
    uv = corners.copy()
    for number, (picture, top) in enumerate(zip(pictures, tops, strict=True)):
        uv[texnumber == number] = on_stack(corners[texnumber == number], picture, top, texture)
    return replace(mesh, uv=uv, texture=texture)


def write_ply(path: Path, mesh: Mesh) -> None:
    """Write a mesh with values at vertices as binary PLY, atomically; its texture as the .png of the same name."""
    columns = [(axis, "float", mesh.vertices[:, k]) for k, axis in enumerate("xyz")]
    if mesh.normals is not None:
        columns += [(f"n{axis}", "float", mesh.normals[:, k]) for k, axis in enumerate("xyz")]
    if mesh.colors is not None:
        columns += [(name, "uchar", mesh.colors[:, k]) for k, name in enumerate(COLOR_NAMES[0])]
    if mesh.uv is not None:
        columns += [(name, "float", mesh.uv[:, k]) for k, name in enumerate(UV_NAMES[0])]
    comment = []
    if mesh.texture is not None:
        picture = path.with_suffix(".png")
        write_image(picture, cv2.cvtColor(mesh.texture, cv2.COLOR_RGB2BGR))
        comment = [f"comment TextureFile {picture.name}"]
    vertices = np.empty(len(mesh.vertices), [(name, f"<{TYPE_OF[kind]}") for name, kind, _ in columns])
    for name, _, values in columns:
        vertices[name] = values
    corners = np.empty(len(mesh.faces), [("count", "u1"), ("index", "<i4", (3,))])
    corners["count"], corners["index"] = 3, mesh.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *comment,
        f"element vertex {len(vertices)}",
        *(f"property {kind} {name}" for name, kind, _ in columns),
        f"element face {len(corners)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    with atomic_path(path) as beside:
        beside.write_bytes("\n".join(header).encode() + vertices.tobytes() + corners.tobytes())
