"""Policies between the public API and the domain.

The proto and the JSON document have the same names and the same notion of unset, so the conversion follows the
descriptor: a field that is added to both needs no line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from control_plane.domain.policy import Policy
from floe.v1 import policy_pb2 as pb

_KEPT_BY_FLOE: Final = frozenset({"generation", "etag", "create_time", "update_time"})


def spec_from_proto(message: pb.Policy) -> dict[str, Any]:
    """The JSON document that the message writes, still to be validated. What Floe itself keeps is left out."""
    return {
        field.json_name: _written(field, value)
        for field, value in message.ListFields()
        if field.name not in _KEPT_BY_FLOE
    }


def policy_to_proto(policy: Policy) -> pb.Policy:
    message = json_format.ParseDict(policy.spec.document, pb.Policy())
    message.generation = policy.generation
    message.etag = policy.etag
    message.create_time.FromDatetime(policy.create_time)
    message.update_time.FromDatetime(policy.update_time)
    return message


def _written(field: FieldDescriptor, value: Any) -> Any:
    """One set field as it stands in the document."""
    if isinstance(value, Mapping):
        return {key: _content(content) for key, content in value.items()}
    return [_content(each) for each in value] if field.is_repeated else _content(value)


def _content(value: Any) -> Any:
    if isinstance(value, Message):
        return {inner.json_name: _written(inner, content) for inner, content in value.ListFields()}
    return value
