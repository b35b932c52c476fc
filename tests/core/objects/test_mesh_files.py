"""Mesh files: what they name is found beside them and nowhere else, in any encoding and of any system."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

from sopose.core.bop.models import load_model
from sopose.core.images.files import MOST_PIXELS
from sopose.core.objects.cad_files import read_cad
from sopose.core.objects.mesh_files import read_mesh_file
from sopose.core.utils.errors import UserError
from tests.support.ply_files import XYZ, columns, indices, ply

OBJ = """mtllib part.mtl
o part
v 0 0 0
v 100 0 0
v 0 60 0
v 0 0 40
vt 0.5 0.5
usemtl {material}
f 1/1 3/1 2/1
f 1/1 2/1 4/1
f 1/1 4/1 3/1
f 2/1 3/1 4/1
"""
ORANGE = np.full((4, 4, 3), (255, 128, 0), np.uint8)


def write_part(folder: Path, texture: bytes, material: str = "m", encoding: str = "utf-8", more: bytes = b"") -> Path:
    """An OBJ with its MTL, whose material has a texture of a name."""
    folder.mkdir(exist_ok=True)
    (folder / "part.obj").write_bytes(OBJ.format(material=material).encode(encoding))
    name = f"newmtl {material}\n".encode(encoding)
    (folder / "part.mtl").write_bytes(name + more + (b"map_Kd " + texture + b"\n" if texture else b""))
    return folder / "part.obj"


def write_picture(path: Path, rgb: np.ndarray = ORANGE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, rgb[..., ::-1])[1].tobytes())


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (b"tex.png", "tex.png"),
        (b"maps/tex.png", "maps/tex.png"),
        (b"maps\\tex.png", "maps/tex.png"),
        (b"D:\\work\\maps\\tex.png", "tex.png"),
        (b"/home/me/maps/tex.png", "maps/tex.png"),
        (b"TEX.png", "tex.PNG"),
        (b"my tex.png", "my tex.png"),
        (b"my%20tex.png", "my tex.png"),
        ("größe.png".encode("latin-1"), "größe.png"),
        ("größe.png".encode(), "größe.png"),
        (b"-s 2 2 1 -o 0 0 0 -clamp on tex.png", "tex.png"),
        (b"-bm 0.5 maps\\my tex.png", "maps/my tex.png"),
    ],
)
def test_a_material_s_texture_is_found_by_the_name_it_has(tmp_path, name, file):
    write_picture(tmp_path / file)
    found = read_cad(write_part(tmp_path, name))
    np.testing.assert_array_equal(found.mesh.texture, ORANGE)
    assert len(found.notes) == name.startswith(b"-")  # options are left out, and that is said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_texts_of_any_encoding_keep_their_colours(tmp_path, encoding):
    path = write_part(tmp_path, b"", "Gehäuse", encoding)
    (tmp_path / "part.mtl").write_bytes("newmtl Gehäuse\nKd 1 0 0\n".encode(encoding))
    (part,) = read_mesh_file(path).parts
    assert len(part.faces) == 4 and part.color.tolist() == [255, 0, 0]


def test_a_text_stl_of_any_encoding_is_read(tmp_path):
    facet = "facet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\nendloop\nendfacet\n"
    (tmp_path / "a.stl").write_bytes(f"solid Gehäuse\n{facet}endsolid Gehäuse\n".encode("latin-1"))
    assert len(read_mesh_file(tmp_path / "a.stl").parts[0].faces) == 1


@pytest.mark.parametrize("name", ["../secret.png", "{}/secret.png", "..\\secret.png", "maps/../../secret.png"])
def test_nothing_outside_of_the_folder_is_read(tmp_path, name):
    write_picture(tmp_path / "secret.png")
    found = read_cad(write_part(tmp_path / "part", name.format(tmp_path).encode()))
    assert found.mesh.texture is None
    assert any("no texture was found" in note and "secret.png" in note for note in found.notes)


def test_a_pipe_in_place_of_a_material_is_not_waited_for(tmp_path):
    os = pytest.importorskip("os")
    path = write_part(tmp_path, b"")
    (tmp_path / "part.mtl").unlink()
    os.mkfifo(tmp_path / "part.mtl")
    assert len(read_cad(path).mesh.faces) == 4


@pytest.mark.parametrize("damage", ["cut", "giant"])
def test_a_damaged_texture_is_reported_as_every_other_image(tmp_path, damage):
    path = write_part(tmp_path, b"tex.png")
    write_picture(tmp_path / "tex.png")
    data = (tmp_path / "tex.png").read_bytes()
    side = int(MOST_PIXELS**0.5) + 1
    giant = data[:16] + side.to_bytes(4, "big") * 2 + data[24:]
    (tmp_path / "tex.png").write_bytes(giant if damage == "giant" else data[:50])
    with pytest.raises(UserError, match=r"tex\.png cannot be decoded"):
        read_cad(path)


def glb(change) -> bytes:
    """A tetrahedron as .glb, whose json `change` has changed."""
    whole = trimesh.creation.icosahedron().export(file_type="glb")
    length = int.from_bytes(whole[12:16], "little")
    content = json.loads(whole[20 : 20 + length])
    change(content)
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    rest = whole[20 + length :]
    size = 20 + len(text) + len(rest)
    return whole[:8] + size.to_bytes(4, "little") + len(text).to_bytes(4, "little") + b"JSON" + text + rest


def ask_for_zeros(content: dict) -> None:
    content["accessors"][0].pop("bufferView")
    content["accessors"][0]["count"] = 10**9


def place_often(content: dict) -> None:
    place = next(node for node in content["nodes"] if "mesh" in node)
    content["nodes"] += [{"name": f"n{k}", "mesh": place["mesh"]} for k in range(30)]
    content["nodes"][0].setdefault("children", []).extend(range(len(content["nodes"]) - 30, len(content["nodes"])))


@pytest.mark.parametrize(("change", "words"), [(ask_for_zeros, "asks for 10000"), (place_often, "620 triangles")])
def test_a_small_file_takes_little_memory(tmp_path, monkeypatch, change, words):
    monkeypatch.setattr("sopose.core.objects.limits.MOST_TRIANGLES", 600)
    path = tmp_path / "a.glb"
    path.write_bytes(glb(lambda content: None))
    assert len(read_cad(path).mesh.faces) == 20
    path.write_bytes(glb(change))
    with pytest.raises(UserError, match=rf"a\.glb cannot be read as a mesh \(.*{words}"):
        read_cad(path)


def test_a_model_and_a_cad_file_are_read_alike(tmp_path):
    """A PLY is the same mesh to both, in its own unit."""
    corners = [(0.0, 0, 0), (10.0, 0, 0), (0, 10.0, 0), (0, 0, 10.0), (10.0, 10.0, 0)]
    colors = columns(
        ("red", "green", "blue"), "float", [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (0, 0, 0), (1.0, 1.0, 1.0)]
    )
    faces = [[0, 2, 4, 1], [0, 1, 3], [0, 3, 2], [1, 4, 3], [2, 3, 4]]
    path = tmp_path / "obj_000001.ply"
    path.write_bytes(ply("binary_little_endian", [*columns(XYZ, "float", corners), *colors], indices(faces)))
    model, mesh = load_model(path, 1, "a"), read_cad(path).mesh
    np.testing.assert_array_equal(1e-3 * mesh.vertices, model.vertices)
    np.testing.assert_array_equal(mesh.faces, model.faces)
    np.testing.assert_array_equal(mesh.colors, model.colors[model.faces])
