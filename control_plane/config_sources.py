"""Where settings come from, and how they are shown: read once, at the start, by the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from control_plane.config import DELIMITER, PREFIX, ControlPlaneConfig

CONFIG_FILE: Final = "FLOE_CONFIG"

# Names that the original Floe used, kept where the meaning is the same.
ALIASES: Final = {"FLOE_STORE_TYPE": "FLOE_STORE__TYPE"}

FOREIGN: Final = frozenset(
    {
        # Sections of the executor.
        "executor",
        "control_plane",
        "engine",
        "engine_type",
        "spark",
        "trino",
        "secret",
        "secrets",
        "catalogs",
        "observation",
        "watchdog",
        # Settings of the client, of `floe dev` and of the demonstration.
        "address",
        "client",
        "demo",
        "dev",
        "output",
        "rest",
        "server",
        "run",
        "test",
        "timeout",
    }
)
"""First words of names that belong to the other programs: they may share an environment and a file with us."""

_MASK: Final = "**********"
_MAX_FILE_BYTES: Final = 1024 * 1024


class ConfigurationError(Exception):
    """The settings cannot be used. The message names each wrong one, and never repeats a secret."""


def read_config(environment: Mapping[str, str]) -> ControlPlaneConfig:
    """The settings of this process. `environment` is `os.environ`, which pydantic-settings reads itself as well."""
    unknown = sorted(_unknown(environment))
    if unknown:
        known = ", ".join(PREFIX + name.upper() + DELIMITER + "…" for name in ControlPlaneConfig.model_fields)
        raise ConfigurationError(f"unknown settings in the environment: {', '.join(unknown)}; known are {known}")
    values = _file(environment.get(CONFIG_FILE))
    for alias, name in ALIASES.items():
        if alias in environment and name not in environment:
            section, field = name.removeprefix(PREFIX).lower().split(DELIMITER)
            values = {**values, section: {**(values.get(section) or {}), field: environment[alias]}}
    try:
        return ControlPlaneConfig(**values)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_lines(error))) from None
    except ValueError as error:
        # A section that is given as one JSON value and is none.
        raise ConfigurationError(f"{error}; what has several values is written as JSON") from None


def shown_settings(config: ControlPlaneConfig) -> dict[str, str]:
    """Every effective setting by its environment name, secrets masked."""
    return dict(_shown(PREFIX, config))


def settings_by_name(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[tuple[str, FieldInfo]]:
    """Each single setting with its environment name, in the order of the source."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings_by_name(inner, f"{prefix}{name.upper()}{DELIMITER}")
        else:
            yield f"{prefix}{name.upper()}", field


def _shown(prefix: str, model: BaseModel) -> Iterator[tuple[str, str]]:
    written = model.model_dump(mode="json")
    for name in type(model).model_fields:
        value = getattr(model, name)
        key = f"{prefix}{name.upper()}"
        if isinstance(value, BaseModel):
            yield from _shown(f"{key}{DELIMITER}", value)
        elif isinstance(value, SecretStr):
            yield key, _MASK
        elif value is None:
            yield key, ""
        else:
            text = written[name]
            yield key, text if isinstance(text, str) else json.dumps(text)


def _unknown(environment: Mapping[str, str]) -> Iterator[str]:
    """Names with our prefix that nobody knows. What follows a known section's name is judged with the section."""
    for name in environment:
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in ALIASES or upper == CONFIG_FILE:
            continue
        rest = upper.removeprefix(PREFIX).lower()
        first = rest.split(DELIMITER, 1)[0]
        if first not in ControlPlaneConfig.model_fields and not _is_foreign(first):
            yield name


def _is_foreign(name: str) -> bool:
    return name in FOREIGN or name.split("_", 1)[0] in FOREIGN


def _file(path: str | None) -> dict[str, Any]:
    """The file's sections without those of other programs."""
    if not path:
        return {}
    # Only here: a process without a file needs no parser.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    file = Path(path).expanduser()
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigurationError(f"{file} ({CONFIG_FILE}) is larger than {_MAX_FILE_BYTES} bytes")
        loaded = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file} ({CONFIG_FILE}) cannot be read: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" near line {where.line + 1}" if where is not None else ""
        raise ConfigurationError(f"{file} ({CONFIG_FILE}) is no YAML{line}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigurationError(f"{file} ({CONFIG_FILE}) must hold a mapping of sections, such as `store:`")
    known = ControlPlaneConfig.model_fields
    return {str(name): value for name, value in loaded.items() if name in known or not _is_foreign(str(name))}


def _lines(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in detail["loc"]]
        name = PREFIX + DELIMITER.join(part.upper() for part in path)
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = "is not known; see docs/configuration.md"
        yield f"{name} ({'.'.join(path)}): {message}"
