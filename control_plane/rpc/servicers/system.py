"""SystemService."""

from __future__ import annotations

from control_plane.rpc.convert.system import info_to_proto, pause_to_proto, scope_from_proto
from control_plane.rpc.convert.values import to_datetime
from control_plane.rpc.interceptors.identity import current_caller
from control_plane.rpc.once import Once
from control_plane.rpc.types import Context
from control_plane.services.system import SystemService
from floe.v1 import system_pb2 as pb
from floe.v1 import system_pb2_grpc as pb_grpc

_HINTS = ("operations",)


class SystemServicer(pb_grpc.SystemServiceServicer):
    def __init__(self, system: SystemService, once: Once) -> None:
        self._system = system
        self._once = once

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        return info_to_proto(await self._system.info())

    async def Pause(self, request: pb.PauseRequest, context: Context) -> pb.PauseResponse:
        async def pause() -> pb.PauseResponse:
            scope = scope_from_proto(request)
            until = to_datetime(request.until, field="until") if request.HasField("until") else None
            paused = await self._system.pause(scope, reason=request.reason, until=until, by=current_caller())
            return pb.PauseResponse(pause=pause_to_proto(paused))

        return await self._once.answer(request, pb.PauseResponse, pause)

    async def Resume(self, request: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:
        async def resume() -> pb.ResumeResponse:
            await self._system.resume(scope_from_proto(request))
            return pb.ResumeResponse()

        return await self._once.answer(request, pb.ResumeResponse, resume, hints=_HINTS)
