"""A rigid object: its mesh, colours, texture, sizes and symmetries, in its own frame and in metres."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from sopose.core.geometry.surface import largest_distance
from sopose.core.geometry.symmetry import symmetry_transforms
from sopose.core.rays.raycast import RayCaster

OFF_CENTER = 0.05  # diameters that a box's middle may be away from the origin; nearer ones are left as they are


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """A CAD model in its own frame, metres. V vertices, F triangles, in the order of the file."""

    obj_id: int
    name: str
    vertices: np.ndarray  # (V, 3) float64, metres
    faces: np.ndarray  # (F, 3) int64
    diameter: float  # largest distance between two vertices, metres
    bounds_min: np.ndarray  # (3,) lower corner of the axis-aligned box, metres
    extent: np.ndarray  # (3,) size of the axis-aligned box, metres
    normals: np.ndarray | None = None  # (V, 3) float64
    colors: np.ndarray | None = None  # (V, 3) uint8 RGB
    uv: np.ndarray | None = None  # (V, 2) in [0, 1], v upwards
    texture: np.ndarray | None = None  # (H, W, 3) uint8 RGB, first row on top
    symmetries_discrete: list[np.ndarray] = field(default_factory=list)  # (4, 4), translation in metres
    symmetries_continuous: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # axis, offset m

    def __getstate__(self) -> dict[str, Any]:
        """Pickled without its casters, which every process builds for itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ("caster", "centered")}

    @property
    def is_symmetric(self) -> bool:
        """Whether `models_info.json` lists a symmetry."""
        return bool(self.symmetries_discrete or self.symmetries_continuous)

    @cached_property
    def symmetry_transforms(self) -> np.ndarray:
        """(S, 4, 4) float64 object-to-object transforms, translation in metres, identity first."""
        return np.asarray(symmetry_transforms(self.symmetries_discrete, self.symmetries_continuous))

    @property
    def middle(self) -> np.ndarray:
        """See `middle_of`."""
        return middle_of(self.bounds_min, self.extent, self.diameter)

    @cached_property
    def centered(self) -> ObjectModel:
        """The same object in the parallel frame at its `middle`; itself where that is the origin."""
        middle = self.middle
        if not middle.any():
            return self
        shift = np.eye(4)
        shift[:3, 3] = middle
        back = np.linalg.inv(shift)
        return replace(
            self,
            vertices=self.vertices - middle,
            bounds_min=self.bounds_min - middle,
            symmetries_discrete=[back @ motion @ shift for motion in self.symmetries_discrete],
            symmetries_continuous=[(axis, offset - middle) for axis, offset in self.symmetries_continuous],
        )

    @cached_property
    def caster(self) -> RayCaster:
        """Rays against this model; its Embree scene is built at the first use and kept."""
        return RayCaster(self.vertices, self.faces)


def middle_of(bounds_min: np.ndarray, extent: np.ndarray, diameter: float) -> np.ndarray:
    """(3,) the middle of an object's box, metres, where it is farther than `OFF_CENTER` from the origin, else zeros.

    Networks learn an object in the frame there: P is in shares of its extent, and a box tells where its origin is.
    """
    middle = bounds_min + extent / 2
    return middle if np.linalg.norm(middle) > OFF_CENTER * diameter else np.zeros(3)


def measure(vertices: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Diameter (largest distance of two vertices), bounds_min (3,) and extent (3,) of (V, 3) vertices."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return largest_distance(vertices), low, high - low
