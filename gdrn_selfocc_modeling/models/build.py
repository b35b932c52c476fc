"""From settings to network: the one place of `models` that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sopose.core.engine.checkpoint import FITTING, compare_weights, load_weights, require_fitting_weights
from sopose.core.utils.errors import UserError
from sopose.models.backbone import (
    OWN_WEIGHTS,
    backbone_channels,
    backbone_strides,
    depthwise_modules,
    leading_modules,
    make_backbone,
)
from sopose.models.gdrn import GDRN
from sopose.models.geo_head import GEO_HEADS
from sopose.models.layers.blocks import MapSpec, TrunkConfig
from sopose.models.map_forms import build_pnp_input, coordinate_bins
from sopose.models.neck import FeaturePyramid, TopDownPath
from sopose.models.pnp_net import PNP_NETS, PnPConfig, PnPNet
from sopose.models.pose_decoder import PoseDecoder
from sopose.models.selfocc_head import SELFOCC_HEADS
from sopose.settings.network import HeadArguments, PartSettings, PoseNetSettings

# settings' name of a part -> its name in the network
PARTS = {
    "backbone": "backbone",
    "neck": "neck",
    "geo_head": "geo_head_net",
    "selfocc_head": "selfocc_head_net",
    "pnp_net": "pnp_net",
}

NECKS = ("FPN", "TopDown")


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


def build_model(net: PoseNetSettings, pretrained: bool = True) -> GDRN:
    """The network of MODEL.POSE_NET, on the CPU, in training mode.

    `pretrained=False` leaves BACKBONE.PRETRAINED aside; for callers that load a checkpoint next. Raises `UserError` for
    an option that does not exist or does not fit, naming key, value and choices.
    """
    _check_supported(net)
    backbone = _build_backbone(net, pretrained)
    neck, maps = _build_neck(net, backbone)
    bins = coordinate_bins(net)
    decoder = PoseDecoder(net.pnp_net.rot_type, net.pnp_net.trans_type, net.pnp_net.z_type)
    return GDRN(
        backbone=backbone,
        geo_head_net=_build_geo_head(net, maps, bins),
        selfocc_head_net=_build_selfocc_head(net, maps, bins) if net.selfocc_head.enabled else None,
        pnp_net=_build_pnp_net(net, decoder.rot_dim, bins),
        decoder=decoder,
        pnp_input=build_pnp_input(net),
        neck=neck,
        level=_head_level(net, maps),
        frozen=_frozen(net, backbone),
    )


def knows_backbone(net: PoseNetSettings, weights: Mapping[str, Tensor], path: Path) -> bool:
    """Whether `weights` of the file `path` have all of the backbone. `UserError` where nothing of them fits."""
    with torch.device("meta"):
        sketch = build_model(net, pretrained=False)
    report = compare_weights(sketch, weights, path)
    return not any(name.startswith("backbone.") for name in (*report.missing, *report.reshaped))


def restore_model(net: PoseNetSettings, weights: Mapping[str, Tensor], path: Path) -> GDRN:
    """The network of MODEL.POSE_NET with `weights` of the file `path`, on the CPU, in training mode.

    Shapes are compared before the network takes memory: settings of a file may ask for any sizes. Raises `UserError`
    as `build_model` and `load_weights`.
    """
    try:
        with torch.device("meta"):
            sketch = build_model(net, pretrained=False)
    except (RuntimeError, OverflowError, ValueError) as error:  # sizes that no tensor has
        raise UserError(
            f"{path} cannot be of this network ({' '.join(str(error).split())[:100]}); {FITTING}"
        ) from error
    require_fitting_weights(sketch, weights, path)
    model = build_model(net, pretrained=False)
    load_weights(model, weights, path)
    return model


def build_parameter_groups(
    model: GDRN, net: PoseNetSettings, lr: float, bias_lr_factor: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for an optimizer: each part's learning parameters at `lr` times its LR_MULT.

    Biases are groups of their own where `bias_lr_factor`, which multiplies their rate, isn't 1.
    """
    groups = []
    for key, name in PARTS.items():
        part = getattr(model, name)
        learning = [] if part is None else [(n, p) for n, p in part.named_parameters() if p.requires_grad]
        rate = lr * _part(net, key).lr_mult
        biases = [p for n, p in learning if bias_lr_factor != 1.0 and n.endswith("bias")]
        weights = [p for n, p in learning if bias_lr_factor == 1.0 or not n.endswith("bias")]
        groups += [{"params": weights, "lr": rate, "name": name}] if weights else []
        groups += [{"params": biases, "lr": rate * bias_lr_factor, "name": f"{name} biases"}] if biases else []
    if not groups:
        raise UserError("every part has FREEZE=True, nothing is left to learn; unfreeze one")
    return groups


