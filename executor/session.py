"""One attachment of this executor to one control-plane replica: the Attach stream as an object."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

import structlog
from grpc.aio import AioRpcError, StreamStreamCall

from executor import convert
from executor.assignment import Assignment, Lease, Plan, Progress, Result
from executor.convert import UnknownRequest
from executor.introduction import Introduction
from executor.lease import Clock
from floe.execution.v1 import assignment_pb2 as pb

logger = structlog.get_logger(__name__)

Call = StreamStreamCall[pb.AttachRequest, pb.AttachResponse]

_OUTBOX: Final = 64
_WELCOME_WITHIN: Final = 10.0
# Progress is for people: more often than this nobody reads it.
_PROGRESS_EVERY: Final = 1.0
# A peer that answers no heartbeat for so many of them is taken for dead, long before a lease lapses.
_SILENT_HEARTBEATS: Final = 3
_RESULT_REPEATED_AFTER_HEARTBEATS: Final = 2
_KEPT_HEARTBEATS: Final = 32


class Work(Protocol):
    """What this executor is doing, as a session needs to know it. Nothing in it depends on a session."""

    changed: asyncio.Event

    @property
    def leaving(self) -> str | None: ...
    def leases(self) -> Sequence[Lease]: ...
    def plans(self) -> Mapping[Lease, Plan]: ...
    def results(self) -> Mapping[Lease, Result]: ...
    def take_given_back(self) -> Mapping[Lease, str]: ...
    def take_progress(self) -> Mapping[Lease, Progress]: ...

    def attached(
        self, *, sent_at: int, ttl: timedelta, accepted: Sequence[Lease], refused: Sequence[Lease]
    ) -> None: ...
    def offered(self, assignment: Assignment, *, sent_at: int, ttl: timedelta) -> str | None: ...
    def permitted(self, lease: Lease) -> None: ...
    def renewed(self, leases: Sequence[Lease], *, sent_at: int, ttl: timedelta) -> None: ...
    def lost(self, lease: Lease, reason: str) -> None: ...
    def cancelled(self, lease: Lease, reason: str) -> None: ...
    def plan_stored(self, lease: Lease) -> None: ...
    async def answered(self, lease: Lease, *, rejected: str | None = None) -> None: ...
    def drain(self, reason: str) -> None: ...


class Looks(Protocol):
    """The observations of this executor."""

    changed: asyncio.Event

    def asked(self, message: pb.Observe) -> None: ...
    def take_answers(self) -> Sequence[pb.Observation]: ...


class SessionEnded(Exception):
    """The replica closed the stream, or said nothing for too long."""


class ExecutorSession:
    """Both directions of one stream, which live and die together.

    Receiving leads: the session ends when the replica closes its side, says nothing for three heartbeats, or sends what
    no replica may. Only one task writes. Nothing durable lives here: what is to be sent is asked of the work, so a new
    session begins where the last one broke off.
    """

    def __init__(self, call: Call, *, introduction: Introduction, work: Work, looks: Looks, clock: Clock) -> None:
        self._call = call
        self._introduction = introduction
        self._work = work
        self._looks = looks
        self._clock = clock
        self._outbox: asyncio.Queue[pb.AttachRequest | None] = asyncio.Queue(_OUTBOX)
        self._ttl = timedelta()
        self._heartbeat_interval = 1.0
        self._sequence = 0
        self._heartbeats: dict[int, int] = {}
        self._plans_sent: dict[Lease, Plan] = {}
        self._results_sent: dict[Lease, int] = {}
        self._said_draining = False
        self._closing = False
        self.welcomed = False
        """Whether it came to be; a session that did is no reason to wait before the next."""

    async def run(self) -> None:
        """Attach and serve until `close`, which returns normally; any other end raises."""
        await self._attach()
        async with asyncio.TaskGroup() as tasks:
            followers = [
                tasks.create_task(self._write()),
                tasks.create_task(self._beat()),
                tasks.create_task(self._say_progress()),
                tasks.create_task(self._say_when(self._work.changed, self._say_work)),
                tasks.create_task(self._say_when(self._looks.changed, self._say_observations)),
            ]
            try:
                await self._receive()
            finally:
                for follower in followers:
                    follower.cancel()

    async def close(self) -> None:
        """Have the session end politely: what is in the outbox is written first, then the replica ends the stream."""
        self._closing = True
        await self._outbox.put(None)

    async def _attach(self) -> None:
        sent_at = self._clock()
        async with asyncio.timeout(_WELCOME_WITHIN):
            hello = self._introduction.hello(self._work.leases())
            # A stream that never came to be shows here too, but why is told by the read.
            with contextlib.suppress(AioRpcError, asyncio.InvalidStateError):
                await self._call.write(pb.AttachRequest(hello=hello))
            answer = await self._call.read()
        if not isinstance(answer, pb.AttachResponse):
            raise SessionEnded("the replica ended the stream without a Welcome")
        if answer.WhichOneof("message") != "welcome":
            raise SessionEnded("the replica's first message is no Welcome")
        welcome = answer.welcome
        self._ttl = welcome.lease_ttl.ToTimedelta()
        self._heartbeat_interval = welcome.heartbeat_interval.ToTimedelta().total_seconds()
        if self._ttl <= timedelta() or not 0 < self._heartbeat_interval < self._ttl.total_seconds():
            raise SessionEnded("the Welcome's lease TTL and heartbeat interval make no sense")
        logger.info(
            "session.attached",
            session=welcome.session_id,
            replica=welcome.replica_id,
            accepted=len(welcome.accepted),
            refused=len(welcome.refused),
        )
        self._work.attached(
            sent_at=sent_at,
            ttl=self._ttl,
            accepted=[convert.lease(lease) for lease in welcome.accepted],
            refused=[convert.lease(lease) for lease in welcome.refused],
        )
        self.welcomed = True

    async def _receive(self) -> None:
        silence = self._heartbeat_interval * _SILENT_HEARTBEATS
        while True:
            try:
                async with asyncio.timeout(silence):
                    message = await self._call.read()
            except TimeoutError:
                raise SessionEnded(f"the replica said nothing for {silence:g} s") from None
            if not isinstance(message, pb.AttachResponse):
                if self._closing:
                    return
                raise SessionEnded("the replica ended the stream")
            await self._received(message)

    async def _received(self, message: pb.AttachResponse) -> None:
        match message.WhichOneof("message"):
            case "assignment":
                await self._take(message.assignment)
            case "lease_renewed":
                self._renewed(message.lease_renewed)
            case "lease_lost":
                self._work.lost(convert.lease(message.lease_lost.lease), message.lease_lost.reason)
            case "cancel":
                self._work.cancelled(convert.lease(message.cancel.lease), message.cancel.reason)
            case "plan_stored":
                self._work.plan_stored(convert.lease(message.plan_stored.lease))
            case "result_accepted":
                await self._work.answered(convert.lease(message.result_accepted.lease))
            case "result_rejected":
                rejected = message.result_rejected
                await self._work.answered(convert.lease(rejected.lease), rejected=rejected.reason or "rejected")
            case "observe":
                self._looks.asked(message.observe)
            case "drain":
                self._work.drain(message.drain.reason)
            case other:
                # A newer control plane says more than this version understands.
                logger.warning("session.message_ignored", message=other)

    async def _take(self, message: pb.Assignment) -> None:
        # Read before the Ack is sent: the first deadline counts from here.
        sent_at = self._clock()
        try:
            refusal = self._work.offered(convert.assignment(message), sent_at=sent_at, ttl=self._ttl)
        except UnknownRequest as unknown:
            refusal = str(unknown)
        if refusal is None:
            await self._outbox.put(pb.AttachRequest(ack=pb.Ack(lease=message.lease)))
        else:
            logger.info("assignment.refused", operation=message.lease.operation_id, reason=refusal)
            await self._outbox.put(pb.AttachRequest(nack=pb.Nack(lease=message.lease, reason=refusal)))

    def _renewed(self, message: pb.LeaseRenewed) -> None:
        match message.WhichOneof("answers"):
            case "ack":
                self._work.permitted(convert.lease(message.ack))
            case "heartbeat":
                sent_at = self._heartbeats.pop(message.heartbeat, None)
                if sent_at is not None:
                    leases = [convert.lease(lease) for lease in message.leases]
                    self._work.renewed(leases, sent_at=sent_at, ttl=self._ttl)

    async def _write(self) -> None:
        """The only writer: two tasks must never write to one stream."""
        # The stream's end shows here too, but what ended it is told by the read.
        with contextlib.suppress(AioRpcError, asyncio.InvalidStateError):
            while (message := await self._outbox.get()) is not None:
                await self._call.write(message)
            await self._call.done_writing()

    async def _beat(self) -> None:
        while True:
            self._sequence += 1
            # An unanswered heartbeat renews nothing, however late its answer: forget the oldest.
            while len(self._heartbeats) >= _KEPT_HEARTBEATS:
                del self._heartbeats[min(self._heartbeats)]
            self._heartbeats[self._sequence] = self._clock()
            beat = pb.Heartbeat(
                sequence=self._sequence,
                leases=map(convert.lease_to_wire, self._work.leases()),
                wall_time=convert.wall_time(),
            )
            await self._outbox.put(pb.AttachRequest(heartbeat=beat))
            self._forget_the_finished()
            await self._say_work()
            await asyncio.sleep(self._heartbeat_interval)

    def _forget_the_finished(self) -> None:
        plans, results = self._work.plans(), self._work.results()
        self._plans_sent = {lease: plan for lease, plan in self._plans_sent.items() if lease in plans}
        self._results_sent = {lease: sent for lease, sent in self._results_sent.items() if lease in results}

    async def _say_progress(self) -> None:
        while True:
            for lease, progress in self._work.take_progress().items():
                await self._outbox.put(pb.AttachRequest(progress=convert.progress_to_wire(lease, progress)))
            await asyncio.sleep(_PROGRESS_EVERY)

    async def _say_when(self, changed: asyncio.Event, say: Callable[[], Coroutine[None, None, None]]) -> None:
        while True:
            # Cleared before the step, not after: a change during the step is not lost.
            changed.clear()
            await say()
            await changed.wait()

    async def _say_work(self) -> None:
        if self._work.leaving is not None and not self._said_draining:
            self._said_draining = True
            await self._outbox.put(pb.AttachRequest(draining=pb.Draining(reason=self._work.leaving)))
        for lease, reason in self._work.take_given_back().items():
            nack = pb.Nack(lease=convert.lease_to_wire(lease), reason=reason)
            await self._outbox.put(pb.AttachRequest(nack=nack))
        for lease, plan in self._work.plans().items():
            if self._plans_sent.get(lease) is not plan:
                self._plans_sent[lease] = plan
                await self._outbox.put(pb.AttachRequest(plan=convert.plan_to_wire(lease, plan)))
        for lease, result in list(self._work.results().items()):
            sent = self._results_sent.get(lease)
            if sent is None or self._sequence - sent >= _RESULT_REPEATED_AFTER_HEARTBEATS:
                self._results_sent[lease] = self._sequence
                await self._outbox.put(pb.AttachRequest(result=convert.result_to_wire(lease, result)))

    async def _say_observations(self) -> None:
        for answer in self._looks.take_answers():
            await self._outbox.put(pb.AttachRequest(observation=answer))
