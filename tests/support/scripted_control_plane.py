"""A control plane whose every message is the test's own, on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from floe.execution.v1 import assignment_pb2 as pb
from floe.execution.v1 import assignment_pb2_grpc as pb_grpc
from shared.wire.transport import MAX_EXECUTION_MESSAGE_BYTES, server_options

PATIENCE = 15.0


class Stream:
    """One session of an executor, seen from the control plane.

    `renews` says which of a heartbeat's leases its answer renews: all, until a test wants less; None: no answer at all.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._inbox: list[pb.AttachRequest] = []
        self._arrived = asyncio.Condition()
        self._over = asyncio.Event()
        self._half_closed = False
        self.renews: Callable[[pb.Heartbeat], Sequence[pb.Lease] | None] = lambda beat: beat.leases
        self.error: tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]] | None = None

    async def send(self, **message: Any) -> None:
        async with self._lock:
            await self._context.write(pb.AttachResponse(**message))

    async def expect(self, kind: str, **fields: Any) -> Any:
        """The next message of this kind with these values, past any others; those stay for later."""

        def wanted(message: pb.AttachRequest) -> bool:
            if message.WhichOneof("message") != kind:
                return False
            inner = getattr(message, kind)
            return all(getattr(inner, name) == value for name, value in fields.items())

        try:
            async with asyncio.timeout(PATIENCE), self._arrived:
                while not (found := [message for message in self._inbox if wanted(message)]):
                    if self._half_closed:
                        raise AssertionError(f"the executor left without {kind}; it said {self.said()}")
                    await self._arrived.wait()
        except TimeoutError:
            raise AssertionError(f"no {kind} {fields or ''} within {PATIENCE:g} s; there is {self.said()}") from None
        self._inbox.remove(found[0])
        return getattr(found[0], kind)

    def said(self, kind: str | None = None) -> list[Any]:
        """What has arrived and was not expected yet, heartbeats apart."""
        names = [(message.WhichOneof("message") or "nothing", message) for message in self._inbox]
        if kind is not None:
            return [getattr(message, name) for name, message in names if name == kind]
        return [name for name, _ in names if name != "heartbeat"]

    async def welcome(
        self,
        *,
        ttl: timedelta = timedelta(seconds=60),
        heartbeat: timedelta = timedelta(milliseconds=200),
        accepted: Sequence[pb.Lease] = (),
        refused: Sequence[pb.Lease] = (),
    ) -> pb.Hello:
        """Answer the Hello, which is returned."""
        hello: pb.Hello = await self.expect("hello")
        welcome = pb.Welcome(
            session_id="s1",
            lease_ttl=duration(ttl),
            heartbeat_interval=duration(heartbeat),
            accepted=accepted,
            refused=refused,
            protocol_version=1,
            replica_id="r1",
        )
        await self.send(welcome=welcome)
        return hello

    async def grant(self, assignment: pb.Assignment) -> pb.Lease:
        """Assign, take the Ack, and give permission to start."""
        await self.send(assignment=assignment)
        await self.expect("ack", lease=assignment.lease)
        await self.permit(assignment.lease)
        return assignment.lease

    async def permit(self, lease: pb.Lease) -> None:
        await self.send(lease_renewed=pb.LeaseRenewed(ack=lease, leases=[lease]))

    async def heartbeats(self, count: int) -> None:
        """Wait until so many more have come: what the executor was told before them, it has dealt with."""
        self._inbox = [message for message in self._inbox if message.WhichOneof("message") != "heartbeat"]
        for _ in range(count):
            await self.expect("heartbeat")

    def end(self) -> None:
        """Break the stream off, as a replica that dies."""
        self._over.set()

    async def _answer(self, beat: pb.Heartbeat) -> None:
        if (leases := self.renews(beat)) is not None:
            await self.send(lease_renewed=pb.LeaseRenewed(heartbeat=beat.sequence, leases=leases))

    async def serve(self, requests: AsyncIterator[pb.AttachRequest]) -> None:
        async def receive() -> None:
            async for message in requests:
                if message.WhichOneof("message") == "heartbeat":
                    await self._answer(message.heartbeat)
                async with self._arrived:
                    self._inbox.append(message)
                    self._arrived.notify_all()
            async with self._arrived:
                self._half_closed = True
                self._arrived.notify_all()

        receiving = asyncio.ensure_future(receive())
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait([receiving, over], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (receiving, over):
                task.cancel()
            await asyncio.gather(receiving, over, return_exceptions=True)
        if self.error is not None:
            code, details, metadata = self.error
            await self._context.abort(code, details, metadata)


class ScriptedControlPlane(pb_grpc.AssignmentServiceServicer):
    """Hands each stream to the test."""

    def __init__(self) -> None:
        self._streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.address = ""

    async def Attach(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # it writes
        stream = Stream(context)
        self._streams.put_nowait(stream)
        await stream.serve(request_iterator)

    async def attached(self) -> Stream:
        """The next stream, before its Welcome."""
        async with asyncio.timeout(PATIENCE):
            return await self._streams.get()


@asynccontextmanager
async def scripted_control_plane(address: str = "127.0.0.1:0") -> AsyncIterator[ScriptedControlPlane]:
    control_plane = ScriptedControlPlane()
    server = grpc.aio.server(options=server_options(max_message_bytes=MAX_EXECUTION_MESSAGE_BYTES))
    pb_grpc.add_AssignmentServiceServicer_to_server(control_plane, server)
    port = server.add_insecure_port(address)
    control_plane.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield control_plane
    finally:
        await server.stop(0)


def assignment(
    operation: str = "o1", *, epoch: int = 1, uuid: str = "u1", timeout: timedelta = timedelta(hours=6), **more: Any
) -> pb.Assignment:
    """A rewrite of the fake table `uuid`, unless `more` says otherwise."""
    if "expire_snapshots" not in more:
        more.setdefault("rewrite_data_files", pb.RewriteDataFiles(strategy="BINPACK"))
    return pb.Assignment(
        lease=pb.Lease(operation_id=operation, epoch=epoch, token=f"{operation}-{epoch}".encode().ljust(16, b".")),
        attempt=epoch,
        ack_within=duration(timedelta(seconds=5)),
        table=pb.TableRef(namespace=["sales"], name="events", uuid=uuid, location=f"fake://{uuid}"),
        catalog=pb.CatalogRecord(name="lake", type="rest", uri="http://127.0.0.1:1", generation=1),
        policy_name="p",
        timeout=duration(timeout),
        cancel_grace=duration(timedelta(seconds=30)),
        **more,
    )


def duration(length: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(length)
    return message


def timestamp(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)
