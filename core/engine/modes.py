"""How a network runs: in evaluation mode for a while, with parts that stay in float32, and fast on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FOLDING_TOLERANCE = 1e-3  # of what a folded network says, in deviations of it; rounding is below 1e-5


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, and then as it was.

    torch's random numbers continue as though nothing had been tested: a loader draws one for its workers.
    """
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        model.train(training)


class _Float32(nn.Module):
    """Stands before a module's own class."""

    def forward(self, x: Tensor) -> Tensor:
        """What the class makes of `x`, of any type and shape, in float32."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def keep_slow_parts_in_float32(network: nn.Module, learns: bool = True) -> None:
    """Exempt from autocasting what a CPU computes slower in bfloat16: group norms and depthwise convolutions.

    Their backward passes take several times as long in bfloat16, which would lose more than the other convolutions
    win. Depthwise convolutions of a network that no longer `learns` are not exempted: their forward pass takes half as
    long. Names and values of parameters stay.
    """
    for module in network.modules():
        if isinstance(module, nn.GroupNorm) or (learns and is_depthwise(module)):
            kind = type(module)
            module.__class__ = type(f"Float32{kind.__name__}", (_Float32, kind), {})


def is_depthwise(module: nn.Module) -> bool:
    """Whether it is a convolution that filters each channel by itself."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


@torch.no_grad()
def without_batch_norms(network: nn.Module, example: Tensor | Sequence[Tensor]) -> nn.Module:
    """A copy for evaluation whose batch norms are folded into the convolutions before them: fewer passes over memory.

    It says the same but for rounding. Which convolution comes before is read off the order in which modules were
    registered, so both are tried on `example`; where they differ the network itself is the answer.

    Args:
        network: maps `example` to tensors: one, or a list, tuple or mapping of them; in evaluation mode.
        example: an input of any content.
    """
    folded = copy.deepcopy(network)
    _fold(folded)
    for found, wanted in zip(_tensors(folded(example)), _tensors(network(example)), strict=True):
        if not bool((found - wanted).abs().max() <= FOLDING_TOLERANCE * wanted.std()):
            return network
    return folded


def _fold(module: nn.Module) -> None:
    """Fold the batch norms among the children of a module and of its parts; activations inside of norms stay."""
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if (
            isinstance(child, nn.BatchNorm2d)
            and child.running_mean is not None
            and before is not None
            and isinstance(before[1], nn.Conv2d)
            and before[1].out_channels == child.num_features
        ):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Sequential(*child.children()))  # timm's norms have an activation
            before = None
        else:
            _fold(child)
            before = name, child


def _tensors(output: Tensor | Sequence[Tensor] | Mapping[str, Tensor]) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return list(output.values() if isinstance(output, Mapping) else output)


class HalfConvolutions(nn.Module):
    """A part of a network for CPUs that convolves in bfloat16, in which it holds those weights; all else is float32.

    Args:
        part: takes tensors or lists of them, gives a list, tuple or mapping of them, None for some. It is changed.
    """

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        keep_slow_parts_in_float32(part, learns=False)
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.bfloat16()

    def forward(self, *inputs: Tensor | list[Tensor]) -> Sequence[Tensor | None] | Mapping[str, Tensor]:
        """What the part makes of its inputs, in float32."""
        with torch.autocast("cpu", torch.bfloat16):
            output = self.part(*inputs)
        if isinstance(output, Mapping):
            return {name: values.float() for name, values in output.items()}
        return [None if values is None else values.float() for values in output]
