"""What a partial update makes of a policy: the fields that a mask names are taken from the request, the rest stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Final, get_args

from pydantic.alias_generators import to_camel

from control_plane.domain.document import Document
from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.policy import PolicySpec

_ALL: Final = "*"
_MASK: Final = "updateMask"


def updated_document(current: Mapping[str, Any], changes: Mapping[str, Any], *, paths: Sequence[str]) -> dict[str, Any]:
    """The document after the update; it is still to be validated.

    A path is a field of the policy or of a part of it, in snake or camel case; a named field that `changes` does
    not hold is unset. `*` takes everything from `changes`. No paths: the fields that `changes` holds, each as a whole.
    The name never changes.
    """
    if _ALL in paths:
        if len(paths) > 1:
            raise InvalidArgument([FieldViolation(_MASK, "`*` takes every field; no other path may stand beside it")])
        return {**changes, "name": current["name"]}
    checked = [_json_path(path) for path in paths] or [(field,) for field in changes if field != "name"]
    updated = dict(current)
    for path in checked:
        _take_path(updated, changes, path)
    return updated


def _take_path(target: dict[str, Any], source: Mapping[str, Any], path: Sequence[str]) -> None:
    field, *inner = path
    if not inner:
        _take(target, source, field)
        return
    config = dict(target.get(field, {}))
    _take_path(config, source.get(field, {}), inner)
    target[field] = config


def _take(target: dict[str, Any], source: Mapping[str, Any], field: str) -> None:
    if field in source:
        target[field] = source[field]
    else:
        target.pop(field, None)


def _json_path(path: str) -> tuple[str, ...]:
    """The mask path in JSON names, after a check that it names a field that may change."""
    parts = tuple(to_camel(part) for part in path.split("."))
    if parts[0] == "name":
        raise InvalidArgument([FieldViolation(_MASK, "the name of a policy never changes; create another policy")])
    model: type[Document] | None = PolicySpec
    for part in parts:
        fields = {field.alias: field.annotation for field in model.model_fields.values()} if model else {}
        if part not in fields:
            known = ", ".join(sorted(alias for alias in fields if alias)) or "nothing below it"
            raise InvalidArgument([FieldViolation(_MASK, f"{path!r} is no field of a policy; known here: {known}")])
        model = _document_type(fields[part])
    return parts


def _document_type(annotation: Any) -> type[Document] | None:
    """The config that an optional field holds; None for a plain value."""
    if not isinstance(annotation, UnionType):
        return None
    return next((kind for kind in get_args(annotation) if isinstance(kind, type) and issubclass(kind, Document)), None)
