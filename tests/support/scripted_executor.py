"""An executor whose every message is the test's own: for the interleavings that a real one seldom meets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio

from floe.execution.v1 import assignment_pb2 as pb
from floe.execution.v1 import assignment_pb2_grpc as pb_grpc
from shared.wire.protocol import PROTOCOL_VERSION

PATIENCE = 10.0
ALL_KINDS = (
    "LIST_TABLES",
    "LOAD_TABLE",
    "CHECK_CATALOG",
    "INSPECT_TABLE",
    "GATHER_EVIDENCE",
    "VERIFY_OPERATION",
    "PLAN_EXPIRY",
    "LIST_ORPHANS",
)


class ScriptedExecutor:
    """One stream of one executor. `expect` returns the next message of a kind and fails after a deadline."""

    def __init__(self, call: Any, executor_id: str) -> None:
        self._call = call
        self.id = executor_id
        self._inbox: list[pb.AttachResponse] = []

    async def hello(
        self,
        *,
        leases: Sequence[pb.Lease] = (),
        slots: int = 1,
        metadata_slots: int = 0,
        observation_slots: int = 1,
        protocol: int = PROTOCOL_VERSION,
        kinds: Sequence[str] = ALL_KINDS,
    ) -> pb.Welcome:
        hello = pb.Hello(
            protocol_version=protocol,
            executor_id=self.id,
            display_name="scripted",
            leases=leases,
            capabilities=pb.Capabilities(
                engine="spark",
                operation_types=["REWRITE_DATA_FILES", "EXPIRE_SNAPSHOTS"],
                slots=slots,
                metadata_slots=metadata_slots,
                observation_slots=observation_slots,
                observation_kinds=kinds,
            ),
        )
        hello.wall_time.FromDatetime(datetime.now(UTC))
        await self.send(hello=hello)
        return (await self.expect("welcome")).welcome

    async def send(self, **message: Any) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._call.write(pb.AttachRequest(**message))

    async def expect(self, kind: str) -> pb.AttachResponse:
        """The next message of that kind; earlier ones of other kinds are kept for later."""
        for index, message in enumerate(self._inbox):
            if message.WhichOneof("message") == kind:
                return self._inbox.pop(index)
        async with asyncio.timeout(PATIENCE):
            while True:
                received = await self._read()
                assert received is not None, f"the stream ended before a {kind}"
                if received.WhichOneof("message") == kind:
                    return received
                self._inbox.append(received)

    async def assignment(self) -> pb.Assignment:
        return (await self.expect("assignment")).assignment

    async def start(self) -> pb.Assignment:
        """Take an assignment, acknowledge it, and wait for the permission to start."""
        assignment = await self.assignment()
        await self.send(ack=pb.Ack(lease=assignment.lease))
        renewed = (await self.expect("lease_renewed")).lease_renewed
        assert renewed.ack == assignment.lease
        return assignment

    async def report(self, lease: pb.Lease, *, effects: str = "NONE", outcome: str = "NO_CHANGE", **more: Any) -> str:
        """Send a result; the kind of answer."""
        result = pb.Result(lease=lease, effects=effects, outcome=outcome, commits_answered=True, **more)
        await self.send(result=result)
        async with asyncio.timeout(PATIENCE):
            while True:
                for index, message in enumerate(self._inbox):
                    if message.WhichOneof("message") in ("result_accepted", "result_rejected"):
                        return str(self._inbox.pop(index).WhichOneof("message"))
                received = await self._read()
                assert received is not None, "the stream ended before the result was answered"
                self._inbox.append(received)

    async def end(self) -> grpc.StatusCode:
        """The status with which the server ended the stream; everything before is read."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    message = await self._read()
                except grpc.aio.AioRpcError:
                    break
                if message is None:
                    break
                self._inbox.append(message)
            code: grpc.StatusCode = await self._call.code()
            return code

    async def _read(self) -> pb.AttachResponse | None:
        message = await self._call.read()
        return message if isinstance(message, pb.AttachResponse) else None

    def break_off(self) -> None:
        """The connection is gone, without a word."""
        self._call.cancel()


@asynccontextmanager
async def scripted_executor(
    channel: grpc.aio.Channel, executor_id: str | None = None
) -> AsyncIterator[ScriptedExecutor]:
    call = pb_grpc.AssignmentServiceStub(channel).Attach()
    try:
        yield ScriptedExecutor(call, executor_id or str(uuid4()))
    finally:
        call.cancel()
