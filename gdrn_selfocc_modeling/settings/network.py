"""The settings of MODEL as types: the network, its weights and its losses; see `sopose.settings.groups`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sopose.core.config.typed import AtLeast, AtMost

# Settings come from checkpoints of anyone as well: what is built of them is bounded before it takes memory or time.
Width = Annotated[int, AtLeast(0), AtMost(2**16)]  # channels, classes, bins, regions
Side = Annotated[int, AtLeast(1), AtMost(2**12)]  # pixels of a square map
Few = Annotated[int, AtLeast(0), AtMost(64)]  # layers in a row, sides of kernels


@dataclass(frozen=True)
class EmaArguments:
    """MODEL.EMA.INIT_CFG."""

    decay: float


@dataclass(frozen=True)
class EmaSettings:
    """MODEL.EMA: moving average of the weights."""

    enabled: bool
    init_cfg: EmaArguments


@dataclass(frozen=True)
class PartSettings:
    """What every part of the network has: whether and how fast it learns."""

    freeze: bool
    lr_mult: float


@dataclass(frozen=True)
class BackboneArguments:
    """BACKBONE.INIT_CFG."""

    type: str
    in_chans: Width
    pretrained: bool
    out_indices: tuple[int, ...]


@dataclass(frozen=True)
class BackboneSettings(PartSettings):
    """BACKBONE: features of the crop."""

    freeze_at: int
    freeze_depthwise: bool
    pretrained: str
    init_cfg: BackboneArguments


@dataclass(frozen=True)
class NeckArguments:
    """NECK.INIT_CFG."""

    type: str
    in_channels: tuple[int, ...]
    out_channels: Width
    num_outs: Few
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class NeckSettings(PartSettings):
    """NECK: feature pyramid between backbone and heads."""

    enabled: bool
    init_cfg: NeckArguments


@dataclass(frozen=True)
class HeadArguments:
    """INIT_CFG of GEO_HEAD and SELFOCC_HEAD."""

    type: str
    in_dim: Width
    up_types: tuple[str, ...]
    deconv_kernel_size: Few
    num_conv_per_block: Few
    feat_dim: Width
    feat_kernel_size: Few
    norm: str
    num_gn_groups: Width
    act: str
    out_kernel_size: Few
    out_layer_shared: bool


@dataclass(frozen=True)
class GeoHeadSettings(PartSettings):
    """GEO_HEAD: mask, P and regions."""

    init_cfg: HeadArguments
    xyz_bin: Width
    xyz_class_aware: bool
    mask_class_aware: bool
    region_class_aware: bool
    xyz_scale: bool
    mask_thr_test: float
    num_regions: Width


@dataclass(frozen=True)
class SelfoccHeadSettings(PartSettings):
    """SELFOCC_HEAD: the second layer, Q."""

    enabled: bool
    occmask_aware: bool
    q0_class_aware: bool
    q0_scale: bool
    mask_class_aware: bool
    mask_thr_test: float
    min_q0_region: int
    init_cfg: HeadArguments


@dataclass(frozen=True)
class PnPNetArguments:
    """PNP_NET.INIT_CFG."""

    type: str
    featdim: Width
    norm: str
    act: str
    num_gn_groups: Width
    drop_prob: float
    dropblock_size: int
    flat_op: str
    denormalize_by_extent: bool
    linear_init: str


@dataclass(frozen=True)
class PnPNetSettings(PartSettings):
    """PNP_NET: from the maps to the pose."""

    init_cfg: PnPNetArguments
    with_2d_coord: bool
    region_attention: bool
    mask_attention: str
    rot_type: str
    trans_type: str
    z_type: str


@dataclass(frozen=True)
class LossSettings:
    """LOSS_CFG: losses and their weights (`*_lw`)."""

    xyz_loss_type: str
    xyz_loss_mask_gt: str
    xyz_lw: float
    mask_loss_type: str
    mask_loss_gt: str
    mask_lw: float
    region_loss_type: str
    region_loss_mask_gt: str
    region_lw: float
    num_pm_points: Annotated[int, AtLeast(1), AtMost(1_000_000)]
    pm_loss_type: str
    pm_smooth_l1_beta: float
    pm_loss_sym: bool
    pm_norm_by_extent: bool
    pm_r_only: bool
    pm_disentangle_t: bool
    pm_disentangle_z: bool
    pm_t_use_points: bool
    pm_lw: float
    rot_loss_type: str
    rot_lw: float
    centroid_loss_type: str
    centroid_lw: float
    z_loss_type: str
    z_lw: float
    trans_loss_type: str
    trans_loss_disentangle: bool
    trans_lw: float
    bind_loss_type: str
    bind_lw: float
    q0_loss_type: str
    q0_lw: float
    q0_def_lw: float
    ct_lw: float
    ct_p_lw: float
    occ_lw: float
    handle_sym: bool
    canonical_sym: bool
    fit_lw: Annotated[float, AtLeast(0.0)]
    plugins: tuple[str, ...]
    focal_norm: str


@dataclass(frozen=True)
class PoseNetSettings:
    """MODEL.POSE_NET: the network from a crop to a pose."""

    name: str
    num_classes: Annotated[int, AtLeast(1), AtMost(10_000)]
    use_mtl: bool
    input_res: Side
    output_res: Side
    backbone: BackboneSettings
    neck: NeckSettings
    geo_head: GeoHeadSettings
    selfocc_head: SelfoccHeadSettings
    pnp_net: PnPNetSettings
    loss_cfg: LossSettings

    @property
    def class_aware(self) -> bool:
        """Whether there is an output for each class, so that number and order of the classes count."""
        heads = [self.geo_head, *([self.selfocc_head] if self.selfocc_head.enabled else [])]
        return any(value for head in heads for key, value in vars(head).items() if key.endswith("_class_aware"))


@dataclass(frozen=True)
class StartSettings:
    """MODEL.REFINE.START: how wrong the poses are that looks are trained on."""

    rotation: Annotated[float, AtLeast(0)]
    depth: Annotated[float, AtLeast(0)]
    across: Annotated[float, AtLeast(0)]
    factors: tuple[float, ...]


@dataclass(frozen=True)
class RefineSettings:
    """MODEL.REFINE: the network of the second look, which sopose refiner trains."""

    backbone: str
    out_indices: tuple[int, ...]
    pretrained: str
    channels: Width
    input_res: Side
    output_res: Side
    pad_scale: Annotated[float, AtLeast(1.0)]
    pose_lw: Annotated[float, AtLeast(0.0)]
    caution: Annotated[float, AtLeast(0.01)]
    start: StartSettings


@dataclass(frozen=True)
class ModelSettings:
    """MODEL: the network, its weights and its losses."""

    device: str
    compile: bool
    sync_bn: bool
    weights: str
    start: str
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    ema: EmaSettings
    pose_net: PoseNetSettings
    refine: RefineSettings
