"""From files, checkpoints and the command line to typed settings, and back to plain values and files."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from sopose.core.config.check import KeyRules, leaf_keys
from sopose.core.config.load import config_of, load_config
from sopose.core.config.read import read_config
from sopose.core.config.typed import field_keys, plain, typed
from sopose.core.config.write import as_python
from sopose.core.utils.errors import UserError, nearest
from sopose.core.utils.files import write_text
from sopose.settings.groups import EvalSettings, Settings
from sopose.settings.network import PoseNetSettings
from sopose.settings.rules import ANCESTOR_TARGETS, RULES

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parents[1]
# Within the package where it was installed from a wheel, beside it in a folder of sources
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"
SCHEMA = CONFIGS / "_base_" / "gdrn_base.py"
PNP_LAYERS = ("P", "P+Q")
PNP_CHOICES = {
    "PNP_TYPE": ("ransac_pnp", "net_iter_pnp", "net_ransac_pnp", "net_ransac_pnp_rot", "weighted_pnp"),
    "PNP_LAYERS": PNP_LAYERS,
}


def load_settings(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings of a run: `path` over the defaults, then `overrides`; see `core.config.load.load_config`.

    EXP_NAME is filled from the file's name. Options that exist but are not built yet are a `UserError` here, so that
    no run continues without what its file asks for, and so are values that only later code would stumble over. A path
    such as configs/gdrn_selfocc/toy/demo.py that isn't there is that of the configuration that comes along.
    """
    values = load_config(shipped(Path(path)), SCHEMA, overrides, _rules())
    return _finished(values, Path(path).stem)


def shipped(path: Path) -> Path:
    """A path, or where it is missing and begins with configs/ that of our file of this name."""
    ours = CONFIGS.parent / path
    return ours if not path.exists() and path.parts[:1] == (CONFIGS.name,) and ours.is_file() else path


def settings_of(values: Mapping[str, Any], where: str, overrides: Sequence[str] = ()) -> Settings:
    """The settings that a checkpoint carries, `values` of plain types, checked as a file's are.

    `where` they are from, for messages.
    """
    return _finished(config_of(values, where, SCHEMA, overrides, _rules()), Path(where).stem)


def plain_settings(settings: Settings) -> dict[str, Any]:
    """Settings as a checkpoint carries them: groups of upper-case keys, lists, numbers and texts, as json has them."""
    return _without_tuples(plain(settings, schema()))


def save_settings(settings: Settings, path: Path) -> None:
    """Write all settings as a configuration file that loads again."""
    write_text(path, as_python(plain(settings, schema())))


@cache
def schema() -> Mapping[str, Any]:
    """All keys with their defaults."""
    return read_config(SCHEMA)


def keys_without_effect() -> list[str]:
    """Keys of the schema that are accepted and do nothing: those without a field. They stand there with the reason."""
    known = set(field_keys(Settings, schema()))
    groups = tuple(f"{key}." for key in known)  # a field may be a group of any keys
    return [key for key, _ in leaf_keys(schema()) if key not in known and not key.startswith(groups)]


@cache
def _rules() -> KeyRules:
    return replace(RULES, without_effect=keys_without_effect())


def _finished(values: Mapping[str, Any], name: str) -> Settings:
    # BOP's result names are METHOD_DATASET-SPLIT.csv, so the method's own name has no underscore.
    settings = typed(Settings, {**values, "EXP_NAME": re.sub(r"[^0-9A-Za-z-]+", "-", values["EXP_NAME"] or name)})
    if settings.val.targets_filename == ANCESTOR_TARGETS:
        logger.info("VAL.TARGETS_FILENAME=%s is a default of old, the data set's own targets count", ANCESTOR_TARGETS)
        settings = replace(settings, val=replace(settings.val, targets_filename=""))
    if settings.test.use_pnp:
        _check_pnp(settings.test, settings.model.pose_net)
    return settings


def _check_pnp(test: EvalSettings, net: PoseNetSettings) -> None:
    """`UserError` where TEST asks for a PnP that doesn't exist, or for maps that the network doesn't have."""
    for key, known in PNP_CHOICES.items():
        choice = getattr(test, key.lower())
        if choice not in known:
            hint = nearest(choice, list(known))
            raise UserError(f"TEST.{key} is '{choice}'{hint} (known: {', '.join(known)})")
    if not 0 < test.pnp_confidence < 1:
        raise UserError(f"TEST.PNP_CONFIDENCE must be between 0 and 1, got {test.pnp_confidence}")
    if test.pnp_layers == "P+Q" and not net.selfocc_head.enabled:
        raise UserError("TEST.PNP_LAYERS is 'P+Q' but SELFOCC_HEAD.ENABLED is False, there is no Q; set PNP_LAYERS=P")


def _without_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_tuples(entry) for key, entry in value.items()}
    return [_without_tuples(entry) for entry in value] if isinstance(value, (list, tuple)) else value
