"""The stream between the control plane and one executor.

Receiving leads: the session ends when the executor closes its side, says nothing for a lease's TTL, or leaves an
assignment unacknowledged. Only one task writes. Nothing durable lives here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog
from opentelemetry.trace import SpanKind

from control_plane.domain.errors import FieldViolation, InvalidArgument, OperationNotFound, SessionSuperseded
from control_plane.domain.identifiers import CatalogName, ObservationId, OperationId, ReplicaId
from control_plane.domain.operation import Lease, OperationState, Progress
from control_plane.ports.operations import Verdict
from control_plane.rpc.convert import execution as convert
from control_plane.rpc.convert import observations
from control_plane.services.dispatch import CancelOrder, Dispatcher, DrainOrder, Grant, Look, Seat
from floe.execution.v1 import assignment_pb2 as pb
from floe.execution.v1 import assignment_pb2_grpc as pb_grpc
from shared.telemetry.traces import current_traceparent, span_from
from shared.wire.protocol import PROTOCOL_VERSION

if TYPE_CHECKING:
    import grpc.aio

    Context = grpc.aio.ServicerContext[pb.AttachRequest, pb.AttachResponse]

logger = structlog.get_logger(__name__)

_OUTBOX: Final = 256
_PROGRESS_EVERY: Final = 1.0
_HELLO_WITHIN: Final = 10.0

Write = Callable[[pb.AttachResponse], Awaitable[None]]


class AssignmentServicer(pb_grpc.AssignmentServiceServicer):
    """Serves executors: one session a stream."""

    def __init__(self, dispatcher: Dispatcher, *, replica: ReplicaId, heartbeat: timedelta) -> None:
        self._dispatcher = dispatcher
        self._replica = replica
        self._heartbeat = heartbeat
        self._leaving = asyncio.Event()
        self._streams = 0
        self._empty = asyncio.Event()

    async def Attach(  # type: ignore[override]  # the stub knows generators only; this handler writes
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Context
    ) -> None:
        session = ExecutorSession(
            self._dispatcher, replica=self._replica, heartbeat=self._heartbeat, leaving=self._leaving
        )
        self._streams += 1
        try:
            await session.run(request_iterator, context.write)
        finally:
            self._streams -= 1
            if self._streams == 0:
                self._empty.set()

    async def drain(self, within: timedelta) -> None:
        """End every session, as this replica stops: its executors attach to another one with their leases."""
        self._dispatcher.end_sessions("this replica stops")
        self._leaving.set()
        if self._streams:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within.total_seconds()):
                    await self._empty.wait()


class ExecutorSession:
    """Both directions of one executor's stream, which live and die together."""

    def __init__(
        self, dispatcher: Dispatcher, *, replica: ReplicaId, heartbeat: timedelta, leaving: asyncio.Event
    ) -> None:
        self._dispatcher = dispatcher
        self._replica = replica
        self._heartbeat = heartbeat
        self._leaving = leaving
        self._outbox: asyncio.Queue[pb.AttachResponse] = asyncio.Queue(_OUTBOX)
        self._unacked: dict[OperationId, tuple[Lease, float]] = {}
        self._looks: dict[ObservationId, CatalogName] = {}
        self._progress: dict[Lease, Progress] = {}

    async def run(self, requests: AsyncIterator[pb.AttachRequest], write: Write) -> None:
        seat = await self._greet(requests, write)
        log = logger.bind(executor=seat.executor, session=seat.session)
        log.info(
            "session.attached", engine=seat.capabilities.engine, slots=seat.capabilities.slots, leases=len(seat.held)
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                followers = [
                    tasks.create_task(self._give_orders(seat)),
                    tasks.create_task(self._send(write)),
                    tasks.create_task(self._expect_acks()),
                    tasks.create_task(self._write_progress(seat)),
                    tasks.create_task(_until_over(seat)),
                    tasks.create_task(_until_leaving(self._leaving)),
                ]
                await self._receive(seat, requests)
                for follower in followers:
                    follower.cancel()
        except* (_Unacknowledged, _Leaving):
            pass  # The end of the stream is the answer.
        finally:
            await self._dispatcher.detach(seat)
            log.info("session.detached", leases=len(seat.held))

    async def _greet(self, requests: AsyncIterator[pb.AttachRequest], write: Write) -> Seat:
        async with asyncio.timeout(_HELLO_WITHIN):
            first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("message") != "hello":
            raise InvalidArgument([FieldViolation("message", "the first message of a stream must be a hello")])
        attached = await self._dispatcher.attach(convert.hello_from_proto(first.hello))
        welcome = pb.Welcome(
            session_id=attached.seat.session,
            protocol_version=PROTOCOL_VERSION,
            replica_id=self._replica,
            accepted=[convert.lease_to_proto(lease) for lease in attached.accepted],
            refused=[convert.lease_to_proto(lease) for lease in attached.refused],
        )
        welcome.lease_ttl.FromTimedelta(self._dispatcher.rules.lease_ttl)
        welcome.heartbeat_interval.FromTimedelta(self._heartbeat)
        await write(pb.AttachResponse(welcome=welcome))
        return attached.seat

    async def _receive(self, seat: Seat, requests: AsyncIterator[pb.AttachRequest]) -> None:
        silence = self._dispatcher.rules.lease_ttl.total_seconds()
        incoming = aiter(requests)
        while True:
            try:
                async with asyncio.timeout(silence):
                    request = await anext(incoming, None)
            except TimeoutError:
                logger.warning("session.silent", executor=seat.executor, seconds=silence)
                return
            if request is None:
                return
            await self._handle(seat, request)

    async def _handle(self, seat: Seat, request: pb.AttachRequest) -> None:
        match request.WhichOneof("message"):
            case "ack":
                await self._ack(seat, convert.lease_from_proto(request.ack.lease))
            case "nack":
                lease = convert.lease_from_proto(request.nack.lease)
                self._unacked.pop(lease.operation, None)
                await self._dispatcher.refuse(seat, lease, convert.text(request.nack.reason, 200))
            case "heartbeat":
                await self._renew(seat, request.heartbeat)
            case "plan":
                await self._plan(seat, request.plan)
            case "progress":
                lease = convert.lease_from_proto(request.progress.lease)
                if seat.held.get(lease.operation) == lease:
                    self._progress[lease] = convert.progress_from_proto(request.progress, datetime.now(UTC))
            case "result":
                await self._result(seat, request.result)
            case "observation":
                await self._observation(seat, request.observation)
            case "draining":
                await self._dispatcher.leave(seat)
            case "hello":
                raise InvalidArgument([FieldViolation("message", "a stream has one hello, its first message")])
            case _:
                # A newer executor's message: what it means is not known here, and nothing depends on it.
                logger.info("message.unknown", executor=seat.executor)

    async def _ack(self, seat: Seat, lease: Lease) -> None:
        self._unacked.pop(lease.operation, None)
        operation = await self._dispatcher.acknowledge(seat, lease)
        if operation is None:
            await self._lost(lease, "it was not acknowledged in time")
        elif operation.state is OperationState.RUNNING:
            proto = convert.lease_to_proto(lease)
            await self._outbox.put(pb.AttachResponse(lease_renewed=pb.LeaseRenewed(ack=proto, leases=[proto])))
        else:
            await self._outbox.put(_cancel(lease, operation.cancel_reason or "cancelled"))

    async def _renew(self, seat: Seat, heartbeat: pb.Heartbeat) -> None:
        leases = [convert.lease_from_proto(lease) for lease in heartbeat.leases[: convert.MAX_LEASES]]
        renewal = await self._dispatcher.heartbeat(seat, leases)
        renewed = [convert.lease_to_proto(lease) for lease in renewal.renewed]
        answer = pb.LeaseRenewed(heartbeat=heartbeat.sequence, leases=renewed)
        await self._outbox.put(pb.AttachResponse(lease_renewed=answer))
        for lease in renewal.lost:
            await self._lost(lease, "it lapsed, or is another's now")
        for lease in renewal.renewed:
            if lease.operation in renewal.cancelled and lease not in seat.cancelled:
                seat.cancelled.add(lease)
                await self._outbox.put(_cancel(lease, "cancelled on request"))

    async def _plan(self, seat: Seat, report: pb.PlanReport) -> None:
        lease = convert.lease_from_proto(report.lease)
        if await self._dispatcher.plan(seat, lease, convert.plan_from_proto(report)):
            await self._outbox.put(pb.AttachResponse(plan_stored=pb.PlanStored(lease=report.lease)))
        else:
            await self._lost(lease, "it is not current, so nothing may start")

    async def _result(self, seat: Seat, report: pb.Result) -> None:
        lease = convert.lease_from_proto(report.lease)
        self._progress.pop(lease, None)
        try:
            reported = await self._dispatcher.report(seat, lease, convert.result_from_proto(report))
        except OperationNotFound as unknown:
            # Past retention, or of another deployment: nobody here will ever want it.
            rejected = pb.ResultRejected(lease=report.lease, reason=str(unknown))
            await self._outbox.put(pb.AttachResponse(result_rejected=rejected))
            return
        if reported.verdict is Verdict.REJECTED:
            rejected = pb.ResultRejected(lease=report.lease, reason=reported.reason)
            await self._outbox.put(pb.AttachResponse(result_rejected=rejected))
        else:
            await self._outbox.put(pb.AttachResponse(result_accepted=pb.ResultAccepted(lease=report.lease)))

    async def _observation(self, seat: Seat, answer: pb.Observation) -> None:
        identity = observations.observation_id(answer)
        catalog = self._looks.pop(identity, None)
        if catalog is None:
            return  # Not handed out by this session: whoever has it now will answer.
        await self._dispatcher.answer(
            seat, identity, epoch=answer.epoch, answer=observations.answer_from_proto(catalog, answer)
        )

    async def _lost(self, lease: Lease, reason: str) -> None:
        lost = pb.LeaseLost(lease=convert.lease_to_proto(lease), reason=reason)
        await self._outbox.put(pb.AttachResponse(lease_lost=lost))

    async def _give_orders(self, seat: Seat) -> None:
        loop = asyncio.get_running_loop()
        while True:
            match await seat.orders.get():
                case Grant() as grant:
                    operation, lease = grant.operation, grant.operation.lease
                    about: dict[str, str | int] = {
                        "floe.operation.id": operation.id,
                        "floe.operation.attempt": operation.attempt,
                    }
                    with span_from(operation.traceparent, "dispatch", kind=SpanKind.PRODUCER, attributes=about):
                        assignment = convert.grant_to_proto(grant, self._dispatcher.rules)
                        assignment.traceparent = current_traceparent()
                    self._unacked[lease.operation] = (lease, loop.time())
                    await self._outbox.put(pb.AttachResponse(assignment=assignment))
                case Look() as look:
                    self._looks[look.observation.id] = look.catalog.name
                    await self._outbox.put(pb.AttachResponse(observe=observations.look_to_proto(look)))
                case CancelOrder(lease, reason):
                    await self._outbox.put(_cancel(lease, reason))
                case DrainOrder(reason):
                    await self._outbox.put(pb.AttachResponse(drain=pb.Drain(reason=reason)))

    async def _send(self, write: Write) -> None:
        """The only writer: two coroutines must never write to one stream."""
        while True:
            await write(await self._outbox.get())

    async def _expect_acks(self) -> None:
        """A missed ack ends the session: the executor comes back with a new Hello, which settles what it has."""
        loop = asyncio.get_running_loop()
        patience = self._dispatcher.rules.ack_within.total_seconds()
        while True:
            await asyncio.sleep(patience / 5)
            now = loop.time()
            for lease, sent in self._unacked.values():
                if now - sent > patience:
                    logger.warning("assignment.unacknowledged", operation=lease.operation, epoch=lease.epoch)
                    raise _Unacknowledged

    async def _write_progress(self, seat: Seat) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_EVERY)
            if self._progress:
                reports, self._progress = self._progress, {}
                await self._dispatcher.progress(seat, reports)


class _Unacknowledged(Exception):
    """An assignment was not acknowledged in time."""


class _Leaving(Exception):
    """This replica stops."""


async def _until_leaving(leaving: asyncio.Event) -> None:
    await leaving.wait()
    raise _Leaving


async def _until_over(seat: Seat) -> None:
    await seat.over.wait()
    raise SessionSuperseded(seat.session)


def _cancel(lease: Lease, reason: str) -> pb.AttachResponse:
    return pb.AttachResponse(cancel=pb.Cancel(lease=convert.lease_to_proto(lease), reason=reason))
