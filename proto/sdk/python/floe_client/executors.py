"""The executors that are attached, or were lately."""

from __future__ import annotations

from floe.v1 import executor_pb2 as pb
from floe_client.paging import AsyncPager, Page
from floe_client.transport import Transport, new_request_id


class AsyncExecutors:
    """The processes that do the work."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, id: str) -> pb.Executor:
        request = pb.GetExecutorRequest(id=id)
        return (await self._transport.unary("ExecutorService/GetExecutor", request, pb.GetExecutorResponse)).executor

    def list(self, *, include_detached: bool = False, page_size: int = 0) -> AsyncPager[pb.Executor]:
        async def fetch(token: str) -> Page[pb.Executor]:
            request = pb.ListExecutorsRequest(include_detached=include_detached, page_size=page_size, page_token=token)
            answer = await self._transport.unary("ExecutorService/ListExecutors", request, pb.ListExecutorsResponse)
            return Page(answer.executors, answer.next_page_token)

        return AsyncPager(fetch)

    async def drain(self, id: str, *, request_id: str | None = None) -> pb.Executor:
        """Give it no more work; what runs goes on."""
        request = pb.DrainExecutorRequest(id=id, request_id=request_id or new_request_id())
        answer = await self._transport.unary("ExecutorService/DrainExecutor", request, pb.DrainExecutorResponse)
        return answer.executor

    async def undrain(self, id: str, *, request_id: str | None = None) -> pb.Executor:
        """Give it work again."""
        request = pb.UndrainExecutorRequest(id=id, request_id=request_id or new_request_id())
        answer = await self._transport.unary("ExecutorService/UndrainExecutor", request, pb.UndrainExecutorResponse)
        return answer.executor
