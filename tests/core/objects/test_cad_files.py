"""CAD files of any format become one mesh, cleaned, without a change of its surface."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from trimesh.transformations import translation_matrix
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from sopose.core.objects.cad_files import read_cad
from sopose.core.objects.cad_mesh import CadMesh, cleaned, object_model, refined, with_normals
from sopose.core.objects.mesh_files import readable_formats
from sopose.core.rays.raycast import RayCaster
from sopose.core.utils.errors import UserError

SIDES = np.array([30.0, 20.0, 10.0])
FORMATS = ["stl", "obj", "ply", "glb", "off"]


def export(mesh, path: Path) -> Path:
    mesh.export(path)
    return path


def textured(sides=SIDES, color: int = 200) -> trimesh.Trimesh:
    box = trimesh.creation.box(sides)
    picture = np.full((16, 32, 3), color, np.uint8)
    picture[:, :16, 0] = 10
    uv = np.c_[(box.vertices[:, 0] > 0) * 0.5 + 0.25, (box.vertices[:, 2] > 0) * 0.9 + 0.05]
    box.visual = TextureVisuals(uv=uv, material=SimpleMaterial(image=Image.fromarray(picture)))
    return box


def volume(mesh: CadMesh) -> float:
    return float(np.linalg.det(mesh.vertices[mesh.faces]).sum() / 6)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_box(tmp_path, suffix):
    file = read_cad(export(trimesh.creation.box(SIDES), tmp_path / f"a.{suffix}"))
    mesh, _ = cleaned(file.mesh, "a")
    assert (len(mesh.vertices), len(mesh.faces)) == (8, 12)
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx(SIDES, rel=1e-6)
    assert volume(mesh) == pytest.approx(SIDES.prod(), rel=1e-6)
    assert file.unit == ("m" if suffix == "glb" else None) and mesh.colors is None


@pytest.mark.parametrize("unit, expected", [("millimeter", "mm"), ("inch", "inch"), ("meter", "m"), ("foot", None)])
def test_3mf_names_its_unit(tmp_path, unit, expected):
    pytest.importorskip("lxml")
    import zipfile

    scene = trimesh.Scene([trimesh.creation.box(SIDES)])
    written = export(scene, tmp_path / "a.3mf")
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(tmp_path / "b.3mf", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b'unit="millimeter"', f'unit="{unit}"'.encode()))
    assert read_cad(tmp_path / "b.3mf").unit == expected


def test_bodies_of_a_scene_stand_where_the_scene_puts_them(tmp_path):
    scene = trimesh.Scene()
    box = trimesh.creation.box((1, 1, 1))
    scene.add_geometry(box)
    scene.add_geometry(box.copy(), transform=translation_matrix([5, 0, 0]))
    file = read_cad(export(scene, tmp_path / "a.glb"))
    assert np.ptp(file.mesh.vertices, axis=0) == pytest.approx([6, 1, 1]) and file.notes == ["2 bodies joined"]


def test_colours_of_vertices_and_faces_and_materials_are_kept(tmp_path):
    box = trimesh.creation.box(SIDES)
    box.visual.vertex_colors = np.random.default_rng(0).integers(0, 255, (8, 4))
    for suffix in ("ply", "obj"):
        model = object_model(read_cad(export(box, tmp_path / f"vertices.{suffix}")).mesh, 1, "a")
        here = model.colors[np.argmin(np.linalg.norm(1000 * model.vertices / 1000 - box.vertices[3], axis=1))]
        assert here.tolist() == box.visual.vertex_colors[3, :3].tolist()
    box = trimesh.creation.box(SIDES)
    box.visual.face_colors = [[255, 0, 0, 255]] * 6 + [[0, 0, 255, 255]] * 6
    mesh = read_cad(export(box, tmp_path / "faces.ply")).mesh
    assert np.unique(mesh.colors.reshape(-1, 3), axis=0).tolist() == [[0, 0, 255], [255, 0, 0]]
    red = trimesh.creation.box(SIDES)
    red.visual = TextureVisuals(material=PBRMaterial(baseColorFactor=[255, 0, 0, 255]))
    scene = trimesh.Scene([red, trimesh.creation.box((1, 1, 50))])
    colors = np.unique(read_cad(export(scene, tmp_path / "red.glb")).mesh.colors.reshape(-1, 3), axis=0)
    assert colors == pytest.approx(np.array([[170, 170, 170], [255, 0, 0]]), abs=0.5)  # a plain body beside it is grey


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_a_texture_stays_a_texture(tmp_path, suffix):
    mesh = read_cad(export(textured(), tmp_path / f"a.{suffix}")).mesh
    assert mesh.texture.shape == (16, 32, 3) and mesh.colors is None
    assert np.unique(mesh.uv[..., 0].round(6)).tolist() == [0.25, 0.75]


def test_textures_and_colours_of_several_bodies_become_one_texture(tmp_path):
    red = trimesh.creation.box((5, 5, 5))
    red.visual = TextureVisuals(material=SimpleMaterial(diffuse=[200, 20, 20, 255]))
    scene = trimesh.Scene()
    for place, body in enumerate((textured(), textured(color=90), red)):
        scene.add_geometry(body, transform=translation_matrix([50 * place, 0, 0]))
    mesh = read_cad(export(scene, tmp_path / "a.obj")).mesh
    colors = mesh.with_baked_texture().colors.reshape(-1, 3)
    middle = np.rint(mesh.vertices[mesh.faces].mean(axis=(1,))[:, 0] / 50).repeat(3)
    assert np.unique(colors[middle == 0], axis=0).tolist() == [[10, 200, 200], [200, 200, 200]]
    assert np.unique(colors[middle == 1], axis=0).tolist() == [[10, 90, 90], [90, 90, 90]]
    assert np.unique(colors[middle == 2], axis=0).tolist() == [[200, 20, 20]]


def test_a_missing_texture_is_reported(tmp_path):
    export(textured(), tmp_path / "a.obj")
    for picture in tmp_path.glob("*.png"):
        picture.unlink()
    assert any("no texture was found" in note for note in read_cad(tmp_path / "a.obj").notes)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("damage", ["empty", "garbage", "half"])
def test_damaged_files_are_reported_by_name_in_one_line(tmp_path, suffix, damage):
    path = export(trimesh.creation.box(SIDES), tmp_path / f"part.{suffix}")
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "garbage": b"\x00what is this?" * 9, "half": whole[: len(whole) // 2]}[damage])
    with pytest.raises(UserError, match=rf"part\.{suffix}") as caught:
        cleaned(read_cad(path).mesh, str(path))
    assert "\n" not in str(caught.value)


def test_points_and_unknown_formats_are_no_meshes(tmp_path):
    points = trimesh.PointCloud(np.random.default_rng(0).normal(size=(50, 3)))
    with pytest.raises(UserError, match="no triangles"):
        read_cad(export(points, tmp_path / "points.ply"))
    for name, word in (("a.step", "pip install cascadio"), ("a.docx", "export it as one"), ("a.xyz", "glb, gltf, obj")):
        (tmp_path / name).write_text("x")
        with pytest.raises(UserError, match=word):
            read_cad(tmp_path / name)
    with pytest.raises(UserError, match="missing"):
        read_cad(tmp_path / "none.stl")
    assert {"stl", "obj", "ply", "glb", "off"} <= set(readable_formats())


def test_cleaning_reports_what_it_did_and_what_is_wrong():
    box = trimesh.creation.box(SIDES)
    vertices = np.concatenate([box.vertices, box.vertices[:1], [[np.nan, 0, 0]]])
    useless = [[0, 0, 1], [0, 1, 9], box.faces[3]]
    mesh, notes = cleaned(CadMesh(vertices, np.concatenate([box.faces, useless])), "a")
    assert len(mesh.faces) == 12 and len(mesh.vertices) == 8
    assert notes == [
        "1 triangles with coordinates that are no numbers dropped",
        "1 triangles without area dropped",
        "1 repeated triangles dropped",
    ]
    _, notes = cleaned(CadMesh(box.vertices, box.faces[2:]), "a")
    assert notes == ["not closed: 4 open edges"]
    turned = box.faces.copy()
    turned[0] = turned[0, ::-1]
    assert cleaned(CadMesh(box.vertices, turned), "a")[1] == ["some triangles are turned over against their neighbours"]
    fin = np.concatenate([box.faces, [[0, 1, 8]]])
    edge = box.edges_unique[0]
    fin[-1] = [*edge, 8]
    _, notes = cleaned(CadMesh(np.concatenate([box.vertices, [[40, 40, 40]]]), fin), "a")
    assert notes == ["not closed: 2 open edges", "1 edges have more than two triangles"]


def test_stl_s_loose_triangles_are_joined(tmp_path):
    mesh, notes = cleaned(read_cad(export(trimesh.creation.icosphere(2), tmp_path / "a.stl")).mesh, "a")
    assert len(mesh.vertices) == 162 and notes == ["798 vertices merged"]


@pytest.mark.parametrize("flat", [[[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 0, 0], [1, 0, 0], [0, 1, 0]]])
def test_what_has_no_volume_is_no_object(flat):
    with pytest.raises(UserError, match=r"^part\.stl (has no triangle with an area|is flat)"):
        cleaned(CadMesh(np.array(flat, float), np.array([[0, 1, 2]])), "part.stl")


@given(seed=st.integers(0, 1000), count=st.integers(20, 3000))
def test_halving_edges_keeps_the_surface_closed_and_its_attributes_linear(seed, count):
    rng = np.random.default_rng(seed)
    hull = trimesh.convex.convex_hull(rng.normal(size=(14, 3)))
    vertices, faces = np.asarray(hull.vertices), np.asarray(hull.faces)
    matrix = rng.normal(size=(3, 3))
    mesh = CadMesh(vertices, faces, colors=(vertices @ matrix)[faces], uv=(vertices @ matrix[:, :2])[faces])
    fine, notes = cleaned(refined(mesh, count), "hull")
    assert count <= len(fine.vertices) <= 5 * max(count, 14) and not notes
    assert volume(fine) == pytest.approx(volume(mesh), rel=1e-12)
    assert fine.colors == pytest.approx((fine.vertices @ matrix)[fine.faces])
    assert fine.uv == pytest.approx((fine.vertices @ matrix[:, :2])[fine.faces])


def test_normals_are_smooth_on_curves_and_not_across_edges():
    cylinder = trimesh.creation.cylinder(10, 30, sections=32)
    mesh = with_normals(CadMesh(np.asarray(cylinder.vertices), np.asarray(cylinder.faces)))
    model = object_model(refined(mesh, 3000), 1, "a")
    lids = np.isclose(np.abs(model.normals[:, 2]), 1)
    round_part = ~lids
    across = model.vertices[round_part, :2] / np.linalg.norm(model.vertices[round_part, :2], axis=1, keepdims=True)
    assert model.normals[round_part, 2] == pytest.approx(np.zeros(round_part.sum()), abs=1e-6)
    # Halved edges lie on the facets; their normals are those between, not the facets' own.
    assert np.einsum("ni,ni->n", model.normals[round_part, :2], across).min() > np.cos(np.radians(1.5))
    assert np.abs(model.vertices[lids, 2]) == pytest.approx(np.full(lids.sum(), 15), rel=1e-6)
    RayCaster(model.vertices, model.faces)


def test_a_binary_stl_of_another_program_is_read(tmp_path):
    corners = np.asarray(trimesh.creation.box(SIDES).triangles, "<f4")
    body = b"".join(b"\0" * 12 + triangle.tobytes() + b"\0\0" for triangle in corners)
    (tmp_path / "a.STL").write_bytes(b"solid of another program".ljust(80) + struct.pack("<I", 12) + body)
    mesh, _ = cleaned(read_cad(tmp_path / "a.STL").mesh, "a")
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx(SIDES, rel=1e-6)
