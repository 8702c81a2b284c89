"""The Python client of Floe: `AsyncFloe` for asyncio, `Floe` for everybody else.

Everything meant for use is named here; messages and enums are in `floe_client.types`. Names are imported when they are
first used, so that a program which only wants the command line's help does not wait for gRPC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from floe_client import types
    from floe_client.client import AsyncFloe
    from floe_client.errors import (
        Aborted,
        AlreadyExists,
        Cancelled,
        DeadlineExceeded,
        FailedPrecondition,
        FieldViolation,
        FloeError,
        InternalError,
        InvalidArgument,
        NotFound,
        OperationFailed,
        OutOfRange,
        PermissionDenied,
        ResourceExhausted,
        Unauthenticated,
        Unavailable,
        Unimplemented,
    )
    from floe_client.operations import AsyncOperationHandle, AsyncTrigger
    from floe_client.paging import AsyncPager, Page, Pager
    from floe_client.policies import Applied
    from floe_client.sync import Floe, OperationHandle, Trigger
    from floe_client.tables import TableName
    from floe_client.watching import Changed, Progressed, is_terminal

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Applied",
    "AsyncFloe",
    "AsyncOperationHandle",
    "AsyncPager",
    "AsyncTrigger",
    "Cancelled",
    "Changed",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "Floe",
    "FloeError",
    "InternalError",
    "InvalidArgument",
    "NotFound",
    "OperationFailed",
    "OperationHandle",
    "OutOfRange",
    "Page",
    "Pager",
    "PermissionDenied",
    "Progressed",
    "ResourceExhausted",
    "TableName",
    "Trigger",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "is_terminal",
    "types",
]

_HOMES = {
    "AsyncFloe": "client",
    "AsyncOperationHandle": "operations",
    "AsyncTrigger": "operations",
    "AsyncPager": "paging",
    "Page": "paging",
    "Pager": "paging",
    "Applied": "policies",
    "Floe": "sync",
    "OperationHandle": "sync",
    "Trigger": "sync",
    "TableName": "tables",
    "Changed": "watching",
    "Progressed": "watching",
    "is_terminal": "watching",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "types":
        return import_module("floe_client.types")
    return getattr(import_module(f"floe_client.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
