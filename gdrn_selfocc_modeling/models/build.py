"""From configuration to network: the one place of `models` that reads config keys."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from torch import nn

from core.utils.errors import UserError
from gdrn_selfocc_modeling.models.backbone import (
    backbone_channels,
    backbone_stride,
    leading_modules,
    make_backbone,
)
from gdrn_selfocc_modeling.models.gdrn import GDRN
from gdrn_selfocc_modeling.models.geo_head import TopDownMaskXyzRegionHead
from gdrn_selfocc_modeling.models.layers.blocks import MapSpec, TrunkConfig
from gdrn_selfocc_modeling.models.pnp_net import ConvPnPNet
from gdrn_selfocc_modeling.models.pose_decoder import PoseDecoder
from gdrn_selfocc_modeling.models.selfocc_head import ConvSelfoccHead

# configuration's name of a part -> its name in the network
PARTS = {
    "BACKBONE": "backbone",
    "GEO_HEAD": "geo_head_net",
    "SELFOCC_HEAD": "selfocc_head_net",
    "PNP_NET": "pnp_net",
}


def build_model(cfg: Any, pretrained: bool = True) -> GDRN:
    """The network of a configuration, on the CPU, in training mode.

    Args:
        cfg: attribute-access configuration with MODEL.POSE_NET.
        pretrained: False leaves BACKBONE.PRETRAINED aside; for callers that load a checkpoint next.

    Raises:
        UserError: an option that does not exist or does not fit, naming key, value and choices.
    """
    net = cfg.MODEL.POSE_NET
    _check_supported(net)
    backbone = _build_backbone(net.BACKBONE, pretrained)
    xyz_bins = net.GEO_HEAD.XYZ_BIN if net.LOSS_CFG.XYZ_LOSS_TYPE == "CE_coor" else 0
    with_selfocc = has_selfocc_head(net)
    decoder = PoseDecoder(net.PNP_NET.ROT_TYPE, net.PNP_NET.TRANS_TYPE, net.PNP_NET.Z_TYPE)
    return GDRN(
        backbone=backbone,
        geo_head_net=_build_geo_head(net, backbone, xyz_bins),
        selfocc_head_net=_build_selfocc_head(net, backbone) if with_selfocc else None,
        pnp_net=_build_pnp_net(net, decoder.rot_dim, xyz_bins, with_selfocc),
        decoder=decoder,
        mask_type=net.LOSS_CFG.MASK_LOSS_TYPE,
        with_coord_2d=net.PNP_NET.WITH_2D_COORD,
        with_region=net.PNP_NET.REGION_ATTENTION,
        xyz_bins=xyz_bins,
        frozen=_frozen(net, backbone, with_selfocc),
    )


def build_parameter_groups(model: GDRN, cfg: Any) -> list[dict[str, Any]]:
    """Groups for an optimizer: each part's learning parameters at OPTIMIZER_CFG.lr times its LR_MULT."""
    if cfg.SOLVER.get("BIAS_LR_FACTOR", 1.0) != 1.0:
        raise UserError(f"SOLVER.BIAS_LR_FACTOR is {cfg.SOLVER.BIAS_LR_FACTOR}; only 1.0 is supported")
    groups = []
    for key, name in PARTS.items():
        part = getattr(model, name)
        parameters = [] if part is None else [p for p in part.parameters() if p.requires_grad]
        if parameters:
            rate = cfg.SOLVER.OPTIMIZER_CFG.lr * cfg.MODEL.POSE_NET[key].get("LR_MULT", 1.0)
            groups.append({"params": parameters, "lr": rate, "name": name})
    if not groups:
        raise UserError("every part has FREEZE=True, nothing is left to learn; unfreeze one")
    return groups


def has_selfocc_head(net: Any) -> bool:
    """Whether MODEL.POSE_NET asks for the second layer; without it the network is GDR-Net."""
    return "SELFOCC_HEAD" in net and net.SELFOCC_HEAD.get("ENABLED", True)


def _frozen(net: Any, backbone: nn.Module, with_selfocc: bool) -> list[str]:
    """Submodules that do not learn: whole parts by FREEZE, the backbone's first stages by FREEZE_AT."""
    parts = [PARTS[key] for key in PARTS if net.get(key, {}).get("FREEZE") and (key != "SELFOCC_HEAD" or with_selfocc)]
    stages = leading_modules(backbone, net.BACKBONE.get("FREEZE_AT", 0))
    return parts + [f"{PARTS['BACKBONE']}.{name}" for name in stages]


