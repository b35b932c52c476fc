"""The method's configuration as typed settings."""

from sopose.settings.groups import Settings
from sopose.settings.load import SCHEMA, load_settings, plain_settings, save_settings, settings_of

__all__ = ["SCHEMA", "Settings", "load_settings", "plain_settings", "save_settings", "settings_of"]
