"""Weights of a network that knows some objects, as the start of one that learns others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sopose.models.gdrn import GDRN
from sopose.models.layers.blocks import ConvBlock, MapSpec, ResidualBlock

BEHIND_BACKBONE = ("neck", "geo_head_net", "selfocc_head_net", "pnp_net")
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm)
IN_ORDER = (nn.Sequential, ConvBlock, ResidualBlock)  # their children stand in the order in which they act
FRESH_FILTER = 1 / 3  # squared length of a filter as PyTorch starts it: uniform, of variance 1 / (3 * its weights)


def start_weights(
    model: GDRN, weights: Mapping[str, Tensor], known: Sequence[str], names: Sequence[str]
) -> dict[str, Tensor]:
    """`weights` of a network that knows the objects `known`, for `model` that learns the objects `names`.

    Both are in the order of their classes. Outputs that are class-aware in the weights start as those of the object of
    the same name, where that is known, else as the mean of all. Where none is known, filters in front of a norm that
    are longer than PyTorch starts them become as long. That changes nothing of what the network gives, but they have
    grown to several times that length, and steps of the same size turn them as much less.
    """
    started = dict(weights)
    for part in BEHIND_BACKBONE:
        # Heads of other packages may say nothing of their outputs, and these are learned anew.
        for layer, specs in getattr(getattr(model, part), "output_specs", {}).items():
            for kind in ("weight", "bias"):
                name = f"{part}.{layer}.{kind}"
                if name in started:
                    started[name] = _rows_of_objects(started[name], specs, known, names)
    if known and not set(known) & set(names):
        for convolution, norms in _normed_convolutions(model):
            _shorten(started, convolution, norms)
    return started


def _rows_of_objects(rows: Tensor, specs: Sequence[MapSpec], known: Sequence[str], names: Sequence[str]) -> Tensor:
    """Rows of an output layer that has all of its maps for each of `known`, as the layer of `specs` starts.

    rows: (channels, C, k, k), or (channels,) of the biases. Those of another number of channels are given back: some
    maps are class-aware there and some aren't, or none is.
    """
    if len(rows) != len(known) * sum(spec.channels for spec in specs):
        return rows
    parts = []
    for spec, part in zip(specs, rows.split([spec.channels * len(known) for spec in specs]), strict=True):
        by_class = part.view(spec.groups, len(known), -1, *part.shape[1:])
        objects_of_class = [names] if spec.num_classes == 1 else [[name] for name in names]
        objects_of_class += [[]] * (spec.num_classes - len(objects_of_class))
        means = []
        for objects in objects_of_class:
            same = [known.index(name) for name in objects if name in known]
            means.append(by_class[:, same or [*range(len(known))]].mean(1))
        parts.append(torch.stack(means, 1).flatten(0, 2))
    return torch.cat(parts)


def _normed_convolutions(model: GDRN) -> Iterator[tuple[str, list[str]]]:
    """Names of the convolutions behind the backbone that a norm follows, each with all names of that norm."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):  # a norm of `ConvBlock` has two
        names.setdefault(module, []).append(name)
    for module, (place, *_) in names.items():
        if place.partition(".")[0] in BEHIND_BACKBONE and isinstance(module, IN_ORDER):
            for one, other in pairwise(module.children()):
                if isinstance(one, CONVOLUTIONS) and isinstance(other, NORMS):
                    yield names[one][0], names[other]


def _shorten(weights: dict[str, Tensor], convolution: str, norms: Sequence[str]) -> None:
    """Bring a convolution's filters to the length of fresh ones where they are longer; its norm gives the same.

    The norm divides by what it sees; what it remembers of that is scaled as well. `norms` are its names.
    """
    filters = weights.get(f"{convolution}.weight")
    if filters is None:
        return
    wanted, length = (FRESH_FILTER * len(filters)) ** 0.5, filters.float().norm().item()
    if length <= wanted:
        return
    share = wanted / length
    powers = {f"{convolution}.weight": 1, f"{convolution}.bias": 1}
    for norm in norms:
        powers |= {f"{norm}.running_mean": 1, f"{norm}.running_var": 2}
    for name, power in powers.items():
        if name in weights:
            weights[name] = weights[name].float() * share**power
