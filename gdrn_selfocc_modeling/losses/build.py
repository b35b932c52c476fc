"""From configuration to criterion: the one place of `losses` that reads config keys."""

from __future__ import annotations

from functools import partial
from typing import Any

from sopose.core.utils.errors import UserError
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
    xyz_l1,
)
from sopose.losses.point_matching import PointMatching, angular_loss, bind_loss, make_distance
from sopose.losses.symmetry import oriented_Q, oriented_xyz

MASKS = ("obj", "visib", "trunc", "erode")
SECTION = "MODEL.POSE_NET.LOSS_CFG"
XYZ_NAMES = ("loss_coor_x", "loss_coor_y", "loss_coor_z")
Q_NAMES = ("loss_Q0_x", "loss_Q0_y", "loss_Q0_z")
# FOCAL_NORM="lm": what the ancestor divides loss_ct_pro and loss_q_def by, LM's focal length in two roundings
LM_FOCAL = {"CT_P_LW": 572.3, "Q0_DEF_LW": 572.5}


def build_criterion(cfg: Any) -> Criterion:
    """All losses of MODEL.POSE_NET.LOSS_CFG whose weight (`*_LW`) is above 0; none of its own for a frozen head.

    Raises:
        UserError: an unknown choice, or a loss without the part of the network it speaks of.
    """
    net = cfg.MODEL.POSE_NET
    all_terms = [*_dense_terms(net), *_second_layer_terms(cfg), *_pose_terms(net)]
    active = [term for term in all_terms if term.weight > 0]
    if not active:
        raise UserError(f"every weight in {SECTION} is 0, there is nothing to learn; set one *_LW above 0")
    return Criterion(active, learn_weights=net.get("USE_MTL", False))


def _dense_terms(net: Any) -> list[Term]:
    """Mask, coordinates of the visible surface, regions; empty where the head that predicts them is frozen."""
    losses = net.LOSS_CFG
    mask_kind = _choice(losses, "MASK_LOSS_TYPE", MASK_LOSSES)
    mask_name = _choice(losses, "MASK_LOSS_GT", MASKS)
    region_mask = _choice(losses, "REGION_LOSS_MASK_GT", MASKS)
    _choice(losses, "REGION_LOSS_TYPE", ("CE",))
    found = [
        Term(XYZ_NAMES, _xyz_loss(losses), losses.XYZ_LW),
        Term(
            ("loss_mask",),
            lambda pred, batch, gt: [mask_loss(pred.mask, mask_named(gt, mask_name), mask_kind)],
            losses.MASK_LW,
        ),
    ]
    if net.GEO_HEAD.NUM_REGIONS > 1:
        found.append(
            Term(
                ("loss_region",),
                lambda pred, batch, gt: [region_loss(pred.region, gt.region, mask_named(gt, region_mask))],
                losses.REGION_LW,
            )
        )
    return [] if net.GEO_HEAD.get("FREEZE", False) else found


def _xyz_loss(losses: Any) -> terms.Loss:
    kind = _choice(losses, "XYZ_LOSS_TYPE", XYZ_LOSSES)
    name = _choice(losses, "XYZ_LOSS_MASK_GT", MASKS)
    if kind == "CE_coor":
        if losses.get("HANDLE_SYM", False):
            raise UserError(f"{SECTION}.HANDLE_SYM compares coordinates, XYZ_LOSS_TYPE 'CE_coor' has bins; use L1")
        return lambda pred, batch, gt: bin_cross_entropy(
            pred.xyz, gt.P, gt.mask_obj[:, None], mask_named(gt, name)[:, None]
        )
    if losses.get("HANDLE_SYM", False):
        return lambda pred, batch, gt: oriented_xyz(pred, batch, gt, mask_named(gt, name))
    return lambda pred, batch, gt: xyz_l1(pred.xyz, gt.P, mask_named(gt, name))


def _second_layer_terms(cfg: Any) -> list[Term]:
    """Q, and what ties it to P; empty without a self-occlusion head."""
    net, losses = cfg.MODEL.POSE_NET, cfg.MODEL.POSE_NET.LOSS_CFG
    if "SELFOCC_HEAD" not in net or not net.SELFOCC_HEAD.get("ENABLED", True):
        return []
    head = net.SELFOCC_HEAD
    if losses.get("OCC_LW", 0) > 0 and not head.get("OCCMASK_AWARE", False):
        raise UserError(f"{SECTION}.OCC_LW is above 0 but SELFOCC_HEAD.OCCMASK_AWARE is False; change one")
    own = [] if head.get("FREEZE", False) else [_q_term(losses, head.get("MIN_Q0_REGION", 20)), _occ_term(losses)]
    return own + _cross_layer_terms(cfg)


def _q_term(losses: Any, min_region: int) -> Term:
    """Q itself: coordinates, or bins where P has bins."""
    binned = losses.XYZ_LOSS_TYPE == "CE_coor"
    if _choice(losses, "Q0_LOSS_TYPE", XYZ_LOSSES) == "CE_coor" and not binned:
        raise UserError(f"{SECTION}.Q0_LOSS_TYPE 'CE_coor' goes with XYZ_LOSS_TYPE 'CE_coor', which bins both layers")
    weight = losses.get("Q0_LW", 0)
    if losses.get("HANDLE_SYM", False):
        return Term(("loss_Q0",), partial(oriented_Q, min_region=min_region), weight)
    compare = self_occlusion_cross_entropy if binned else self_occlusion_l1
    return Term(Q_NAMES, lambda pred, batch, gt: compare(pred.q, gt.Q, gt.q_mask, min_region), weight)


