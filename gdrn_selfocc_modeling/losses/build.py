"""From settings to criterion: the one place of `losses` that reads them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import partial

from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.plugins import load_plugin, plugged
from sopose.losses import criterion as terms
from sopose.losses.criterion import Criterion, Focal, Term, mask_named
from sopose.losses.dense import (
    MASK_LOSSES,
    XYZ_LOSSES,
    bin_cross_entropy,
    mask_loss,
    region_loss,
    self_occlusion_cross_entropy,
    self_occlusion_l1,
    self_occlusion_laplace,
    xyz_l1,
    xyz_laplace,
)
from sopose.losses.point_matching import PointMatching, angular_loss, bind_loss, make_distance
from sopose.losses.symmetry import oriented_Q, oriented_xyz
from sopose.settings.groups import TrainSettings
from sopose.settings.network import LossSettings, PoseNetSettings

PLUGINS = "sopose.losses"  # entry points: (Prediction, RoiBatch, RoiTargets) -> scalar
MASKS = ("obj", "visib", "trunc", "erode")
SECTION = "MODEL.POSE_NET.LOSS_CFG"
XYZ_NAMES = ("loss_coor_x", "loss_coor_y", "loss_coor_z")
Q_NAMES = ("loss_Q0_x", "loss_Q0_y", "loss_Q0_z")
# FOCAL_NORM="lm": what the ancestor divides loss_ct_pro and loss_q_def by, LM's focal length in two roundings
LM_FOCAL = {"CT_P_LW": 572.3, "Q0_DEF_LW": 572.5}


def build_criterion(net: PoseNetSettings, train: TrainSettings, epochs: int) -> Criterion:
    """All losses of MODEL.POSE_NET.LOSS_CFG whose weight (`*_LW`) is above 0; none of its own for a frozen head.

    `train` says after which share of the run's `epochs` some of them join. Raises `UserError` for an unknown choice, or
    a loss without the part of the network it is about.
    """
    own = [*_dense_terms(net), *_second_layer_terms(net, train, epochs), *_pose_terms(net)]
    all_terms = [*own, *_plugged_terms(net.loss_cfg.plugins, {name for term in own for name in term.names})]
    active = [term for term in all_terms if term.weight > 0]
    if not active:
        raise UserError(f"every weight in {SECTION} is 0, there is nothing to learn; set one *_LW above 0")
    return Criterion(active, learn_weights=net.use_mtl)


def _plugged_terms(words: Sequence[str], taken: Collection[str]) -> list[Term]:
    """Losses of other packages, each "name:weight": entry points of the group `PLUGINS`."""
    found, known = [], plugged(PLUGINS) if words else {}
    for word in words:
        name, _, weight = word.partition(":")
        if name not in known:
            raise UserError(f"{SECTION}.PLUGINS has '{word}', and no package adds that loss{nearest(name, [*known])}")
        if f"loss_{name}" in taken or not _is_weight(weight):
            raise UserError(f"{SECTION}.PLUGINS must be name:weight, of names that aren't ours, got '{word}'")
        loss = load_plugin(known[name])
        found.append(Term((f"loss_{name}",), lambda *parts, loss=loss: [loss(*parts)], float(weight)))
    return found


def _is_weight(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _dense_terms(net: PoseNetSettings) -> list[Term]:
    """Mask, coordinates of the visible surface, regions; empty where the head that predicts them is frozen."""
    losses = net.loss_cfg
    mask_kind = _choice(losses, "MASK_LOSS_TYPE", MASK_LOSSES)
    mask_name = _choice(losses, "MASK_LOSS_GT", MASKS)
    region_mask = _choice(losses, "REGION_LOSS_MASK_GT", MASKS)
    _choice(losses, "REGION_LOSS_TYPE", ("CE",))
    found = [
        Term(XYZ_NAMES, _xyz_loss(losses, net.geo_head.xyz_scale), losses.xyz_lw),
        Term(
            ("loss_mask",),
            lambda pred, batch, gt: [mask_loss(pred.mask, mask_named(gt, mask_name), mask_kind)],
            losses.mask_lw,
        ),
    ]
    if losses.fit_lw > 0:
        if not net.geo_head.xyz_scale:
            raise UserError(f"{SECTION}.FIT_LW is above 0 but GEO_HEAD.XYZ_SCALE is False; change one")
        mask = _choice(losses, "XYZ_LOSS_MASK_GT", MASKS)
        found.append(Term(("loss_fit",), partial(terms.pose_fit, mask=mask), losses.fit_lw))
    if net.geo_head.num_regions > 1:
        found.append(
            Term(
                ("loss_region",),
                lambda pred, batch, gt: [region_loss(pred.region, gt.region, mask_named(gt, region_mask))],
                losses.region_lw,
            )
        )
    return [] if net.geo_head.freeze else found


def _xyz_loss(losses: LossSettings, has_scale: bool) -> terms.Loss:
    kind = _choice(losses, "XYZ_LOSS_TYPE", XYZ_LOSSES)
    name = _choice(losses, "XYZ_LOSS_MASK_GT", MASKS)
    if has_scale:
        _require_plain_coordinates(losses, "GEO_HEAD.XYZ_SCALE")
        return lambda pred, batch, gt: xyz_laplace(pred.xyz, gt.P, pred.xyz_log_scale, mask_named(gt, name))
    if kind == "CE_coor":
        if losses.handle_sym:
            raise UserError(f"{SECTION}.HANDLE_SYM compares coordinates, XYZ_LOSS_TYPE 'CE_coor' has bins; use L1")
        return lambda pred, batch, gt: bin_cross_entropy(
            pred.xyz, gt.P, gt.mask_obj[:, None], mask_named(gt, name)[:, None]
        )
    if losses.handle_sym:
        return lambda pred, batch, gt: oriented_xyz(pred, batch, gt, mask_named(gt, name))
    return lambda pred, batch, gt: xyz_l1(pred.xyz, gt.P, mask_named(gt, name))


def _second_layer_terms(net: PoseNetSettings, train: TrainSettings, epochs: int) -> list[Term]:
    """Q, and what ties it to P; empty without a self-occlusion head."""
    head, losses = net.selfocc_head, net.loss_cfg
    if not head.enabled:
        return []
    if losses.occ_lw > 0 and not head.occmask_aware:
        raise UserError(f"{SECTION}.OCC_LW is above 0 but SELFOCC_HEAD.OCCMASK_AWARE is False; change one")
    own = [] if head.freeze else [_q_term(losses, head.min_q0_region, head.q0_scale), _occ_term(losses)]
    return own + _cross_layer_terms(net, train, epochs)


def _q_term(losses: LossSettings, min_region: int, has_scale: bool) -> Term:
    """Q itself: coordinates, or bins where P has bins."""
    if has_scale:
        _require_plain_coordinates(losses, "SELFOCC_HEAD.Q0_SCALE")
        return Term(
            Q_NAMES,
            lambda pred, batch, gt: self_occlusion_laplace(pred.q, gt.Q, pred.q_log_scale, gt.q_mask, min_region),
            losses.q0_lw,
        )
    binned = losses.xyz_loss_type == "CE_coor"
    if _choice(losses, "Q0_LOSS_TYPE", XYZ_LOSSES) == "CE_coor" and not binned:
        raise UserError(f"{SECTION}.Q0_LOSS_TYPE 'CE_coor' goes with XYZ_LOSS_TYPE 'CE_coor', which bins both layers")
    if losses.handle_sym:
        return Term(("loss_Q0",), partial(oriented_Q, min_region=min_region), losses.q0_lw)
    compare = self_occlusion_cross_entropy if binned else self_occlusion_l1
    return Term(Q_NAMES, lambda pred, batch, gt: compare(pred.q, gt.Q, gt.q_mask, min_region), losses.q0_lw)


def _require_plain_coordinates(losses: LossSettings, key: str) -> None:
    if losses.xyz_loss_type == "CE_coor" or losses.handle_sym:
        raise UserError(
            f"MODEL.POSE_NET.{key} needs {SECTION}.XYZ_LOSS_TYPE 'L1' and HANDLE_SYM False (CANONICAL_SYM is for "
            "symmetric objects); change one"
        )


def _occ_term(losses: LossSettings) -> Term:
    """Where Q is valid."""
    return Term(("loss_occ",), lambda pred, batch, gt: [(pred.q_mask - gt.q_mask).abs().mean()], losses.occ_lw)


def _cross_layer_terms(net: PoseNetSettings, train: TrainSettings, epochs: int) -> list[Term]:
    """What ties Q to its pixels and to P, the latter once P, Q and the pose have been learned a little."""
    losses = net.loss_cfg
    bins = net.geo_head.xyz_bin if losses.xyz_loss_type == "CE_coor" else 0

    def term(name: str, loss: terms.Loss, weight: float, start: float = 0.0) -> Term:
        return Term((name,), terms.on_coordinates(loss, bins), weight, start)

    reprojection = partial(terms.plane_reprojection, focal=_focal(losses, "Q0_DEF_LW"))
    projection = partial(terms.cross_projection, focal=_focal(losses, "CT_P_LW"))
    return [
        term("loss_q_def", reprojection, losses.q0_def_lw),
        term("loss_ct", terms.cross_task, losses.ct_lw, epochs * train.ct_start),
        term("loss_ct_pro", projection, losses.ct_p_lw, epochs * train.ct_p_start),
    ]


def _focal(losses: LossSettings, key: str) -> Focal:
    kind = _choice(losses, "FOCAL_NORM", ("mean", "lm"))
    return terms.mean_focal if kind == "mean" else lambda batch: LM_FOCAL[key]


def _pose_terms(net: PoseNetSettings) -> list[Term]:
    """Point matching, SITE, and the losses on rotation and translation themselves."""
    losses = net.loss_cfg
    site_used = losses.centroid_lw > 0 or losses.z_lw > 0
    if site_used and net.pnp_net.trans_type != "centroid_z":
        raise UserError(
            f"{SECTION}.CENTROID_LW and Z_LW speak of TRANS_TYPE 'centroid_z', got "
            f"'{net.pnp_net.trans_type}'; set both to 0"
        )
    matching = PointMatching(
        make_distance(losses.pm_loss_type, losses.pm_smooth_l1_beta),
        losses.pm_norm_by_extent,
        _pm_parts(losses),
        losses.pm_t_use_points,
    )
    centroid = make_distance(losses.centroid_loss_type)
    return [
        Term(
            matching.names,
            partial(terms.point_matching, matching=matching, symmetric=losses.pm_loss_sym),
            losses.pm_lw,
        ),
        Term(
            ("loss_centroid",),
            lambda pred, batch, gt: [centroid(pred.trans_raw[:, :2], gt.trans_ratio[:, :2])],
            losses.centroid_lw,
        ),
        Term(
            ("loss_z",),
            partial(terms.site_depth, distance=make_distance(losses.z_loss_type), z_type=net.pnp_net.z_type),
            losses.z_lw,
        ),
        _rot_term(losses),
        _trans_term(losses),
        _bind_term(losses),
    ]


def _pm_parts(losses: LossSettings) -> str:
    """Which disentangling the PM_* switches ask for."""
    if losses.pm_r_only:
        return "R"
    if losses.pm_disentangle_z:
        return "R/xy/z"
    return "R/T" if losses.pm_disentangle_t else "RT"


def _rot_term(losses: LossSettings) -> Term:
    if _choice(losses, "ROT_LOSS_TYPE", ("angular", "L2")) == "angular":
        return Term(("loss_rot",), lambda pred, batch, gt: [angular_loss(pred.cam_R_obj, gt.cam_R_obj)], losses.rot_lw)
    return Term(
        ("loss_rot",),
        lambda pred, batch, gt: [((pred.cam_R_obj - gt.cam_R_obj) ** 2).mean()],
        losses.rot_lw,
    )


def _trans_term(losses: LossSettings) -> Term:
    distance = make_distance(losses.trans_loss_type)
    if not losses.trans_loss_disentangle:
        return Term(
            ("loss_trans_LPnP",),
            lambda pred, batch, gt: [distance(pred.cam_t_obj, gt.cam_t_obj)],
            losses.trans_lw,
        )
    return Term(
        ("loss_trans_xy", "loss_trans_z"),
        lambda pred, batch, gt: [
            distance(pred.cam_t_obj[:, axes], gt.cam_t_obj[:, axes]) for axes in (slice(0, 2), slice(2, 3))
        ],
        losses.trans_lw,
    )


def _bind_term(losses: LossSettings) -> Term:
    distance = make_distance(losses.bind_loss_type)
    return Term(
        ("loss_bind",),
        lambda pred, batch, gt: [bind_loss((pred.cam_R_obj, pred.cam_t_obj), (gt.cam_R_obj, gt.cam_t_obj), distance)],
        losses.bind_lw,
    )


def _choice(losses: LossSettings, key: str, known: tuple[str, ...]) -> str:
    """The value of a key, one of `known`."""
    value = getattr(losses, key.lower())
    if value not in known:
        raise UserError(f"{SECTION}.{key} is '{value}'; known: {', '.join(known)}")
    return value
