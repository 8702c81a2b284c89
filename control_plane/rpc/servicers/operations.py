"""OperationService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import OperationId
from control_plane.rpc.convert.operation_stats import since_from_proto, stats_to_proto
from control_plane.rpc.convert.operations import filter_from_proto, update_to_proto, view_to_proto
from control_plane.rpc.convert.values import id_of
from control_plane.rpc.interceptors.identity import current_caller
from control_plane.rpc.once import Once
from control_plane.rpc.pagination import Key, Paging, read_cursor, write_cursor
from control_plane.rpc.types import Context
from control_plane.services.operations import OperationsService, OperationView
from floe.v1 import operation_pb2 as pb
from floe.v1 import operation_pb2_grpc as pb_grpc
from shared.telemetry.traces import current_traceparent

_CANCEL_HINTS: Final = ("cancels", "events", "operations", "targets")
_RETRY_HINTS: Final = ("operations", "events")
_MAX_REASON: Final = 1_000
_STATS_WINDOW: Final = timedelta(days=7)


class OperationServicer(pb_grpc.OperationServiceServicer):
    def __init__(self, operations: OperationsService, once: Once) -> None:
        self._operations = operations
        self._once = once

    async def GetOperation(self, request: pb.GetOperationRequest, context: Context) -> pb.GetOperationResponse:
        view = await self._operations.get(OperationId(id_of(request.id, field="id")))
        return pb.GetOperationResponse(operation=view_to_proto(view))

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:
        paging = Paging.of(request, parts=2)
        where = filter_from_proto(request.filter)
        page = await self._operations.list(where, after=_after(paging.after), limit=paging.limit)
        operations, token = paging.cut(page.views, view_to_proto, _key)
        return pb.ListOperationsResponse(
            operations=operations, next_page_token=token, watch_cursor=write_cursor(page.cursor)
        )

    async def GetOperationStats(
        self, request: pb.GetOperationStatsRequest, context: Context
    ) -> pb.GetOperationStatsResponse:
        where = filter_from_proto(request.filter)
        since = since_from_proto(request, now=await self._operations.now(), default=_STATS_WINDOW)
        return stats_to_proto(await self._operations.stats(where, since=since), since=since)

    async def WatchOperations(
        self, request: pb.WatchOperationsRequest, context: Context
    ) -> AsyncIterator[pb.WatchOperationsResponse]:
        where, cursor = filter_from_proto(request.filter), read_cursor(request.cursor)
        async for update in self._operations.watch(where, cursor, progress=request.include_progress):
            yield update_to_proto(update)

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Context) -> pb.CancelOperationResponse:
        async def cancel() -> pb.CancelOperationResponse:
            operation = OperationId(id_of(request.id, field="id"))
            view = await self._operations.cancel(
                operation, by=current_caller(), reason=_reason(request.reason), etag=request.etag or None
            )
            return pb.CancelOperationResponse(operation=view_to_proto(view))

        return await self._once.answer(request, pb.CancelOperationResponse, cancel, hints=_CANCEL_HINTS)

    async def RetryOperation(self, request: pb.RetryOperationRequest, context: Context) -> pb.RetryOperationResponse:
        async def retry() -> pb.RetryOperationResponse:
            operation = OperationId(id_of(request.id, field="id"))
            view = await self._operations.retry(operation, by=current_caller(), traceparent=current_traceparent())
            return pb.RetryOperationResponse(operation=view_to_proto(view))

        return await self._once.answer(request, pb.RetryOperationResponse, retry, hints=_RETRY_HINTS)


def _key(view: OperationView) -> Key:
    return (view.operation.create_time.isoformat(), view.operation.id)


def _after(key: Key | None) -> tuple[datetime, OperationId] | None:
    if key is None:
        return None
    try:
        return datetime.fromisoformat(key[0]), OperationId(id_of(key[1], field="pageToken"))
    except ValueError:
        raise InvalidArgument(
            [FieldViolation("pageToken", "is no page token; take it from the answer before")]
        ) from None


def _reason(text: str) -> str:
    if len(text) > _MAX_REASON:
        raise InvalidArgument([FieldViolation("reason", f"has at most {_MAX_REASON} characters, this one {len(text)}")])
    return text