def _part(net: PoseNetSettings, key: str) -> PartSettings:
    return getattr(net, key)


def _frozen(net: PoseNetSettings, backbone: nn.Module) -> list[str]:
    """Submodules that do not learn: whole parts by FREEZE, the backbone's first stages by FREEZE_AT."""
    absent = {"selfocc_head": not net.selfocc_head.enabled, "neck": not net.neck.enabled}
    stages = leading_modules(backbone, net.backbone.freeze_at)
    if net.backbone.freeze_depthwise:
        stages = [*stages, *depthwise_modules(backbone)]
    whole = [name for key, name in PARTS.items() if _part(net, key).freeze and not absent.get(key)]
    return whole + [f"{PARTS['backbone']}.{name}" for name in stages]


def _check_supported(net: PoseNetSettings) -> None:
    """UserError for options of the ancestors that this network does not have."""
    for key, value, known in (
        ("NAME", net.name, ("GDRN",)),
        ("LOSS_CFG.XYZ_LOSS_TYPE", net.loss_cfg.xyz_loss_type, ("L1", "CE_coor")),
        ("LOSS_CFG.MASK_LOSS_TYPE", net.loss_cfg.mask_loss_type, ("L1", "BCE", "CE")),
    ):
        if value not in known:
            choices = ", ".join(map(str, known))
            raise UserError(f"MODEL.POSE_NET.{key} is '{value}'; this version supports: {choices}")
    if net.pnp_net.region_attention and net.geo_head.num_regions <= 1:
        raise UserError(
            f"MODEL.POSE_NET.PNP_NET.REGION_ATTENTION is True but GEO_HEAD.NUM_REGIONS is "
            f"{net.geo_head.num_regions}; set one of them otherwise"
        )


def _build_backbone(net: PoseNetSettings, pretrained: bool) -> nn.Module:
    options = net.backbone.init_cfg
    source = net.backbone.pretrained if pretrained else ""
    if source in OWN_WEIGHTS and not options.pretrained:
        source = ""
    return make_backbone(
        options.type,
        options.out_indices,
        in_chans=options.in_chans,
        pretrained=source,
        image_size=net.input_res,
    )


def _build_neck(net: PoseNetSettings, backbone: nn.Module) -> tuple[nn.Module | None, FeatureMaps]:
    """The feature pyramid, where there is one, and the maps that the heads can choose from."""
    channels, strides = backbone_channels(backbone), backbone_strides(backbone)
    if not net.neck.enabled:
        return None, FeatureMaps(channels[-1:], strides[-1:])
    options = net.neck.init_cfg
    if options.type not in NECKS:
        raise UserError(f"MODEL.POSE_NET.NECK.INIT_CFG.type is '{options.type}'; known: {', '.join(NECKS)}")
    outs = 1 if options.type == "TopDown" else len(channels)
    if list(options.in_channels) != channels or options.num_outs != outs:
        raise UserError(
            f"MODEL.POSE_NET.NECK.INIT_CFG has in_channels={list(options.in_channels)}, num_outs={options.num_outs}, "
            f"the backbone {net.backbone.init_cfg.type} gives {len(channels)} maps of {channels} channels (its "
            f"out_indices choose them), of which {options.type} makes {outs}; set both to that"
        )
    maps = FeatureMaps([options.out_channels] * outs, strides[:outs])
    if options.type == "TopDown":
        return TopDownPath(channels, options.out_channels, options.blocks), maps
    if options.blocks:
        raise UserError(
            f"MODEL.POSE_NET.NECK.INIT_CFG.blocks is {options.blocks} but {options.type} has none; set blocks=() or "
            f"type='TopDown'"
        )
    return FeaturePyramid(channels, options.out_channels), maps


def _heads(net: PoseNetSettings) -> dict[str, HeadArguments]:
    """The arguments of the heads that the network has."""
    second = {"SELFOCC_HEAD": net.selfocc_head.init_cfg} if net.selfocc_head.enabled else {}
    return {"GEO_HEAD": net.geo_head.init_cfg, **second}


