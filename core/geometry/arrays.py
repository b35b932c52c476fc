"""What lets a formula stand once for arrays of NumPy and tensors of torch; gradients flow through tensors."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")


def namespace(array: Array) -> ModuleType:
    """numpy or torch, whose functions take this array. torch is imported for tensors alone."""
    if isinstance(array, np.ndarray | np.generic):
        return np
    import torch

    return torch


def detached(array: Array) -> Array:
    """The same numbers, through which no gradient flows."""
    return array if isinstance(array, np.ndarray | np.generic) else array.detach()


def sigmoid(logits: Array) -> Array:
    """1 / (1 + exp(-x)) of any shape."""
    if not isinstance(logits, np.ndarray | np.generic):
        return logits.sigmoid()
    small = np.exp(-np.abs(logits))  # in [0, 1], whatever the size of x
    return np.where(logits >= 0, 1, small) / (1 + small)


def softmax(logits: Array, axis: int) -> Array:
    """exp(x) over its sum along an axis."""
    if not isinstance(logits, np.ndarray | np.generic):
        return logits.softmax(dim=axis)
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)
