"""The page with the 3D view: what it holds, and that a browser draws the model where the camera saw it."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from sopose.core.geometry.camera import project
from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel, measure
from sopose.core.utils.errors import UserError
from sopose.core.vis.scene_view import (
    MAX_FACES,
    Photograph,
    ViewedEstimate,
    ViewedObject,
    model_facts,
    symmetry_axes,
    three_js,
    write_scene_view,
)
from sopose.core.vis.simplify import simplified_model

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--log-level=0",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no name leads anywhere
    "--window-size=1000,620",
    "--virtual-time-budget=3000",
    "--dump-dom",
)
K = np.array([[400.0, 6, 150], [0, 410, 130], [0, 0, 1]])  # not quite in the middle, and skewed
SIZE = 320, 240
TRUE = Pose(Rotation.from_euler("xyz", [0.5, 0.7, 0.1]).as_matrix(), np.array([0.06, 0.03, 0.8]))
ESTIMATED = Pose(TRUE.cam_R_obj, np.array([-0.09, -0.05, 0.8]))
# Run in the page: it counts and places pixels of the truth's blue and the estimate's orange; the title holds them.
PROBE = """<script>
const measured = {};
function set(layer, on) { document.querySelector(`[data-layer="${layer}"]`).checked = on; }
function pixels() {
  render();
  const gl = renderer.getContext(), [w, h] = [gl.drawingBufferWidth, gl.drawingBufferHeight];
  const data = new Uint8Array(4 * w * h);
  gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, data);
  return [data, w, h];
}
function measure(name) {
  const [data, w, h] = pixels(), [sx, sy] = fit(), at = { blue: [], orange: [] };
  const levels = new Set();
  for (let i = 0; i < w * h; i++) {
    const [r, g, b] = data.subarray(4 * i, 4 * i + 3);
    levels.add(65536 * r + 256 * g + b);
    const color = b > r + 60 ? "blue" : r > b + 60 ? "orange" : null;
    if (!color) continue;
    const x = 2 * (i % w + 0.5) / w - 1, y = 2 * (Math.floor(i / w) + 0.5) / h - 1;
    at[color].push([(x / sx + 1) / 2 * lens.width - 0.5, (1 - y / sy) / 2 * lens.height - 0.5]);
  }
  measured[name] = { colors: levels.size };
  for (const [color, found] of Object.entries(at)) {
    const side = (k, pick) => found.length ? found.reduce((best, uv) => pick(best, uv[k]), found[0][k]) : null;
    measured[name][color] = {
      pixels: found.length * lens.width * lens.height / (w * h * sx * sy),
      box: [side(0, Math.min), side(1, Math.min), side(0, Math.max), side(1, Math.max)],
    };
  }
}
addEventListener("load", () => setTimeout(() => {
  measured.canvases = document.querySelectorAll("#stage canvas").length;
  measured.failed = !document.getElementById("failure").hidden;
  measured.loaded = performance.getEntriesByType("resource").filter(entry => !entry.name.startsWith("data:")).length;
  if (!measured.failed) STEPS
  document.title = "measured " + JSON.stringify(measured);
}, 500));
</script>"""


def cube(side: float = 0.1, **fields) -> ObjectModel:
    mesh = trimesh.creation.box((side, side, side))
    vertices = np.array(mesh.vertices)
    diameter, low, extent = measure(vertices)
    return ObjectModel(1, "cube", vertices, np.array(mesh.faces), diameter, low, extent, **fields)


def ball(faces: int, radius: float = 0.05, **fields) -> ObjectModel:
    rings = round(np.sqrt(faces / 4))
    mesh = trimesh.creation.uv_sphere(radius, count=[rings, 2 * rings])
    vertices = np.array(mesh.vertices)
    return ObjectModel(
        2, "ball", vertices, np.array(mesh.faces), 2 * radius, -radius * np.ones(3), 2 * radius * np.ones(3),
        normals=vertices / radius, **fields,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scene() -> tuple[list[ViewedObject], Photograph]:
    """A grey photograph and a cube, its estimate off to the left and above."""
    estimate = ViewedEstimate("mine", ESTIMATED, {"rotation": "0.0°", "shift": "170.0 mm"})
    photograph = Photograph(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8), K)
    return [ViewedObject("a cube", cube(), TRUE, [estimate])], photograph


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser; install one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)")
    return found


def probed(browser: str, page: Path, steps: str, *more: str) -> tuple[dict, str]:
    """What the probe measures after `steps` (javascript), and the browser's messages."""
    probe = page.with_name("probe.html")
    text = page.read_text(encoding="utf-8").replace("</body>", PROBE.replace("STEPS", f"{{ {steps} }}") + "</body>")
    probe.write_text(text, encoding="utf-8")
    command = [browser, *FLAGS, *more, f"--user-data-dir={page.parent / 'profile'}", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=page.parent)
    title = re.search(r"<title>measured (.*?)</title>", done.stdout)
    assert title is not None, done.stderr
    return json.loads(html.unescape(title[1])), done.stderr


