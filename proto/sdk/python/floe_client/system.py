"""The deployment itself: what it is, and its stop switches."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from floe.v1 import system_pb2 as pb
from floe_client.transport import Transport, new_request_id


class AsyncSystem:
    """The deployment itself. A scope is all of it, a catalog, or a table of a catalog."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def info(self) -> pb.GetServerInfoResponse:
        return await self._transport.unary(
            "SystemService/GetServerInfo", pb.GetServerInfoRequest(), pb.GetServerInfoResponse
        )

    async def pause(
        self,
        *,
        reason: str,
        catalog: str = "",
        namespace: str = "",
        table: str = "",
        until: datetime | None = None,
        request_id: str | None = None,
    ) -> pb.PauseScope:
        """Start nothing new in the scope, until then or until it is resumed; what runs goes on."""
        request = pb.PauseRequest(
            catalog=catalog,
            namespace=namespace,
            table=table,
            reason=reason,
            until=None if until is None else _timestamp(until),
            request_id=request_id or new_request_id(),
        )
        return (await self._transport.unary("SystemService/Pause", request, pb.PauseResponse)).pause

    async def resume(
        self, *, catalog: str = "", namespace: str = "", table: str = "", request_id: str | None = None
    ) -> None:
        """End the pause of exactly this scope; ending none changes nothing."""
        request = pb.ResumeRequest(
            catalog=catalog, namespace=namespace, table=table, request_id=request_id or new_request_id()
        )
        await self._transport.unary("SystemService/Resume", request, pb.ResumeResponse)


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment.astimezone(UTC))
    return timestamp
