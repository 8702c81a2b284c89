"""Where a process's settings come from, and how they are shown: read once, at the start, by the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

PREFIX: Final = "FLOE_"
DELIMITER: Final = "__"
CONFIG_FILE: Final = "FLOE_CONFIG"

_MASK: Final = "**********"
_MAX_FILE_BYTES: Final = 1024 * 1024

SettingsT = TypeVar("SettingsT", bound="ProcessSettings")


class ConfigurationError(Exception):
    """The settings cannot be used. The message names each wrong one, and never repeats a secret."""


class ProcessSettings(BaseSettings):
    """All settings of one program: the environment, then what `read_settings` gives (the file), then the defaults."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """No `.env` that happens to lie about."""
        return (env_settings, init_settings)


def read_settings(
    model: type[SettingsT],
    environment: Mapping[str, str],
    *,
    foreign: frozenset[str],
    aliases: Mapping[str, str] | None = None,
) -> SettingsT:
    """The settings of this process. `environment` is `os.environ`, which pydantic-settings reads itself as well.

    `foreign` holds the first words of names that belong to other programs; `aliases` maps older names to ours. Raises
    `ConfigurationError`, also for names that nobody knows.
    """
    aliases = aliases or {}
    unknown = sorted(_unknown(model, environment, foreign, aliases))
    if unknown:
        known = ", ".join(_pattern(name, field) for name, field in model.model_fields.items())
        raise ConfigurationError(f"unknown settings in the environment: {', '.join(unknown)}; known are {known}")
    values = _file(model, environment.get(CONFIG_FILE), foreign)
    for alias, name in aliases.items():
        if alias in environment and name not in environment:
            section, field = name.removeprefix(PREFIX).lower().split(DELIMITER)
            values = {**values, section: {**(values.get(section) or {}), field: environment[alias]}}
    try:
        return model(**values)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_lines(error))) from None
    except ValueError as error:
        # A section that is given as one JSON value and is none.
        raise ConfigurationError(f"{error}; what has several values is written as JSON") from None


def shown_settings(config: BaseSettings) -> dict[str, str]:
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


def _pattern(name: str, field: FieldInfo) -> str:
    is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    return f"{PREFIX}{name.upper()}{DELIMITER}…" if is_section else f"{PREFIX}{name.upper()}"


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


def _unknown(
    model: type[BaseModel], environment: Mapping[str, str], foreign: frozenset[str], aliases: Mapping[str, str]
) -> Iterator[str]:
    """Names with our prefix that nobody knows. What follows a known section's name is judged with the section."""
    for name in environment:
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in aliases or upper == CONFIG_FILE:
            continue
        first = upper.removeprefix(PREFIX).lower().split(DELIMITER, 1)[0]
        if first not in model.model_fields and not _is_foreign(first, foreign):
            yield name


def _is_foreign(name: str, foreign: frozenset[str]) -> bool:
    return name in foreign or name.split("_", 1)[0] in foreign


def _file(model: type[BaseModel], path: str | None, foreign: frozenset[str]) -> dict[str, Any]:
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
        sections = " or ".join(f"`{name}:`" for name in list(model.model_fields)[:2])
        raise ConfigurationError(f"{file} ({CONFIG_FILE}) must hold a mapping of sections, such as {sections}")
    known = model.model_fields
    return {str(name): value for name, value in loaded.items() if name in known or not _is_foreign(str(name), foreign)}


def _lines(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in detail["loc"]]
        name = PREFIX + DELIMITER.join(part.upper() for part in path)
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = "is not known; see docs/configuration.md"
        yield f"{name} ({'.'.join(path)}): {message}"
