"""Finds the secrets that a catalog record names, in the environment or in a directory; no value ever reaches a
message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from executor.assignment import Catalog
from executor.errors import ConfigurationError

ENVIRONMENT_PREFIX = "FLOE_SECRET_"
DIRECTORY_VARIABLE = "FLOE_SECRETS_DIR"

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LARGEST_FILE = 64 * 1024


class ResolvedProperties(dict[str, str]):
    """The properties of a catalog with its secrets in place: shown by their names only, wherever they are printed."""

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key!r}: '***'" for key in self) + "}"

    __str__ = __repr__


def resolve(catalog: Catalog, *, environ: Mapping[str, str], directory: Path | None) -> ResolvedProperties:
    """The record's properties and the values of the secrets that it names; a secret wins over a property of the same
    key.

    Raises `ConfigurationError` naming the secret and both places where it was looked for.
    """
    resolved = ResolvedProperties(catalog.properties)
    for key, name in catalog.secrets.items():
        resolved[key] = _find(name, f"catalog {catalog.name!r}, property {key!r}", environ, directory)
    return resolved


def environment_variable(name: str) -> str:
    """The environment variable that holds the secret `name`, e.g. FLOE_SECRET_LAKE_PASSWORD for `lake.password`."""
    return ENVIRONMENT_PREFIX + re.sub(r"[^A-Z0-9]", "_", name.upper())


def _find(name: str, wanted_by: str, environ: Mapping[str, str], directory: Path | None) -> str:
    # "." and ".." pass the character rule, but name directories.
    if not _NAME.fullmatch(name) or not name.strip("."):
        raise ConfigurationError(
            f"{wanted_by}: {name[:128]!r} is no secret name; use 1 to 128 letters, digits, '.', '_' and '-'"
        )
    variable = environment_variable(name)
    if variable in environ:
        return environ[variable]
    if directory is None:
        raise ConfigurationError(
            f"{wanted_by}: secret {name!r} was not found; set {variable}, "
            f"or set {DIRECTORY_VARIABLE} to a directory that holds a file {name!r}"
        )
    return _read(directory / name, f"{wanted_by}: secret {name!r}", variable)


def _read(path: Path, what: str, variable: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigurationError(f"{what} was not found; set {variable}, or write it to {path}") from None
    except OSError as failure:
        raise ConfigurationError(f"{what}: {path} cannot be read ({failure.strerror}); or set {variable}") from None
    if len(content) > _LARGEST_FILE:
        raise ConfigurationError(f"{what}: {path} is larger than {_LARGEST_FILE} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{what}: {path} is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")
