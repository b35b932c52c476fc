"""The errors of pose pairs by name, with what they need of a model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from sopose.core.evaluation.metrics import plugged_metric
from sopose.core.evaluation.nearest import NearestPoints
from sopose.core.evaluation.pairs import PosePairs, add, adi, convex_hull_points, mssd, pixels, re_deg_cm, te
from sopose.core.evaluation.pruning import pruned_mspd, pruned_mssd, pruned_proj, symmetry_distances
from sopose.core.geometry.sampling import farthest_points
from sopose.core.objects.model import ObjectModel

FEW_SYMMETRIES = 8  # so many are all met with all points; of more, most are ruled out pair by pair
PROBES = 32


@dataclass(frozen=True)
class Errors:
    """Errors that are computed together: a function of N pairs and of what it needs of an `ErrorModel`."""

    names: tuple[str, ...]
    function: Callable[..., np.ndarray | tuple[np.ndarray, ...]]  # (N,) for each name
    needs: tuple[str, ...] = ()


ERRORS = (
    Errors(("add",), add, ("vertices",)),
    Errors(("adi",), adi, ("neighbours", "nearest")),
    Errors(("te",), te),
    Errors(("re", "deg_cm"), re_deg_cm),
    Errors(("re_sym", "deg_cm_sym"), re_deg_cm, ("symmetries",)),
)
WITH_FEW_SYMMETRIES = (
    Errors(("mssd",), mssd, ("hull", "symmetries")),
    Errors(("proj", "proj_sym", "mspd"), pixels, ("vertices", "symmetries")),
)
WITH_MANY_SYMMETRIES = (
    Errors(("mssd",), pruned_mssd, ("hull", "symmetries", "probes")),
    Errors(("proj",), lambda pairs, points: pixels(pairs, points)[0], ("vertices",)),
    Errors(("proj_sym",), pruned_proj, ("vertices", "symmetries", "apart")),
    Errors(("mspd",), pruned_mspd, ("vertices", "symmetries", "probes")),
)


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """A model with what its errors need, computed once."""

    model: ObjectModel
    symmetric: bool  # its ADD(-S) is ADI

    def errors(self, pairs: PosePairs, names: Collection[str]) -> dict[str, np.ndarray]:
        """Errors (N,) of N pairs, by name: metres, degrees and pixels.

        add, adi, ad (ADD(-S)), re, te, deg_cm, proj, mssd, mspd, and with "_sym" the least over the model's
        symmetries. An estimate with nan or infinity, and a point in the camera's plane, give inf.
        """
        meant = {name: ("adi" if self.symmetric else "add") if name == "ad" else name for name in names}
        good = np.flatnonzero(pairs.finite())
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = self._errors(pairs[good], set(meant.values())) if len(good) else {}
        values = {name: np.full(len(pairs), np.inf) for name in names}
        for name, meaning in meant.items():
            if len(good):
                values[name][good] = np.where(np.isnan(found[meaning]), np.inf, found[meaning])
        return values

    def _errors(self, pairs: PosePairs, names: set[str]) -> dict[str, np.ndarray]:
        """At least the errors (N,) of these names, of pairs that are finite; nan for points in the camera's plane."""
        found: dict[str, np.ndarray] = {}
        few = len(self.symmetries) <= FEW_SYMMETRIES
        for kind in ERRORS + (WITH_FEW_SYMMETRIES if few else WITH_MANY_SYMMETRIES):
            if not names.isdisjoint(kind.names):
                values = kind.function(pairs, *(getattr(self, need) for need in kind.needs))
                found |= zip(kind.names, values if isinstance(values, tuple) else (values,), strict=True)
        for name in names - set(found):
            found[name] = np.asarray(plugged_metric(name).errors(pairs, self.model), np.float64)
        return found

    @property
    def vertices(self) -> np.ndarray:
        return self.model.vertices

    @property
    def symmetries(self) -> np.ndarray:
        return self.model.symmetry_transforms

    @cached_property
    def neighbours(self) -> np.ndarray:
        """The vertices (V, 3), those beside each other one after the other: queries in such an order are quick."""
        return self.vertices[cKDTree(self.vertices).indices]

    @cached_property
    def nearest(self) -> NearestPoints:
        return NearestPoints(self.neighbours)

    @cached_property
    def hull(self) -> np.ndarray:
        return convex_hull_points(self.vertices)

    @cached_property
    def probes(self) -> np.ndarray:
        """A few far-apart corners of the hull: they bound from below what a symmetry can reach."""
        return self.hull[farthest_points(self.hull, min(PROBES, len(self.hull)))]

    @cached_property
    def apart(self) -> np.ndarray:
        return symmetry_distances(self.vertices, self.symmetries)