def data_of(page: Path) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[1])


def test_the_camera_s_view_shows_each_pose_where_the_camera_saw_it(browser, scene, tmp_path):
    write_scene_view(tmp_path / "view.html", "cube", *scene)
    found, messages = probed(
        browser,
        tmp_path / "view.html",
        """
        document.getElementById("tint").value = document.getElementById("opacity").value = 1;
        for (const layer of ["axes:truth", "axes:mine", "camera"]) set(layer, false);
        measure("overview");
        document.getElementById("camera-view").click();
        measure("both");
        set("mesh:truth", false); measure("no truth"); set("mesh:truth", true);
        set("mesh:mine", false); measure("no estimate"); set("mesh:mine", true);
        set("object:0", false); measure("no object");
        document.querySelector("[data-focus]").click();
        set("object:0", true); measure("focus");
        const wheel = { deltaY: 500, clientX: 0, clientY: 0, cancelable: true };
        renderer.domElement.dispatchEvent(new WheelEvent("wheel", wheel));
        measured.wheel = { scale: zoom.scale, inCamera };
        focus(0);
        measured.wheel.before = zoom.scale;
        """,
    )
    assert "CONSOLE" not in messages
    assert (found["canvases"], found["failed"], found["loaded"]) == (1, False, 0)
    assert found["overview"]["colors"] > 2
    for color, pose in (("blue", TRUE), ("orange", ESTIMATED)):
        uv = project(pose.transform(cube().vertices), K)
        seen = found["both"][color]
        assert seen["box"] == pytest.approx([*uv.min(0), *uv.max(0)], abs=0.5)  # pixels of the photograph
        assert seen["pixels"] == pytest.approx(cv2.contourArea(cv2.convexHull(uv.astype(np.float32))), rel=0.03)
    for state, shown in (("no truth", ["orange"]), ("no estimate", ["blue"]), ("no object", [])):
        assert [color for color in ("blue", "orange") if found[state][color]["pixels"]] == shown, state
    near = found["focus"]["blue"]
    assert near["pixels"] > 3 * found["both"]["blue"]["pixels"]
    middle = np.reshape(near["box"], (2, 2)).mean(0)
    np.testing.assert_allclose(middle, [(SIZE[0] - 1) / 2, (SIZE[1] - 1) / 2], atol=10)
    assert found["wheel"]["inCamera"] and found["wheel"]["scale"] < 0.6 * found["wheel"]["before"]


def test_a_model_alone_is_drawn_with_its_colours_and_switches(browser, tmp_path):
    colors = np.tile(np.array([[230, 120, 20]], np.uint8), (8, 1))
    turn = np.diag([-1.0, -1, 1, 1])
    model = cube(colors=colors, symmetries_discrete=[turn])
    write_scene_view(tmp_path / "model.html", "cube", [ViewedObject("cube", model)], facts=model_facts(model))
    found, messages = probed(
        browser,
        tmp_path / "model.html",
        """
        for (const layer of ["axes:model", "box", "symmetries"]) set(layer, false);
        measure("mesh"); set("mesh:model", false); measure("empty"); set("box", true); measure("box");
        """,
    )
    assert "CONSOLE" not in messages and not found["failed"]
    assert found["mesh"]["orange"]["pixels"] > 20_000 and found["mesh"]["colors"] > 2
    assert found["empty"]["colors"] == 1 and found["box"]["colors"] > 1


def test_a_browser_without_webgl_says_so(browser, scene, tmp_path):
    write_scene_view(tmp_path / "view.html", "cube", *scene)
    found, _ = probed(browser, tmp_path / "view.html", "", "--disable-3d-apis")
    assert found["failed"] and found["canvases"] == 0


def test_words_are_text_and_never_markup(scene, tmp_path):
    objects, photograph = scene
    name = "</script><b>\"'&"
    estimate = ViewedEstimate(name, ESTIMATED, {name: name})
    named = [replace(objects[0], label=name, estimates=[estimate])]
    write_scene_view(tmp_path / "view.html", name, named, photograph, {name: name})
    page = (tmp_path / "view.html").read_text()
    assert "<b>" not in page
    assert data_of(tmp_path / "view.html")["poses"][1]["series"] == name
    for word in ("http:", "https:"):
        assert not re.findall(rf'(?:src|href)="{word}', page)
    assert "Permission is hereby granted" in page


def test_an_object_has_a_row_with_what_is_known_of_it(scene, tmp_path):
    write_scene_view(tmp_path / "view.html", "cube", *scene)
    page = (tmp_path / "view.html").read_text()
    assert ">a cube</button>" in page and "<td>170.0 mm</td>" in page
    data = data_of(tmp_path / "view.html")
    assert [pose["series"] for pose in data["poses"]] == ["truth", "mine"] and len(data["meshes"]) == 1
    np.testing.assert_allclose(np.reshape(data["poses"][0]["matrix"], (4, 4)).T[:3, 3], TRUE.cam_t_obj)
    with pytest.raises(UserError, match="object"):
        write_scene_view(tmp_path / "view.html", "nothing", [])