def _trunk_config(net: PoseNetSettings, key: str, maps: FeatureMaps) -> TrunkConfig:
    """A head's trunk, checked against the channels of the map it sees and the resolutions."""
    options = _heads(net)[key]
    trunk = TrunkConfig(**{field.name: getattr(options, field.name) for field in fields(TrunkConfig)})
    level = maps.level(trunk.upscale, net.input_res, net.output_res)
    if level is None:
        raise UserError(
            f"INPUT_RES {net.input_res} / stride {' or '.join(map(str, maps.strides))} x {trunk.upscale} (up_types of "
            f"{key}) is not OUTPUT_RES {net.output_res}; change one of them or BACKBONE.INIT_CFG.out_indices"
        )
    if trunk.in_dim != maps.channels[level]:
        raise UserError(
            f"MODEL.POSE_NET.{key}.INIT_CFG.in_dim is {trunk.in_dim} but the backbone {net.backbone.init_cfg.type} "
            f"(or the neck behind it) gives {maps.channels[level]} channels; set in_dim={maps.channels[level]}"
        )
    return trunk


def _head_level(net: PoseNetSettings, maps: FeatureMaps) -> int:
    """The map that both heads see. `UserError` where they would see two."""
    keys = list(_heads(net))
    levels = {maps.level(_trunk_config(net, key, maps).upscale, net.input_res, net.output_res) for key in keys}
    if len(levels) > 1:
        raise UserError(f"up_types of {' and '.join(keys)} ask for maps of two sizes; give both as many")
    return levels.pop()


def _build_geo_head(net: PoseNetSettings, maps: FeatureMaps, bins: int) -> nn.Module:
    head, options = net.geo_head, net.geo_head.init_cfg
    regions = head.num_regions + 1 if head.num_regions > 1 else 0
    return GEO_HEADS[options.type](
        _trunk_config(net, "GEO_HEAD", maps),
        mask=MapSpec(2 if net.loss_cfg.mask_loss_type == "CE" else 1, _classes(net, head.mask_class_aware)),
        xyz=MapSpec(3 * (bins + 1) if bins else 3, _classes(net, head.xyz_class_aware), groups=3),
        region=MapSpec(regions, _classes(net, head.region_class_aware)),
        scale=MapSpec(1 if head.xyz_scale else 0, _classes(net, head.xyz_class_aware)),
        out_kernel_size=options.out_kernel_size,
        out_layer_shared=options.out_layer_shared,
    )


def _build_selfocc_head(net: PoseNetSettings, maps: FeatureMaps, bins: int) -> nn.Module:
    head, options = net.selfocc_head, net.selfocc_head.init_cfg
    if head.mask_class_aware and not head.occmask_aware:
        raise UserError(
            "MODEL.POSE_NET.SELFOCC_HEAD.MASK_CLASS_AWARE is True but OCCMASK_AWARE is False, so there is no mask; "
            "change one"
        )
    return SELFOCC_HEADS[options.type](
        _trunk_config(net, "SELFOCC_HEAD", maps),
        q=MapSpec(6 * (bins + 1) if bins else 6, _classes(net, head.q0_class_aware), groups=6),
        q_mask=MapSpec(3 if head.occmask_aware else 0, _classes(net, head.mask_class_aware), groups=3),
        scale=MapSpec(3 if head.q0_scale else 0, _classes(net, head.q0_class_aware), groups=3),
        out_kernel_size=options.out_kernel_size,
        out_layer_shared=options.out_layer_shared,
    )


def _build_pnp_net(net: PoseNetSettings, rot_dim: int, bins: int) -> PnPNet:
    part, options = net.pnp_net, net.pnp_net.init_cfg
    coordinates = 9 if net.selfocc_head.enabled else 3
    in_dim = (
        coordinates * max(bins, 1)
        + (2 if part.with_2d_coord else 0)
        + (net.geo_head.num_regions if part.region_attention else 0)
    )
    values = {name: value for name, value in vars(options).items() if name not in ("type", "denormalize_by_extent")}
    given = {"in_dim": in_dim, "map_size": net.output_res, "rot_dim": rot_dim, "mask_attention": part.mask_attention}
    return PNP_NETS[options.type](PnPConfig(**{**values, **given}))


def _classes(net: PoseNetSettings, class_aware: bool) -> int:
    return net.num_classes if class_aware else 1
