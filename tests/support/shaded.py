"""Scenes of squares and lamps, and what they look like."""

from __future__ import annotations

import numpy as np

from sopose.core.geometry.pose import Pose
from sopose.core.objects.model import ObjectModel
from sopose.core.rays.casters import EmbreeCaster
from sopose.core.render.ground import Ground, random_texture
from sopose.core.render.lights import Lights
from sopose.core.render.looks import Body
from sopose.core.render.materials import Material
from sopose.core.render.packed import PackedScenes, Scene
from sopose.core.render.shade import Picture, Shading, render_rgb, shade

K = np.array([[500.0, 0.0, 50.0], [0.0, 500.0, 50.0], [0.0, 0.0, 1.0]])
MATT = Material(specular=0.0)
CENTER = np.array([[50.0, 50.0]])
NO_LAMP = (np.zeros((0, 4)), np.zeros((0, 3)))
GREY_LEVEL = 1.0


def model_of(vertices: np.ndarray, faces: np.ndarray, **looks: np.ndarray) -> ObjectModel:
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    diameter = float(np.linalg.norm(high - low))
    return ObjectModel(1, "thing", vertices, faces, diameter, low, high - low, **looks)


def sheet(side: float, pose: Pose, material: Material = MATT, **looks: np.ndarray) -> Body:
    """A square in its own z = 0 plane; corners in the order (-,-), (+,-), (+,+), (-,+)."""
    h = side / 2
    vertices = np.array([[-h, -h, 0], [h, -h, 0], [h, h, 0], [-h, h, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return Body(model_of(vertices, faces, **looks), pose, material)


def at(x: float, y: float, z: float, tilt: float = 0.0) -> Pose:
    """Turned by `tilt` radians about the camera's x axis."""
    c, s = np.cos(tilt), np.sin(tilt)
    return Pose(np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), np.array([x, y, z]))


def lamp(x: float, y: float, z: float, w: float, strength: float = 1.0) -> Lights:
    return Lights(np.zeros(3), np.array([[x, y, z, w]]), np.full((1, 3), strength))


def linear_rgb(bodies: list[Body], uv: np.ndarray, lights: Lights, shadows: bool = True) -> np.ndarray:
    packed = pack(Scene(K, bodies, lights), uv)
    return shade(packed, packed.hits(), Shading(shadows=shadows, ambient_occlusion=False)).numpy()


def pack(scene: Scene, uv: np.ndarray) -> PackedScenes:
    return PackedScenes([scene], [uv], EmbreeCaster([scene.meshes]))


def render(
    bodies: list[Body], uv: np.ndarray, lights: Lights, shading: Shading | None = None, ground: Ground | None = None
) -> Picture:
    return render_rgb(Scene(K, bodies, lights, ground), uv, shading)


def ground_at(z: float, rng: np.random.Generator, tilt: float = 0.0) -> Ground:
    """A textured plane at depth z, facing the camera."""
    return Ground(at(0, 0, z, np.pi + tilt), random_texture(rng), 0.1)


def grey_texture() -> np.ndarray:
    return np.full((4, 4, 3), 188, np.uint8)
