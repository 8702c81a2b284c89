"""An operation as a row and back: what is guarded or queried is a column, the rest is one document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Final

import asyncpg
from pydantic_core import to_json

from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.operation import Operation
from control_plane.store.codec import adapter, frozen, plain
from control_plane.store.fences import fence_key

# Fields of the same name and value.
_FIELDS: Final = (
    "id",
    "type",
    "policy",
    "policy_generation",
    "trigger_id",
    "run_id",
    "create_time",
    "queue_deadline",
    "virtual_deadline",
    "slot",
    "cancel_at",
    "state",
    "state_reason",
    "revision",
    "update_time",
    "not_before",
    "attempt",
    "epoch",
    "executor",
    "session",
    "engine",
    "ack_deadline",
    "lease_expire_time",
    "missed_renewals",
    "avoid_executor",
    "avoid_until",
    "redelivery",
    "solo",
    "lapse",
    "evidence_not_before",
    "reconcile_deadline",
    "verify_deadline",
    "cancel_request_time",
    "finish_time",
)
_TABLE: Final = ("catalog", "namespace", "name", "table_key", "fence_key", "type_order")
COLUMNS: Final = (*_FIELDS, *_TABLE, "token", "document")
_values: Final = attrgetter(*_FIELDS)
_LEFT_OUT: Final = frozenset({*_FIELDS, "token", "table"})


def _row(operation: Operation) -> dict[str, Any]:
    """The values of COLUMNS, for `jsonb_populate_record`. What is not there is null, and unset in the document:
    most of an operation that waits, and queues are long.
    """
    table = operation.table
    document = plain(operation, Operation, leave_out=_LEFT_OUT)
    return {
        **{name: value for name, value in zip(_FIELDS, _values(operation), strict=True) if value is not None},
        "catalog": table.catalog,
        "namespace": list(table.namespace),
        "name": table.name,
        "table_key": str(table),
        "fence_key": fence_key(operation),
        "type_order": operation.type.order,
        "token": f"\\x{operation.token.hex()}",
        "document": {name: value for name, value in document.items() if value is not None},
    }


def operation_json(operation: Operation) -> str:
    return to_json(_row(operation)).decode()


def operations_json(operations: Iterable[Operation]) -> str:
    """Rows of COLUMNS, as an array."""
    return to_json([_row(operation) for operation in operations]).decode()


def operation_of(row: Mapping[str, Any] | asyncpg.Record) -> Operation:
    """The operation of a row of the table, or of such a row as JSON, which has no token."""
    document = row["document"]
    values: dict[str, Any] = json.loads(document) if isinstance(document, str) else document
    values = {name: value if name == "action" else frozen(value) for name, value in values.items()}
    table = TableName(CatalogName(row["catalog"]), tuple(row["namespace"]), row["name"])
    # An event's row is as its time wrote it: what has become a column since stands in the document, or is not there.
    columns = {name: row[name] for name in _FIELDS if name in row}
    token = row.get("token", b"")
    operation: Operation = adapter(Operation).validate_python({**values, **columns, "table": table, "token": token})
    return operation
