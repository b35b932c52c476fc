"""Exporters are talkative; their users aren't asked to read it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch

from sopose.core.utils.errors import UserError


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Keep from the user what exporters print, warn and log of their own steps. "" is the root of all loggers."""
    found = [logging.getLogger(name) for name in loggers]
    before = [logger.level for logger in found]
    try:
        for logger in found:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(found, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def expressed(what: str, *loggers: str) -> Iterator[None]:
    """As `quiet`, around torch's export of a network; a `UserError` names `what` that ONNX has no operators for."""
    try:
        with quiet(*loggers):
            yield
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{what} can't be expressed in ONNX ({reason}); export one with another backbone") from error
