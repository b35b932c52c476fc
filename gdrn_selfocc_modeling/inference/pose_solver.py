"""From settings to what makes poses of a network's output."""

from __future__ import annotations

from sopose.core.utils.errors import UserError
from sopose.models.map_forms import build_pnp_input
from sopose.models.pnp_points import MapReader, PoseSolver
from sopose.models.pnp_solvers import RansacOptions
from sopose.settings.groups import EvalSettings
from sopose.settings.network import PoseNetSettings


def build_pose_solver(test: EvalSettings, net: PoseNetSettings, has_maps: bool = True) -> PoseSolver:
    """How the poses of a test come about, as TEST.USE_PNP and the keys beside it say.

    Raises `UserError` where PnP is asked for and the network gives no maps.
    """
    if not test.use_pnp:
        return PoseSolver()
    if not has_maps:
        raise UserError("TEST.USE_PNP needs maps, which the .onnx file doesn't give; export it with --maps")
    thresholds = net.geo_head.mask_thr_test, net.selfocc_head.mask_thr_test
    reader = MapReader(build_pnp_input(net), *thresholds, test.pnp_layers)
    return PoseSolver(test.pnp_type, reader, ransac_options(test))


def ransac_options(test: EvalSettings) -> RansacOptions:
    """What the keys of TEST say of RANSAC."""
    return RansacOptions(test.pnp_reproj_error, test.pnp_iterations, test.pnp_confidence)
