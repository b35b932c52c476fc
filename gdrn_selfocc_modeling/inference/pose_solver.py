"""From settings to what makes poses of a network's output."""

from __future__ import annotations

from dataclasses import replace

from sopose.core.utils.errors import UserError
from sopose.models.map_forms import build_pnp_input
from sopose.models.pnp_points import MapReader, PoseSolver
from sopose.models.pnp_solvers import RansacOptions
from sopose.settings.groups import EvalSettings
from sopose.settings.network import PoseNetSettings

PNP_WAYS = (("weighted_pnp", "P"), ("ransac_pnp", "P"), ("weighted_pnp", "P+Q"))  # ways of PnP, and layers


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


def build_other_solvers(test: EvalSettings, net: PoseNetSettings, has_maps: bool = True) -> list[PoseSolver]:
    """The other ways from a network's output to a pose, the best first, where looks begin at several poses.

    At most TEST.REFINE.STARTS - 1, and none where there are no maps. Where the network is unsure these poses differ,
    mostly in their distance.
    """
    if test.refine.starts == 1 or not test.refine.iterations or not has_maps:
        return []
    layers = ("P", "P+Q") if net.selfocc_head.enabled else ("P",)
    ways = [(kind, layer) for kind, layer in PNP_WAYS if layer in layers]
    own = (test.pnp_type, test.pnp_layers) if test.use_pnp else None
    others = [replace(test, use_pnp=True, pnp_type=kind, pnp_layers=layer) for kind, layer in ways]
    network = [] if own is None else [PoseSolver()]
    by_pnp = [build_pose_solver(one, net) for one in others if (one.pnp_type, one.pnp_layers) != own]
    return [*network, *by_pnp][: test.refine.starts - 1]


def ransac_options(test: EvalSettings) -> RansacOptions:
    """What the keys of TEST say of RANSAC."""
    return RansacOptions(test.pnp_reproj_error, test.pnp_iterations, test.pnp_confidence)
