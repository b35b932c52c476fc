"""From configuration to network: the one place of `models` that reads config keys."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from sopose.core.utils.errors import UserError
from sopose.models.backbone import (
    OWN_WEIGHTS,
    backbone_channels,
    backbone_strides,
    depthwise_modules,
    leading_modules,
    make_backbone,
)
from sopose.models.gdrn import GDRN, PnPInput
from sopose.models.geo_head import TopDownMaskXyzRegionHead
from sopose.models.layers.blocks import MapSpec, TrunkConfig
from sopose.models.neck import FeaturePyramid
from sopose.models.pnp_net import PNP_NETS, PnPConfig, PnPNet
from sopose.models.pose_decoder import PoseDecoder
from sopose.models.selfocc_head import ConvSelfoccHead

# configuration's name of a part -> its name in the network
PARTS = {
    "BACKBONE": "backbone",
    "NECK": "neck",
    "GEO_HEAD": "geo_head_net",
    "SELFOCC_HEAD": "selfocc_head_net",
    "PNP_NET": "pnp_net",
}


@dataclass(frozen=True)
class FeatureMaps:
    """What backbone and neck offer to the heads."""

    channels: list[int]
    strides: list[int]

    def level(self, upscale: int, input_res: int, output_res: int) -> int | None:
        """The map that a trunk brings to `output_res`, counted from the last (-1); None where none is of that size."""
        sizes = [input_res // stride if input_res % stride == 0 else 0 for stride in self.strides]
        fits = [place - len(sizes) for place, size in enumerate(sizes) if size * upscale == output_res]
        return fits[-1] if fits else None


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
    backbone = _build_backbone(net, pretrained)
    neck, maps = _build_neck(net, backbone)
    bins, with_selfocc = _bins(net), has_selfocc_head(net)
    decoder = PoseDecoder(net.PNP_NET.ROT_TYPE, net.PNP_NET.TRANS_TYPE, net.PNP_NET.Z_TYPE)
    return GDRN(
        backbone=backbone,
        geo_head_net=_build_geo_head(net, maps, bins),
        selfocc_head_net=_build_selfocc_head(net, maps, bins) if with_selfocc else None,
        pnp_net=_build_pnp_net(net, decoder.rot_dim, bins, with_selfocc),
        decoder=decoder,
        pnp_input=build_pnp_input(net),
        neck=neck,
        level=_head_level(net, maps),
        frozen=_frozen(net, backbone, with_selfocc),
    )


def build_pnp_input(net: Any) -> PnPInput:
    """What MODEL.POSE_NET says of the maps that the pose is regressed from."""
    bins = _bins(net)
    return PnPInput(
        mask_type=net.LOSS_CFG.MASK_LOSS_TYPE,
        coord_2d=net.PNP_NET.WITH_2D_COORD,
        region=net.PNP_NET.REGION_ATTENTION,
        bins=bins,
        metric_P=net.PNP_NET.INIT_CFG.get("denormalize_by_extent", True) and not (bins or has_selfocc_head(net)),
    )


def _bins(net: Any) -> int:
    """Of each coordinate; 0 where it is regressed."""
    return net.GEO_HEAD.XYZ_BIN if net.LOSS_CFG.XYZ_LOSS_TYPE == "CE_coor" else 0


def build_parameter_groups(model: GDRN, cfg: Any) -> list[dict[str, Any]]:
    """Groups for an optimizer: each part's learning parameters at OPTIMIZER_CFG.lr times its LR_MULT.

    Biases are groups of their own where SOLVER.BIAS_LR_FACTOR, which multiplies their rate, isn't 1.
    """
    factor = cfg.SOLVER.get("BIAS_LR_FACTOR", 1.0)
    groups = []
    for key, name in PARTS.items():
        part = getattr(model, name)
        learning = [] if part is None else [(n, p) for n, p in part.named_parameters() if p.requires_grad]
        rate = cfg.SOLVER.OPTIMIZER_CFG.lr * cfg.MODEL.POSE_NET.get(key, {}).get("LR_MULT", 1.0)
        biases = [p for n, p in learning if factor != 1.0 and n.endswith("bias")]
        weights = [p for n, p in learning if factor == 1.0 or not n.endswith("bias")]
        groups += [{"params": weights, "lr": rate, "name": name}] if weights else []
        groups += [{"params": biases, "lr": rate * factor, "name": f"{name} biases"}] if biases else []
    if not groups:
        raise UserError("every part has FREEZE=True, nothing is left to learn; unfreeze one")
    return groups


def has_selfocc_head(net: Any) -> bool:
    """Whether MODEL.POSE_NET asks for the second layer; without it the network is GDR-Net."""
    return "SELFOCC_HEAD" in net and net.SELFOCC_HEAD.get("ENABLED", True)


def _frozen(net: Any, backbone: nn.Module, with_selfocc: bool) -> list[str]:
    """Submodules that do not learn: whole parts by FREEZE, the backbone's first stages by FREEZE_AT."""
    present = {**PARTS}
    if not with_selfocc:
        del present["SELFOCC_HEAD"]
    if not net.get("NECK", {}).get("ENABLED", False):
        del present["NECK"]
    stages = leading_modules(backbone, net.BACKBONE.get("FREEZE_AT", 0))
    if net.BACKBONE.get("FREEZE_DEPTHWISE", False):
        stages = [*stages, *depthwise_modules(backbone)]
    whole = [name for key, name in present.items() if net[key].get("FREEZE")]
    return whole + [f"{PARTS['BACKBONE']}.{name}" for name in stages]


