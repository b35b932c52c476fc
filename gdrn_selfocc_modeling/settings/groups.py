"""The settings of the method as types: a frozen dataclass for each group of a configuration, a field for each key.

Fields are keys in lower case. What each means and its default stand in configs/_base_, and nowhere else; keys that
are accepted without effect have no field. Those of MODEL are in `sopose.settings.network`. `Settings` is for what
assembles a run or an evaluation; everything else takes the group it needs, or values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from sopose.core.config.typed import AtLeast, AtMost, AtMostEntries, NotNegative, Positive
from sopose.settings.network import ModelSettings

Range = tuple[float, float]


@dataclass(frozen=True)
class InputSettings:
    """INPUT: what the network sees, and how training images are changed."""

    format: str
    color_aug_prob: float
    color_aug_type: str
    color_aug_code: str
    color_aug_syn_only: bool
    bg_imgs_root: str
    bg_left_out: tuple[str, ...]
    num_bg_imgs: int
    change_bg_prob: float
    bg_keep_aspect_ratio: bool
    truncate_fg: bool
    dzi_type: str
    dzi_pad_scale: Annotated[float, AtLeast(0.1)]
    dzi_scale_ratio: float
    dzi_shift_ratio: float
    xyz_source: str


@dataclass(frozen=True)
class DatasetSettings:
    """DATASETS: data sets, their objects, and the boxes to test in."""

    root: str
    objs: tuple[str, ...]
    train: tuple[str, ...]
    train2: tuple[str, ...]
    train2_ratio: float
    test: tuple[str, ...]
    det_files_test: tuple[str, ...]
    det_topk_per_obj: Positive
    det_topk_per_im: Positive
    train_on_test_images: bool
    det_thr: float
    sym_objs: tuple[str, ...]
    init_pose_files_test: tuple[str, ...]
    init_pose_topk_per_obj: Positive
    init_pose_topk_per_im: Positive
    init_pose_thr: float


@dataclass(frozen=True)
class CadSettings:
    """CAD: what samples rendered from the models are drawn from. Lengths in metres, angles in degrees."""

    epoch_length: int
    reuse: Positive
    pool: Positive
    device: str
    k: tuple[float, ...]
    image_size: tuple[float, ...]
    z_range: Range
    center_range: Range
    rotations: str
    elevation: Range
    tilt: float
    poses_from: str
    max_occluders: NotNegative
    occluder_spacing: Range
    standing_prob: float
    gap: Range
    ground_prob: float
    ground_tile: Range
    ground_photo_prob: float
    min_visib: float
    truncate_prob: float
    hide_prob: float
    lamps: tuple[int, int]
    lamp_size: Range
    lamp_tint: float
    ambient: Range
    ambient_slope: float
    shadows: bool
    ambient_occlusion: bool
    shadow_stride: int
    shadow_rays: int
    sky_stride: int
    sky_rays: int
    specular: Range
    roughness: Range
    hue: float
    saturation: float
    brightness: float
    stains: float
    blur: Range
    gain: float
    tint: float
    gamma: float
    noise: Range
    sharpen: Range
    jpeg_prob: float


@dataclass(frozen=True)
class LoaderSettings:
    """DATALOADER: how samples are read."""

    num_workers: Annotated[int, AtLeast(-1)]
    filter_visib_thr: float


@dataclass(frozen=True)
class AmpSettings:
    """SOLVER.AMP: mixed precision in training."""

    enabled: bool
    dtype: str


@dataclass(frozen=True)
class SolverSettings:
    """SOLVER: optimizer, learning rate, length, checkpoints."""

    ims_per_batch: Positive
    reference_bs: int
    total_epochs: Positive
    optimizer_cfg: Mapping[str, Any]  # type, lr and the arguments of that type
    gamma: float
    bias_lr_factor: float
    lr_scheduler_name: str
    warmup_method: str
    warmup_factor: float
    warmup_iters: NotNegative
    anneal_method: str
    anneal_point: float
    poly_power: float
    rel_steps: tuple[float, ...]
    clip_gradients: Annotated[float, AtLeast(0)]
    checkpoint_period: NotNegative
    checkpoint_by_epoch: bool
    max_to_keep: Positive
    best_metric: str
    amp: AmpSettings


@dataclass(frozen=True)
class TrainSettings:
    """TRAIN: what the training loop prints, and when losses join."""

    print_freq: NotNegative
    max_skipped: Positive
    ct_start: float
    ct_p_start: float


@dataclass(frozen=True)
class ValSettings:
    """VAL: what is to be found in the test images, and the report."""

    targets_filename: str
    report_cases: NotNegative


@dataclass(frozen=True)
class TestRefineSettings:
    """TEST.REFINE: second looks at what the pose network answered."""

    iterations: Annotated[int, AtLeast(0), AtMost(64)]
    starts: Annotated[int, AtLeast(1), AtMost(64)]
    prior_scale: Annotated[float, AtLeast(0.01), AtMost(100)]
    image_error: Annotated[float, AtLeast(0), AtMost(100)]
    confidence_at_threshold: Annotated[float, AtLeast(0), AtMost(1)]
    weights: str


@dataclass(frozen=True)
class EvalSettings:
    """TEST: evaluation."""

    eval_period: NotNegative
    test_bbox_type: str
    bbox_jitter: Annotated[float, AtLeast(0)]
    ims_per_batch: Positive
    amp_test: bool
    use_pnp: bool
    pnp_type: str
    pnp_layers: str
    pnp_reproj_error: Annotated[float, AtLeast(0.01)]
    pnp_iterations: Annotated[int, AtLeast(1), AtMost(100_000)]
    pnp_confidence: float
    rolls: Annotated[tuple[float, ...], AtLeast(-180), AtMost(180), AtMostEntries(24)]
    depth: bool
    refine: TestRefineSettings


@dataclass(frozen=True)
class Settings:
    """All of a configuration."""

    output_dir: str
    exp_name: str
    seed: int
    cpu_threads: NotNegative
    cudnn_benchmark: bool
    vis_period: NotNegative
    input: InputSettings
    datasets: DatasetSettings
    cad: CadSettings
    dataloader: LoaderSettings
    solver: SolverSettings
    train: TrainSettings
    val: ValSettings
    test: EvalSettings
    model: ModelSettings
