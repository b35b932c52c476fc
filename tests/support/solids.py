"""Solids whose symmetries are known, with their vertices at the corners alone, and ways to disguise them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

Mesh = tuple[np.ndarray, np.ndarray]


def prism(outline: np.ndarray, height: float, apex: bool = False) -> Mesh:
    """An outline (N, 2) around the origin, star-shaped, from z = 0 to `height`; with `apex` a pyramid."""
    count = len(outline)
    low = np.c_[outline, np.zeros(count)]
    i = np.arange(count)
    j = (i + 1) % count
    bottom = np.c_[j, i, np.full(count, count)]
    if apex:
        vertices = np.concatenate([low, [[0, 0, 0], [0, 0, height]]])
        return vertices, np.concatenate([bottom, np.c_[i, j, np.full(count, count + 1)]])
    vertices = np.concatenate([low, [[0, 0, 0], [0, 0, height]], low + np.array([0, 0, height])])
    top = np.c_[i, j] + count + 2
    sides = np.concatenate([np.c_[i, j, top[:, 1]], np.c_[i, top[:, 1], top[:, 0]]])
    return vertices, np.concatenate([bottom, sides, np.c_[top, np.full(count, count + 1)]])


def polygon(count: int, radius: float = 1.0) -> np.ndarray:
    """A regular one (count, 2)."""
    angle = 2 * np.pi * np.arange(count) / count
    return radius * np.c_[np.cos(angle), np.sin(angle)]


def saw(count: int, outer: float, inner: float) -> np.ndarray:
    """The outline (2 count, 2) of a saw blade: it can be turned, but has no mirror line."""
    angle = 2 * np.pi * np.arange(count) / count
    teeth = [radius * np.c_[np.cos(angle + lag), np.sin(angle + lag)] for radius, lag in ((outer, 0), (inner, 0.3))]
    return np.stack(teeth, axis=1).reshape(-1, 2)


def box(x: float, y: float, z: float) -> Mesh:
    """Its middle is no corner of the origin, which lies on its bottom."""
    return prism(np.array([[x, y], [-x, y], [-x, -y], [x, -y]]) / 2, z)


def l_bracket() -> Mesh:
    """Without any symmetry but a mirror's."""
    outline = np.array([[-0.1, -0.1], [0.9, -0.1], [0.9, 0.1], [0.1, 0.1], [0.1, 0.6], [-0.1, 0.6]])
    return prism(outline, 0.4)


def tetrahedron() -> Mesh:
    vertices = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]], float)
    return vertices, np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def retessellated(mesh: Mesh, points: int, rng: np.random.Generator) -> Mesh:
    """The same surface with so many vertices more, at random places of it."""
    vertices, faces = mesh[0].tolist(), mesh[1].tolist()
    for _ in range(points):
        corners = np.array(vertices)[np.array(faces)]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        cut = rng.choice(len(faces), p=area / area.sum())
        a, b, c = faces[cut]
        vertices.append(rng.dirichlet([1, 1, 1]) @ corners[cut])
        new = len(vertices) - 1
        faces[cut] = [a, b, new]
        faces += [[b, c, new], [c, a, new]]
    return np.array(vertices), np.array(faces)


def random_motion(seed: int, scale: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """A rotation (3, 3), an offset (3,) far beyond the size of solids of 1 times `scale`, and the generator."""
    rng = np.random.default_rng(seed)
    return Rotation.random(random_state=seed).as_matrix(), scale * rng.uniform(-4, 4, 3), rng
