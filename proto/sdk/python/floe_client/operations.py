"""Operations: asked for, found, followed, stopped and repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from floe.v1 import operation_pb2 as pb
from floe.v1 import trigger_pb2
from floe_client.errors import DeadlineExceeded, FieldViolation, InvalidArgument, OperationFailed
from floe_client.paging import AsyncPager, Page
from floe_client.tables import TableName
from floe_client.transport import Transport, new_request_id
from floe_client.watching import Changed, Listing, Update, follow, is_terminal, watch

_TYPE_PREFIX: Final = "OPERATION_TYPE_"
_STATE_PREFIX: Final = "OPERATION_STATE_"
_FOLLOWED_AT_ONCE: Final = 1_000


class AsyncOperations:
    """What was asked for and what became of it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, id: str) -> pb.Operation:
        request = pb.GetOperationRequest(id=id)
        return (
            await self._transport.unary("OperationService/GetOperation", request, pb.GetOperationResponse)
        ).operation

    def list(self, filter: pb.OperationFilter | None = None, *, page_size: int = 0) -> AsyncPager[pb.Operation]:
        """The operations that the filter selects, newest first."""

        async def fetch(token: str) -> Page[pb.Operation]:
            request = pb.ListOperationsRequest(filter=filter, page_size=page_size, page_token=token)
            answer = await self._transport.unary("OperationService/ListOperations", request, pb.ListOperationsResponse)
            return Page(answer.operations, answer.next_page_token, answer.watch_cursor)

        return AsyncPager(fetch)

    async def stats(
        self,
        filter: pb.OperationFilter | None = None,
        *,
        since: datetime | None = None,
        window: timedelta | None = None,
    ) -> pb.GetOperationStatsResponse:
        """The operations that the filter selects, in numbers: those asked for since then, or within the window before
        now; with neither, the last 7 days."""
        request = pb.GetOperationStatsRequest(filter=filter)
        if since is not None:
            request.since.FromDatetime(since)
        if window is not None:
            request.window.FromTimedelta(window)
        return await self._transport.unary("OperationService/GetOperationStats", request, pb.GetOperationStatsResponse)

    def watch(
        self, filter: pb.OperationFilter | None = None, *, cursor: str = "", include_progress: bool = True
    ) -> AsyncGenerator[Update, None]:
        """The changes of the operations that the filter selects, from the cursor on (else from now), without end."""
        return watch(self._transport, filter or pb.OperationFilter(), cursor=cursor, include_progress=include_progress)

    def follow(self, ids: Sequence[str], *, include_progress: bool = True) -> AsyncGenerator[Update, None]:
        """At most 1,000 operations as they are now, then their changes, until each of them has ended."""
        if len(ids) > _FOLLOWED_AT_ONCE:
            message = f"at most {_FOLLOWED_AT_ONCE} operations can be followed at once, not {len(ids)}"
            raise InvalidArgument(message, violations=[FieldViolation("operationIds", message)])
        return follow(self._transport, ids, self._listing, include_progress=include_progress)

    async def cancel(self, id: str, *, reason: str = "", etag: str = "", request_id: str | None = None) -> pb.Operation:
        """Ask it to stop. The answer is how it is now: a running operation ends later."""
        request = pb.CancelOperationRequest(id=id, reason=reason, etag=etag, request_id=request_id or new_request_id())
        answer = await self._transport.unary("OperationService/CancelOperation", request, pb.CancelOperationResponse)
        return answer.operation

    async def retry(self, id: str, *, request_id: str | None = None) -> pb.Operation:
        """A new operation like this finished one."""
        request = pb.RetryOperationRequest(id=id, request_id=request_id or new_request_id())
        answer = await self._transport.unary("OperationService/RetryOperation", request, pb.RetryOperationResponse)
        return answer.operation

    async def _listing(self, filter: pb.OperationFilter) -> Listing:
        operations: list[pb.Operation] = []
        cursor = ""
        async for page in self.list(filter, page_size=100).pages():
            # The first page's cursor: what happened while the others were read comes twice rather than never.
            cursor = cursor or page.watch_cursor
            operations.extend(page.items)
        return operations, cursor


