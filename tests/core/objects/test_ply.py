"""PLY: what is one mesh is read as one mesh, however a program wrote it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopose.core.objects.mesh import Mesh
from sopose.core.objects.ply import read_ply, write_ply
from sopose.core.utils.errors import UserError
from tests.support.ply_files import FORMS, XYZ, columns, indices, ply

CORNERS = [(float(x), float(y), float(z)) for x in (0, 30) for y in (0, 20) for z in (0, 10)]
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
LEVELS = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (20, 20, 20), (9, 200, 255), (255, 255, 255)]


def box(form: str, *more, faces=QUADS, comments=(), end: str = "\n") -> bytes:
    return ply(form, [*columns(XYZ, "float", CORNERS), *more], indices(faces), comments, end)


def read(folder: Path, content: bytes) -> Mesh:
    path = folder / "a.ply"
    path.write_bytes(content)
    return read_ply(path)


def colored(level: int) -> np.ndarray:
    return np.full((4, 4, 3), (level, 0, 255 - level), np.uint8)


def write_picture(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())


@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(3, 7), min_size=1, max_size=9))
def test_every_form_is_the_same_mesh_with_faces_of_any_size(tmp_path_factory, seed, sizes):
    """Triangles come first, then both halves of quads, then fans; each face keeps its colour and its corners."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(9, 3)).astype(np.float32).astype(float).tolist()
    faces = [rng.permutation(9)[:size].tolist() for size in sizes]
    red, uv = rng.integers(0, 256, len(faces)).tolist(), [rng.random(2 * size).round(3).tolist() for size in sizes]
    more = [
        ("red", "uchar", red), ("green", "uchar", red), ("blue", "uchar", red), ("texcoord", "list uchar double", uv),
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("ply")
    meshes = [read(folder, ply(form, columns(XYZ, "float", points), [*indices(faces), *more])) for form in FORMS]
    expected = [(f, (0, 1, 2)) for f, size in enumerate(sizes) if size == 3]
    expected += [(f, corners) for corners in ((0, 1, 2), (2, 3, 0)) for f, size in enumerate(sizes) if size == 4]
    expected += [(f, (0, k, k + 1)) for f, size in enumerate(sizes) if size > 4 for k in range(1, size - 1)]
    for mesh in meshes:
        np.testing.assert_array_equal(mesh.vertices, points)
        assert mesh.faces.tolist() == [[faces[f][k] for k in corners] for f, corners in expected]
        assert mesh.colors[:, 0, 0].tolist() == [red[f] for f, _ in expected]
        np.testing.assert_array_equal(mesh.uv, [[uv[f][2 * k : 2 * k + 2] for k in corners] for f, corners in expected])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("comment", [b"erstellt von M\xfcller", "von Müller".encode(), b"\xff\xfe\x00"])
@pytest.mark.parametrize("form", FORMS)
def test_comments_of_any_encoding_and_ends_of_lines_of_any_system_are_read(tmp_path, form, comment, end):
    mesh = read(tmp_path, box(form, comments=[comment], end=end))
    assert len(mesh.faces) == 12 and mesh.vertices.tolist() == [list(corner) for corner in CORNERS]


@pytest.mark.parametrize(
    ("names", "kind", "factor"),
    [
        (("red", "green", "blue"), "uchar", 1),
        (("red", "green", "blue"), "float", 1 / 255),
        (("red", "green", "blue"), "double", 1 / 255),
        (("red", "green", "blue"), "float", 1),
        (("red", "green", "blue"), "ushort", 257),
        (("red", "green", "blue"), "int", 1),
        (("diffuse_red", "diffuse_green", "diffuse_blue"), "uchar", 1),
        (("r", "g", "b"), "uchar", 1),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_colour_is_the_same_however_it_is_stored(tmp_path, form, names, kind, factor):
    values = [[factor * level for level in levels] for levels in LEVELS]
    assert read(tmp_path, box(form, *columns(names, kind, values))).colors.tolist() == [list(x) for x in LEVELS]


def test_colours_of_faces_become_those_of_vertices_and_geometry_stays(tmp_path):
    colors = columns(("red", "green", "blue"), "uchar", [(240, 0, 0)] * 6)
    mesh = read(tmp_path, ply("ascii", columns(XYZ, "float", CORNERS), [*indices(QUADS), *colors]))
    at_vertices = mesh.at_vertices()
    np.testing.assert_array_equal(at_vertices.colors, np.tile([240.0, 0, 0], (8, 1)))
    assert at_vertices.vertices is mesh.vertices and at_vertices.faces is mesh.faces


def test_normals_and_colours_follow_vertices_that_a_seam_parts(tmp_path):
    uv = [[0.0, 0, 1, 0, 1, 1, 0, 1]] * 6
    more = [*columns(("nx", "ny", "nz"), "float", CORNERS), *columns(("red", "green", "blue"), "uchar", LEVELS)]
    face = [*indices(QUADS), ("texcoord", "list uchar float", uv)]
    mesh = read(tmp_path, ply("ascii", [*columns(XYZ, "float", CORNERS), *more], face)).at_vertices()
    assert len(mesh.vertices) > 8 and mesh.uv.shape == (len(mesh.vertices), 2)
    np.testing.assert_array_equal(mesh.normals, mesh.vertices)
    place = [CORNERS.index(tuple(vertex)) for vertex in mesh.vertices.tolist()]
    np.testing.assert_array_equal(mesh.colors, np.array(LEVELS)[place])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (b"wood.png", "wood.png"),
        (b"maps/wood.png", "maps/wood.png"),
        (b"maps\\wood.png", "maps/wood.png"),
        (b"C:\\parts\\maps\\wood.png", "maps/wood.png"),
        (b"/home/me/parts/wood.png", "wood.png"),
        (b"WOOD.PNG", "Wood.png"),
        (b"light wood.png", "light wood.png"),
        ("grün.png".encode(), "grün.png"),
        ("grün.png".encode("latin-1"), "grün.png"),
        (b"", "a.png"),
        (b"", "A.PNG"),
        (b"", "a.bmp"),
    ],
)
def test_a_texture_is_found_by_the_name_that_the_file_gives(tmp_path, name, file):
    write_picture(tmp_path / file, colored(200))
    uv = columns(("texture_u", "texture_v"), "float", [(0.5, 0.5)] * 8)
    mesh = read(tmp_path, box("ascii", *uv, comments=[b"TextureFile " + name] if name else []))
    np.testing.assert_array_equal(mesh.texture, colored(200))
    assert mesh.notes == ()


def test_no_texture_is_taken_from_outside_and_the_missing_one_is_named(tmp_path):
    write_picture(tmp_path / "outside.png", colored(200))
    uv = columns(("texture_u", "texture_v"), "float", [(0.5, 0.5)] * 8)
    (tmp_path / "inside").mkdir()
    for name in ("../outside.png", str(tmp_path / "outside.png"), "..\\outside.png"):
        mesh = read(tmp_path / "inside", box("ascii", *uv, comments=[b"TextureFile " + name.encode()]))
        assert mesh.texture is None and "outside.png beside the file" in mesh.notes[0]


def test_pictures_that_make_a_giant_together_are_refused(tmp_path, monkeypatch):
    """Two pictures of few pixels, one wide and one high, would be on one of more than a billion."""
    write_picture(tmp_path / "wide.png", np.zeros((1, 40_000, 3), np.uint8))
    write_picture(tmp_path / "high.png", np.zeros((40_000, 1, 3), np.uint8))
    face = [*indices(QUADS), ("texcoord", "list uchar float", [[0.0, 0, 1, 0, 1, 1, 0, 1]] * 6)]
    content = ply("ascii", columns(XYZ, "float", CORNERS), [*face, ("texnumber", "int", [0, 1] * 3)], [])
    for names in (("wide.png", "high.png"), ("wide.png",) * 4000):
        header = b"".join(b"comment TextureFile " + name.encode() + b"\n" for name in names)
        with pytest.raises(UserError, match=r"a\.ply: its textures have more than 134 million pixels together"):
            read(tmp_path, content.replace(b"element vertex", header + b"element vertex", 1))


def test_several_textures_become_one_and_every_face_keeps_its_own(tmp_path):
    for level in (50, 200):
        write_picture(tmp_path / f"{level}.png", colored(level))
    number = [0, 1, 0, 1, 0, 1]
    face = [
        *indices(QUADS),
        ("texcoord", "list uchar float", [[0.0, 0, 1, 0, 1, 1, 0, 1]] * 6),
        ("texnumber", "int", number),
    ]
    names = [b"TextureFile 50.png", b"TextureFile 200.png"]
    mesh = read(tmp_path, ply("ascii", columns(XYZ, "float", CORNERS), face, names))
    rows = np.floor((1 - mesh.uv[..., 1]) * len(mesh.texture)).astype(int)
    assert mesh.texture[rows, 0, 0].tolist() == [[(50, 200)[k]] * 3 for k in number * 2]
    assert mesh.notes == ()
    without = read(tmp_path, ply("ascii", columns(XYZ, "float", CORNERS), face[:2], names))
    np.testing.assert_array_equal(without.texture, colored(50))
    assert "2 textures" in without.notes[0]


@pytest.mark.parametrize("form", FORMS)
def test_no_beginning_of_a_file_is_taken_for_it(tmp_path, form):
    whole = box(form, faces=[*QUADS[:5], [1, 5, 7], [1, 7, 3]])
    for size in range(0, len(whole) - (4 if form == "ascii" else 0), 3):
        with pytest.raises(UserError, match=r"a\.ply (is not a PLY mesh|cannot be read as a PLY mesh)") as caught:
            read(tmp_path, whole[:size])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"element vertex 8", b"element vertex 999999999999999"),
        (b"element face 6", b"element face 999999999999999"),
        (b"element vertex 8", b"element vertex -1"),
        (b"element vertex 8", b"element vertex many"),
        (b"property float x", b"property quaternion x"),
        (b"property float x", b"property float x\nproperty float x"),
        (b"property float x", b"property float w"),
        (b"element vertex 8\n", b""),
        (b"format binary_little_endian", b"format binary_middle_endian"),
        (b"list uchar int", b"list uint int"),
    ],
)
def test_damaged_headers_are_reported_in_one_line_and_take_no_memory(tmp_path, old, new):
    content = box("binary_little_endian")
    assert old in content
    with pytest.raises(UserError, match=r"a\.ply .*restore the file") as caught:
        read(tmp_path, content.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_a_word_that_is_no_number_is_reported(tmp_path):
    with pytest.raises(UserError, match="no number"):
        read(tmp_path, box("ascii").replace(b"30.0", b"3o.0", 1))


@pytest.mark.parametrize("index", [8, -1])
def test_faces_without_vertices_are_reported(tmp_path, index):
    with pytest.raises(UserError, match="faces without vertices"):
        read(tmp_path, box("binary_little_endian", faces=[*QUADS, [0, 1, index]]))


def test_points_are_a_mesh_without_faces(tmp_path):
    mesh = read(tmp_path, ply("ascii", columns(XYZ, "float", CORNERS)))
    assert len(mesh.vertices) == 8 and mesh.faces.shape == (0, 3)


def test_a_mesh_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(5, 3)).astype(np.float32).astype(float)
    mesh = Mesh(
        vertices, rng.integers(0, 5, (4, 3)), vertices, rng.integers(0, 256, (5, 3)), vertices[:, :2], colored(7)
    )
    write_ply(tmp_path / "a.ply", mesh)
    again = read_ply(tmp_path / "a.ply")
    for name in ("vertices", "faces", "normals", "colors", "uv", "texture"):
        np.testing.assert_array_equal(getattr(again, name), getattr(mesh, name))
