"""Engines and observation lanes by name. Each is imported at the last moment, so that an image carries one engine's
dependencies and no other's."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from executor.engines.base import Engine
from executor.errors import ConfigurationError

_ENGINES: Final = {"spark": "executor.engines.spark.factory:create"}
_LANES: Final = {"local": "executor.observation.factory:create"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What any engine and any lane is built from."""

    slots: int
    """Operations at a time, or looks at a time."""
    state_directory: Path
    secrets_directory: Path | None
    options: Mapping[str, Any]
    """The engine's own section of the settings, or the lane's."""


def load_engine(name: str, setup: Setup) -> Engine:
    """The engine `name`, not started. A dotted path (`package.module:factory`) names one that is not in the list.

    Raises `ConfigurationError`.
    """
    return cast(Engine, _load(name, _ENGINES, what="engine")(setup))


def load_lane(name: str, setup: Setup) -> Any:
    """The observation lane `name`; what it can do is said by who uses it."""
    return _load(name, _LANES, what="observation lane")(setup)


def _load(name: str, known: Mapping[str, str], *, what: str) -> Callable[[Setup], object]:
    path = known.get(name, name)
    if ":" not in path:
        raise ConfigurationError(
            f"there is no {what} {name!r}; there are {', '.join(known)}, or package.module:factory"
        )
    try:
        return cast(Callable[[Setup], object], pkgutil.resolve_name(path))
    except ModuleNotFoundError as missing:
        remedy = f"install floe[{name}]" if name in known else "check the dotted path"
        raise ConfigurationError(f"{what} {name!r} needs the module {missing.name!r}: {remedy}") from missing
    except AttributeError as missing:
        raise ConfigurationError(f"{what} {name!r}: {missing}; check the dotted path") from missing
