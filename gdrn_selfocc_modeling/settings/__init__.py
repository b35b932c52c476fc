"""The method's configuration as typed settings."""

from sopose.settings.groups import Settings
from sopose.settings.load import CONFIGS, SCHEMA, load_settings, plain_settings, save_settings, settings_of, shipped

__all__ = [
    "CONFIGS",
    "SCHEMA",
    "Settings",
    "load_settings",
    "plain_settings",
    "save_settings",
    "settings_of",
    "shipped",
]
