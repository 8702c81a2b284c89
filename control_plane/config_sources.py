"""Where the control plane's settings come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from control_plane.config import ControlPlaneConfig
from shared.runtime.settings import ConfigurationError, read_settings, settings_by_name, shown_settings
from shared.vocabulary.programs import EXECUTOR_WORDS, OTHER_WORDS

__all__ = ["ConfigurationError", "read_config", "settings_by_name", "shown_settings"]

# Names that the original Floe used, kept where the meaning is the same.
ALIASES: Final = {
    "FLOE_STORE_TYPE": "FLOE_STORE__TYPE",
    "FLOE_SCHEDULER_ENABLED": "FLOE_SCHEDULER__ENABLED",
}


def read_config(environment: Mapping[str, str]) -> ControlPlaneConfig:
    """The settings of this process. `environment` is `os.environ`, which pydantic-settings reads itself as well."""
    return read_settings(
        ControlPlaneConfig, environment, foreign=EXECUTOR_WORDS | OTHER_WORDS | {"control_plane"}, aliases=ALIASES
    )