def _check_supported(net: Any) -> None:
    """UserError for options of the ancestors that this network does not have."""
    for key, value, known in (
        ("NAME", net.NAME, ("GDRN",)),
        ("GEO_HEAD.INIT_CFG.type", net.GEO_HEAD.INIT_CFG.type, ("TopDownMaskXyzRegionHead",)),
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


def _build_backbone(net: Any, pretrained: bool) -> nn.Module:
    options = net.BACKBONE.INIT_CFG
    source = net.BACKBONE.PRETRAINED if pretrained else ""
    if source in OWN_WEIGHTS and not options.get("pretrained", True):
        source = ""
    return make_backbone(
        options.type,
        options.get("out_indices", (4,)),
        in_chans=options.get("in_chans", 3),
        pretrained=source,
        image_size=net.INPUT_RES,
    )


def _build_neck(net: Any, backbone: nn.Module) -> tuple[nn.Module | None, FeatureMaps]:
    """The feature pyramid, where there is one, and the maps that the heads can choose from."""
    channels, strides = backbone_channels(backbone), backbone_strides(backbone)
    part = net.get("NECK", {})
    if not part.get("ENABLED", False):
        return None, FeatureMaps(channels[-1:], strides[-1:])
    options = part.INIT_CFG
    if options.type != "FPN":
        raise UserError(f"MODEL.POSE_NET.NECK.INIT_CFG.type is '{options.type}'; known: FPN")
    if list(options.in_channels) != channels or options.num_outs != len(channels):
        raise UserError(
            f"MODEL.POSE_NET.NECK.INIT_CFG has in_channels={list(options.in_channels)}, num_outs={options.num_outs}, "
            f"the backbone {net.BACKBONE.INIT_CFG.type} gives {len(channels)} maps of {channels} channels (its "
            f"out_indices choose them); set both to that"
        )
    return FeaturePyramid(channels, options.out_channels), FeatureMaps([options.out_channels] * len(channels), strides)


def _trunk_config(net: Any, key: str, maps: FeatureMaps) -> TrunkConfig:
    """A head's trunk, checked against the channels of the map it sees and the resolutions."""
    options = net[key].INIT_CFG
    values = {field.name: options[field.name] for field in fields(TrunkConfig) if field.name in options}
    trunk = TrunkConfig(**{**values, "up_types": tuple(values.get("up_types", TrunkConfig.up_types))})
    level = maps.level(trunk.upscale, net.INPUT_RES, net.OUTPUT_RES)
    if level is None:
        raise UserError(
            f"INPUT_RES {net.INPUT_RES} / stride {' or '.join(map(str, maps.strides))} x {trunk.upscale} (up_types of "
            f"{key}) is not OUTPUT_RES {net.OUTPUT_RES}; change one of them or BACKBONE.INIT_CFG.out_indices"
        )
    if trunk.in_dim != maps.channels[level]:
        raise UserError(
            f"MODEL.POSE_NET.{key}.INIT_CFG.in_dim is {trunk.in_dim} but the backbone {net.BACKBONE.INIT_CFG.type} "
            f"(or the neck behind it) gives {maps.channels[level]} channels; set in_dim={maps.channels[level]}"
        )
    return trunk


def _head_level(net: Any, maps: FeatureMaps) -> int:
    """The map that both heads see. `UserError` where they would see two."""
    keys = ("GEO_HEAD", "SELFOCC_HEAD") if has_selfocc_head(net) else ("GEO_HEAD",)
    levels = {maps.level(_trunk_config(net, key, maps).upscale, net.INPUT_RES, net.OUTPUT_RES) for key in keys}
    if len(levels) > 1:
        raise UserError(f"up_types of {' and '.join(keys)} ask for maps of two sizes; give both as many")
    return levels.pop()


def _build_geo_head(net: Any, maps: FeatureMaps, bins: int) -> TopDownMaskXyzRegionHead:
    head, options = net.GEO_HEAD, net.GEO_HEAD.INIT_CFG
    regions = head.NUM_REGIONS + 1 if head.NUM_REGIONS > 1 else 0
    return TopDownMaskXyzRegionHead(
        _trunk_config(net, "GEO_HEAD", maps),
        mask=MapSpec(2 if net.LOSS_CFG.MASK_LOSS_TYPE == "CE" else 1, _classes(net, head.MASK_CLASS_AWARE)),
        xyz=MapSpec(3 * (bins + 1) if bins else 3, _classes(net, head.XYZ_CLASS_AWARE), groups=3),
        region=MapSpec(regions, _classes(net, head.REGION_CLASS_AWARE)),
        out_kernel_size=options.get("out_kernel_size", 1),
        out_layer_shared=options.get("out_layer_shared", True),
    )


def _build_selfocc_head(net: Any, maps: FeatureMaps, bins: int) -> ConvSelfoccHead:
    head, options = net.SELFOCC_HEAD, net.SELFOCC_HEAD.INIT_CFG
    if options.type != "ConvSelfoccHead":
        raise UserError(f"MODEL.POSE_NET.SELFOCC_HEAD.INIT_CFG.type is '{options.type}'; known: ConvSelfoccHead")
    with_mask, mask_class_aware = head.get("OCCMASK_AWARE", False), head.get("MASK_CLASS_AWARE", False)
    if mask_class_aware and not with_mask:
        raise UserError(
            "MODEL.POSE_NET.SELFOCC_HEAD.MASK_CLASS_AWARE is True but OCCMASK_AWARE is False, so there is no mask; "
            "change one"
        )
    return ConvSelfoccHead(
        _trunk_config(net, "SELFOCC_HEAD", maps),
        q=MapSpec(6 * (bins + 1) if bins else 6, _classes(net, head.get("Q0_CLASS_AWARE", False)), groups=6),
        q_mask=MapSpec(3 if with_mask else 0, _classes(net, mask_class_aware), groups=3),
        out_kernel_size=options.get("out_kernel_size", 1),
        out_layer_shared=options.get("out_layer_shared", False),
    )


def _build_pnp_net(net: Any, rot_dim: int, bins: int, with_selfocc: bool) -> PnPNet:
    part, options = net.PNP_NET, net.PNP_NET.INIT_CFG
    coordinates = 9 if with_selfocc else 3
    in_dim = (
        coordinates * max(bins, 1)
        + (2 if part.WITH_2D_COORD else 0)
        + (net.GEO_HEAD.NUM_REGIONS if part.REGION_ATTENTION else 0)
    )
    values = {field.name: options[field.name] for field in fields(PnPConfig) if field.name in options}
    given = {"in_dim": in_dim, "map_size": net.OUTPUT_RES, "rot_dim": rot_dim, "mask_attention": part.MASK_ATTENTION}
    return PNP_NETS[options.type](PnPConfig(**{**values, **given}))


def _classes(net: Any, class_aware: bool) -> int:
    return net.NUM_CLASSES if class_aware else 1
