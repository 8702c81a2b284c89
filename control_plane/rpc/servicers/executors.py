"""ExecutorService."""

from __future__ import annotations

from control_plane.domain.identifiers import ExecutorId
from control_plane.rpc.convert.executors import executor_to_proto
from control_plane.rpc.convert.values import id_of
from control_plane.rpc.once import Once
from control_plane.rpc.pagination import Paging
from control_plane.rpc.types import Context
from control_plane.services.executors import ExecutorService
from floe.v1 import executor_pb2 as pb
from floe.v1 import executor_pb2_grpc as pb_grpc

_HINTS = ("operations",)


class ExecutorServicer(pb_grpc.ExecutorServiceServicer):
    def __init__(self, executors: ExecutorService, once: Once) -> None:
        self._executors = executors
        self._once = once

    async def ListExecutors(self, request: pb.ListExecutorsRequest, context: Context) -> pb.ListExecutorsResponse:
        paging = Paging.of(request)
        after = ExecutorId(paging.after[0]) if paging.after else None
        rows = await self._executors.list(after=after, limit=paging.limit, detached=request.include_detached)
        executors, token = paging.cut(rows, executor_to_proto, lambda executor: (executor.id,))
        return pb.ListExecutorsResponse(executors=executors, next_page_token=token)

    async def GetExecutor(self, request: pb.GetExecutorRequest, context: Context) -> pb.GetExecutorResponse:
        executor = await self._executors.get(ExecutorId(id_of(request.id, field="id")))
        return pb.GetExecutorResponse(executor=executor_to_proto(executor))

    async def DrainExecutor(self, request: pb.DrainExecutorRequest, context: Context) -> pb.DrainExecutorResponse:
        async def drain() -> pb.DrainExecutorResponse:
            drained = await self._executors.drain(ExecutorId(id_of(request.id, field="id")))
            return pb.DrainExecutorResponse(executor=executor_to_proto(drained))

        return await self._once.answer(request, pb.DrainExecutorResponse, drain, hints=_HINTS)

    async def UndrainExecutor(self, request: pb.UndrainExecutorRequest, context: Context) -> pb.UndrainExecutorResponse:
        async def undrain() -> pb.UndrainExecutorResponse:
            undrained = await self._executors.undrain(ExecutorId(id_of(request.id, field="id")))
            return pb.UndrainExecutorResponse(executor=executor_to_proto(undrained))

        return await self._once.answer(request, pb.UndrainExecutorResponse, undrain, hints=_HINTS)
