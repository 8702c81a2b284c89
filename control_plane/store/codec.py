"""Domain objects as JSON documents and back. What is read equals what was written, sequences being tuples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")

_adapters: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:
    """Kept for each type: building one is slow."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def plain(value: object, kind: type[Any], *, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The value as a mapping of JSON values."""
    document: dict[str, Any] = adapter(kind).dump_python(value, mode="json", exclude=set(leave_out) or None)
    return document


def dumped(value: object, kind: type[Any], *, leave_out: frozenset[str] = frozenset()) -> str:
    """The value as JSON text."""
    return adapter(kind).dump_json(value, exclude=set(leave_out) or None).decode()


def loaded(document: str | bytes | Mapping[str, Any], kind: type[T], **fields: object) -> T:
    """The object of a document; `fields` are those that stand beside it."""
    values = json.loads(document) if isinstance(document, str | bytes) else document
    known = {name: frozen(value) for name, value in values.items()}
    value: T = adapter(kind).validate_python({**known, **fields})
    return value


def frozen(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    if isinstance(value, list):
        return tuple(frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items()}
    return value