def _occ_term(losses: Any) -> Term:
    """Where Q is valid."""
    return Term(
        ("loss_occ",), lambda pred, batch, gt: [(pred.q_mask - gt.q_mask).abs().mean()], losses.get("OCC_LW", 0)
    )


def _cross_layer_terms(cfg: Any) -> list[Term]:
    """What ties Q to its pixels and to P, the latter once P, Q and the pose have been learned a little."""
    losses, epochs, train = cfg.MODEL.POSE_NET.LOSS_CFG, cfg.SOLVER.TOTAL_EPOCHS, cfg.get("TRAIN", {})
    bins = cfg.MODEL.POSE_NET.GEO_HEAD.XYZ_BIN if losses.XYZ_LOSS_TYPE == "CE_coor" else 0

    def term(name: str, loss: terms.Loss, weight_key: str, start_key: str | None = None) -> Term:
        start = 0.0 if start_key is None else epochs * train.get(start_key, 0.2)
        return Term((name,), terms.on_coordinates(loss, bins), losses.get(weight_key, 0), start)

    reprojection = partial(terms.plane_reprojection, focal=_focal(losses, "Q0_DEF_LW"))
    projection = partial(terms.cross_projection, focal=_focal(losses, "CT_P_LW"))
    return [
        term("loss_q_def", reprojection, "Q0_DEF_LW"),
        term("loss_ct", terms.cross_task, "CT_LW", "CT_START"),
        term("loss_ct_pro", projection, "CT_P_LW", "CT_P_START"),
    ]


def _focal(losses: Any, key: str) -> Focal:
    kind = _choice(losses, "FOCAL_NORM", ("mean", "lm"), default="mean")
    return terms.mean_focal if kind == "mean" else lambda batch: LM_FOCAL[key]


def _pose_terms(net: Any) -> list[Term]:
    """Point matching, SITE, and the losses on rotation and translation themselves."""
    losses = net.LOSS_CFG
    site_used = losses.CENTROID_LW > 0 or losses.Z_LW > 0
    if site_used and net.PNP_NET.TRANS_TYPE != "centroid_z":
        raise UserError(
            f"{SECTION}.CENTROID_LW and Z_LW speak of TRANS_TYPE 'centroid_z', got "
            f"'{net.PNP_NET.TRANS_TYPE}'; set both to 0"
        )
    matching = PointMatching(
        make_distance(losses.PM_LOSS_TYPE, losses.PM_SMOOTH_L1_BETA),
        losses.PM_NORM_BY_EXTENT,
        _pm_parts(losses),
        losses.PM_T_USE_POINTS,
    )
    centroid = make_distance(losses.CENTROID_LOSS_TYPE)
    return [
        Term(
            matching.names,
            partial(terms.point_matching, matching=matching, symmetric=losses.PM_LOSS_SYM),
            losses.PM_LW,
        ),
        Term(
            ("loss_centroid",),
            lambda pred, batch, gt: [centroid(pred.trans_raw[:, :2], gt.trans_ratio[:, :2])],
            losses.CENTROID_LW,
        ),
        Term(
            ("loss_z",),
            partial(terms.site_depth, distance=make_distance(losses.Z_LOSS_TYPE), z_type=net.PNP_NET.Z_TYPE),
            losses.Z_LW,
        ),
        _rot_term(losses),
        _trans_term(losses),
        _bind_term(losses),
    ]


def _pm_parts(losses: Any) -> str:
    """Which disentangling the PM_* switches ask for."""
    if losses.PM_R_ONLY:
        return "R"
    if losses.PM_DISENTANGLE_Z:
        return "R/xy/z"
    return "R/T" if losses.PM_DISENTANGLE_T else "RT"


def _rot_term(losses: Any) -> Term:
    if _choice(losses, "ROT_LOSS_TYPE", ("angular", "L2")) == "angular":
        return Term(("loss_rot",), lambda pred, batch, gt: [angular_loss(pred.cam_R_obj, gt.cam_R_obj)], losses.ROT_LW)
    return Term(
        ("loss_rot",),
        lambda pred, batch, gt: [((pred.cam_R_obj - gt.cam_R_obj) ** 2).mean()],
        losses.ROT_LW,
    )


def _trans_term(losses: Any) -> Term:
    distance = make_distance(losses.TRANS_LOSS_TYPE)
    if not losses.TRANS_LOSS_DISENTANGLE:
        return Term(
            ("loss_trans_LPnP",),
            lambda pred, batch, gt: [distance(pred.cam_t_obj, gt.cam_t_obj)],
            losses.TRANS_LW,
        )
    return Term(
        ("loss_trans_xy", "loss_trans_z"),
        lambda pred, batch, gt: [
            distance(pred.cam_t_obj[:, axes], gt.cam_t_obj[:, axes]) for axes in (slice(0, 2), slice(2, 3))
        ],
        losses.TRANS_LW,
    )


def _bind_term(losses: Any) -> Term:
    distance = make_distance(losses.BIND_LOSS_TYPE)
    return Term(
        ("loss_bind",),
        lambda pred, batch, gt: [bind_loss((pred.cam_R_obj, pred.cam_t_obj), (gt.cam_R_obj, gt.cam_t_obj), distance)],
        losses.BIND_LW,
    )


def _choice(section: Any, key: str, known: tuple[str, ...], default: str | None = None) -> str:
    """The value of a key, one of `known`."""
    value = section.get(key, default or known[0])
    if value not in known:
        raise UserError(f"{SECTION}.{key} is '{value}'; known: {', '.join(known)}")
    return value
