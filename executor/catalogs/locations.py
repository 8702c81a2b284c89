"""One spelling for each location, so that two clients' spellings of the same place compare equal."""

from __future__ import annotations

import posixpath
import re

_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>.*)", re.DOTALL)
_SAME_SCHEMES = {"s3a": "s3", "s3n": "s3"}


def normalize_location(location: str) -> str:
    """The canonical spelling: `file:/x`, `file://localhost/x` and `/x` are `file:///x`, s3a and s3n are s3; no slash
    at the end.

    Double slashes inside an object store's keys are kept: there they are other keys.
    """
    matched = _URI.fullmatch(location)
    if matched is None:
        return _local(location) if location.startswith("/") else location
    scheme = matched["scheme"].lower()
    rest = matched["rest"]
    if scheme == "file":
        return _local(re.sub(r"^//(localhost(?=/))?", "", rest) if rest.startswith("//") else rest)
    return f"{_SAME_SCHEMES.get(scheme, scheme)}:{rest.rstrip('/')}"


def same_location(one: str, other: str) -> bool:
    """Whether both spell the same place."""
    return normalize_location(one) == normalize_location(other)


def local_path(location: str) -> str | None:
    """The path in the local file system, if that is where the location lies."""
    normal = normalize_location(location)
    return normal.removeprefix("file://") if normal.startswith("file://") else None


def _local(path: str) -> str:
    # normpath keeps two leading slashes, as POSIX allows; a file URI has one meaning for them.
    return "file:///" + posixpath.normpath("/" + path.lstrip("/")).lstrip("/")