def _check_supported(net: Any) -> None:
    """UserError for options of the ancestors that this network does not have."""
    for key, value, known in (
        ("NAME", net.NAME, ("GDRN",)),
        ("NECK.ENABLED", net.get("NECK", {}).get("ENABLED", False), (False,)),
        ("GEO_HEAD.INIT_CFG.type", net.GEO_HEAD.INIT_CFG.type, ("TopDownMaskXyzRegionHead",)),
        ("PNP_NET.INIT_CFG.type", net.PNP_NET.INIT_CFG.type, ("ConvPnPNet",)),
        ("LOSS_CFG.XYZ_LOSS_TYPE", net.LOSS_CFG.XYZ_LOSS_TYPE, ("L1", "CE_coor")),
        ("LOSS_CFG.MASK_LOSS_TYPE", net.LOSS_CFG.MASK_LOSS_TYPE, ("L1", "BCE", "CE")),
    ):
        if value not in known:
            choices = ", ".join(map(str, known))
            raise UserError(f"MODEL.POSE_NET.{key} is '{value}'; this version supports: {choices}")
    if net.PNP_NET.REGION_ATTENTION and net.GEO_HEAD.NUM_REGIONS <= 1:
        raise UserError(
            f"MODEL.POSE_NET.PNP_NET.REGION_ATTENTION is True but GEO_HEAD.NUM_REGIONS is "
            f"{net.GEO_HEAD.NUM_REGIONS}; set one of them otherwise"
        )


def _build_backbone(part: Any, pretrained: bool) -> nn.Module:
    options = part.INIT_CFG
    source = part.PRETRAINED if pretrained else ""
    if source == "timm" and not options.get("pretrained", True):
        source = ""
    return make_backbone(
        options.type, options.get("out_indices", (4,)), in_chans=options.get("in_chans", 3), pretrained=source
    )


def _trunk_config(net: Any, key: str, backbone: nn.Module) -> TrunkConfig:
    """A head's trunk, checked against the backbone's channels and the resolutions."""
    options = net[key].INIT_CFG
    values = {field.name: options[field.name] for field in fields(TrunkConfig) if field.name in options}
    trunk = TrunkConfig(**{**values, "up_types": tuple(values.get("up_types", TrunkConfig.up_types))})
    channels = backbone_channels(backbone)
    if trunk.in_dim != channels:
        raise UserError(
            f"MODEL.POSE_NET.{key}.INIT_CFG.in_dim is {trunk.in_dim} but the backbone "
            f"{net.BACKBONE.INIT_CFG.type} gives {channels} channels; set in_dim={channels}"
        )
    stride = backbone_stride(backbone)
    if net.INPUT_RES % stride or net.INPUT_RES // stride * trunk.upscale != net.OUTPUT_RES:
        raise UserError(
            f"INPUT_RES {net.INPUT_RES} / stride {stride} x {trunk.upscale} (up_types of {key}) is "
            f"not OUTPUT_RES {net.OUTPUT_RES}; change one of them or BACKBONE.INIT_CFG.out_indices"
        )
    return trunk


def _build_geo_head(net: Any, backbone: nn.Module, xyz_bins: int) -> TopDownMaskXyzRegionHead:
    head, options = net.GEO_HEAD, net.GEO_HEAD.INIT_CFG
    regions = head.NUM_REGIONS + 1 if head.NUM_REGIONS > 1 else 0
    return TopDownMaskXyzRegionHead(
        _trunk_config(net, "GEO_HEAD", backbone),
        mask=MapSpec(2 if net.LOSS_CFG.MASK_LOSS_TYPE == "CE" else 1, _classes(net, head.MASK_CLASS_AWARE)),
        xyz=MapSpec(3 * (xyz_bins + 1) if xyz_bins else 3, _classes(net, head.XYZ_CLASS_AWARE), groups=3),
        region=MapSpec(regions, _classes(net, head.REGION_CLASS_AWARE)),
        out_kernel_size=options.get("out_kernel_size", 1),
        out_layer_shared=options.get("out_layer_shared", True),
    )


def _build_selfocc_head(net: Any, backbone: nn.Module) -> ConvSelfoccHead:
    head = net.SELFOCC_HEAD
    if head.INIT_CFG.type != "ConvSelfoccHead":
        raise UserError(f"MODEL.POSE_NET.SELFOCC_HEAD.INIT_CFG.type is '{head.INIT_CFG.type}'; known: ConvSelfoccHead")
    return ConvSelfoccHead(
        _trunk_config(net, "SELFOCC_HEAD", backbone),
        num_classes=_classes(net, head.get("Q0_CLASS_AWARE", False)),
        num_mask_classes=_classes(net, head.get("MASK_CLASS_AWARE", False)),
        with_mask=head.get("OCCMASK_AWARE", False),
        out_kernel_size=head.INIT_CFG.get("out_kernel_size", 1),
    )


def _build_pnp_net(net: Any, rot_dim: int, xyz_bins: int, with_selfocc: bool) -> ConvPnPNet:
    part, options = net.PNP_NET, net.PNP_NET.INIT_CFG
    in_dim = (
        (3 * xyz_bins if xyz_bins else 3)
        + (6 if with_selfocc else 0)
        + (2 if part.WITH_2D_COORD else 0)
        + (net.GEO_HEAD.NUM_REGIONS if part.REGION_ATTENTION else 0)
    )
    return ConvPnPNet(
        in_dim,
        net.OUTPUT_RES,
        rot_dim,
        feat_dim=options.get("featdim", 128),
        norm=options.norm,
        num_gn_groups=options.get("num_gn_groups", 32),
        act=options.act,
        drop_prob=options.get("drop_prob", 0.0),
        mask_attention=part.MASK_ATTENTION,
        linear_init=options.get("linear_init", "normal"),
    )


def _classes(net: Any, class_aware: bool) -> int:
    return net.NUM_CLASSES if class_aware else 1