class AsyncOperationHandle:
    """One operation, by its id."""

    def __init__(self, operations: AsyncOperations, id: str) -> None:
        self._operations = operations
        self.id = id

    async def get(self) -> pb.Operation:
        """As it is now."""
        return await self._operations.get(self.id)

    def watch(self, *, include_progress: bool = True) -> AsyncGenerator[Update, None]:
        """As it is now, then its changes and its progress, until it has ended."""
        return self._operations.follow([self.id], include_progress=include_progress)

    async def result(self, *, timeout: float | None = None) -> pb.Operation:
        """Wait for its end. Raises `OperationFailed` unless it SUCCEEDED, and `DeadlineExceeded` if it has not ended
        after `timeout` seconds: the operation goes on."""
        try:
            async with asyncio.timeout(timeout):
                operation = await self._end()
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"operation {self.id} has not ended within {timeout} s; it goes on", metadata={"id": self.id}
            ) from error
        if operation.state != pb.OPERATION_STATE_SUCCEEDED:
            raise failed(operation)
        return operation

    async def cancel(self, *, reason: str = "") -> pb.Operation:
        """Ask it to stop; `result` says how it ended."""
        return await self._operations.cancel(self.id, reason=reason)

    async def retry(self) -> AsyncOperationHandle:
        """A new operation like this finished one."""
        operation = await self._operations.retry(self.id)
        return AsyncOperationHandle(self._operations, operation.id)

    async def _end(self) -> pb.Operation:
        async with aclosing(self._operations.follow([self.id], include_progress=False)) as updates:
            async for update in updates:
                if isinstance(update, Changed) and is_terminal(update.operation):
                    return update.operation
        raise AssertionError("following ends with the operation's end")


@dataclass(frozen=True, slots=True)
class AsyncTrigger:
    """What one trigger started."""

    id: str
    runs: Sequence[trigger_pb2.Run]
    operations: Sequence[AsyncOperationHandle]


async def trigger(
    transport: Transport,
    table: TableName | str | None,
    *,
    policy: str,
    operations: Sequence[str | pb.OperationType.ValueType],
    request_id: str | None,
    validate_only: bool,
    pattern: str,
    max_tables: int,
    respect_conditions: bool,
    plan_hash: str,
) -> trigger_pb2.TriggerMaintenanceResponse:
    """Queue maintenance of one table, or of those that a pattern matches."""
    request = trigger_pb2.TriggerMaintenanceRequest(
        policy_name=policy,
        operation_types=[operation_type(each) for each in operations],
        request_id=request_id or new_request_id(),
        validate_only=validate_only,
        pattern=pattern,
        max_tables=max_tables,
        respect_conditions=respect_conditions,
        plan_hash=plan_hash,
    )
    if table is not None:
        name = TableName.of(table)
        request.catalog, request.namespace, request.table = name.catalog, name.dotted_namespace, name.table
    return await transport.unary("TriggerService/TriggerMaintenance", request, trigger_pb2.TriggerMaintenanceResponse)


def operation_type(name: str | pb.OperationType.ValueType) -> pb.OperationType.ValueType:
    """The type of that name: `REWRITE_DATA_FILES`, `rewrite-data-files` or the enum's own."""
    if not isinstance(name, str):
        return name
    value = pb.OperationType.DESCRIPTOR.values_by_name.get(_constant(name, _TYPE_PREFIX))
    if value is None or value.number == 0:
        raise _unknown("operation type", name, pb.OperationType.keys()[1:], _TYPE_PREFIX, "operationTypes")
    return pb.OperationType.Value(value.name)


def operation_state(name: str) -> pb.OperationState.ValueType:
    """The state of that name: `RUNNING`, `running` or the enum's own."""
    value = pb.OperationState.DESCRIPTOR.values_by_name.get(_constant(name, _STATE_PREFIX))
    if value is None or value.number == 0:
        raise _unknown("operation state", name, pb.OperationState.keys()[1:], _STATE_PREFIX, "states")
    return pb.OperationState.Value(value.name)


def failed(operation: pb.Operation) -> OperationFailed:
    """How an operation that did not succeed ended, in a sentence."""
    state = pb.OperationState.Name(operation.state).removeprefix(_STATE_PREFIX)
    why = operation.failure.message or operation.state_reason
    effects = pb.Effects.Name(operation.effects).removeprefix("EFFECTS_")
    kind = pb.FailureClass.Name(getattr(operation.failure, "class")).removeprefix("FAILURE_CLASS_")
    told = f"operation {operation.id} ended {state}" + (f": {why}" if why else "")
    if effects not in ("UNSPECIFIED", "NONE"):
        told += f" (effects on the table: {effects})"
    return OperationFailed(told, operation=operation, reason=kind if operation.HasField("failure") else state)


def _constant(name: str, prefix: str) -> str:
    return prefix + name.strip().upper().replace("-", "_").removeprefix(prefix)


def _unknown(what: str, name: str, known: Sequence[str], prefix: str, field: str) -> InvalidArgument:
    names = ", ".join(each.removeprefix(prefix) for each in known)
    message = f"{name!r} is no {what}; known are {names}"
    return InvalidArgument(message, reason="INVALID_ARGUMENT", violations=[FieldViolation(field, message)])