def test_a_page_of_large_meshes_and_pictures_stays_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3)).astype(np.uint8)
    colors = np.zeros((len(ball(60_000).vertices), 3), np.uint8)
    models = [ball(60_000, colors=colors) for _ in range(12)]
    objects = [ViewedObject(f"ball {k}", model, TRUE) for k, model in enumerate(models)]
    write_scene_view(tmp_path / "view.html", "many", objects, Photograph(noise, K))
    assert (tmp_path / "view.html").stat().st_size < 15e6


def test_a_simplified_model_keeps_shape_and_colour_and_faces_few():
    upper = (ball(60_000).vertices[:, 2] > 0)[:, None]
    model = ball(60_000, colors=np.where(upper, [200, 10, 10], [10, 10, 200]).astype(np.uint8))
    simple = simplified_model(model, MAX_FACES)
    assert MAX_FACES / 3 < len(simple.faces) <= MAX_FACES
    edge = np.sqrt(4 * np.pi * 0.05**2 / len(simple.faces))
    np.testing.assert_allclose(np.linalg.norm(simple.vertices, axis=1), 0.05, atol=edge / 4)  # metres
    np.testing.assert_allclose(np.linalg.norm(simple.normals, axis=1), 1, atol=1e-6)
    sure = abs(simple.vertices[:, 2]) > edge
    red = simple.colors[:, 0] > simple.colors[:, 2]
    np.testing.assert_array_equal(red[sure], simple.vertices[sure, 2] > 0)
    surface = trimesh.Trimesh(simple.vertices, simple.faces, process=False)
    assert surface.area == pytest.approx(4 * np.pi * 0.05**2, rel=0.03)
    assert simplified_model(simple, MAX_FACES) is simple


def test_a_texture_becomes_colours_where_a_mesh_is_simplified():
    model = ball(30_000)
    uv = np.column_stack([model.vertices[:, 0] > 0, np.full(len(model.vertices), 0.5)]) * [0.5, 1] + [0.25, 0]
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[:, :4], texture[:, 4:] = (0, 150, 0), (150, 0, 0)
    simple = simplified_model(replace(model, uv=uv, texture=texture), MAX_FACES)
    assert simple.texture is None and simple.uv is None
    far = abs(simple.vertices[:, 0]) > 0.005
    np.testing.assert_allclose(simple.colors[far, 0], np.where(simple.vertices[far, 0] > 0, 150, 0), atol=1)


def test_a_few_triangles_keep_their_texture(tmp_path):
    texture = np.full((4096, 16, 3), 200, np.uint8)
    model = cube(uv=np.zeros((8, 2)), texture=texture, colors=np.zeros((8, 3), np.uint8))
    write_scene_view(tmp_path / "view.html", "cube", [ViewedObject("cube", model)])
    mesh = data_of(tmp_path / "view.html")["meshes"][0]
    assert mesh["colors"] is None and mesh["uv"] and mesh["texture"].startswith("data:image/jpeg;base64,")
    data = base64.b64decode(mesh["texture"].partition(",")[2])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (1024, 4, 3)


def test_the_axis_of_a_symmetry_stays_where_it_is():
    point, direction = np.array([0.02, -0.01, 0.0]), np.array([0.0, 0.6, 0.8])
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.radians(120) * direction).as_matrix()
    turn[:3, 3] = point - turn[:3, :3] @ point
    model = cube(symmetries_discrete=[np.eye(4), turn], symmetries_continuous=[(np.array([0, 0, 1.0]), point)])
    (first, _, _), (name, fixed, axis) = symmetry_axes(model)
    assert (first, name) == ("any angle", "120°")
    np.testing.assert_allclose(turn[:3, :3] @ fixed + turn[:3, 3], fixed, atol=1e-12)
    np.testing.assert_allclose(np.cross(point - fixed, direction), 0, atol=1e-12)
    np.testing.assert_allclose(abs(axis @ direction), 1, atol=1e-12)
    assert model_facts(model)["symmetries"] == "any angle, 120°"


@pytest.mark.parametrize("page", ["<script>no library</script>", "<script>THREE.TrackballControls=1;main()</script>"])
def test_another_viewer_page_of_trimesh_is_refused(monkeypatch, page):
    three_js.cache_clear()
    monkeypatch.setattr(trimesh.viewer, "scene_to_html", lambda scene: page)
    with pytest.raises(UserError, match="another viewer page; pip install"):
        three_js()
    monkeypatch.undo()
    assert "THREE" in three_js() and "</script>" not in three_js()
