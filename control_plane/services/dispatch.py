"""Between the queue and the executors: sessions on this replica, what is handed out to them, and what their messages
change.

A seat is one live session of one executor on this replica. Nothing durable lives here: leases are rows, and losing a
seat costs at most the time until the executor attaches again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from control_plane.domain import decisions
from control_plane.domain.catalog import Catalog
from control_plane.domain.errors import CatalogNotFound, OperationNotFound, ProtocolVersionUnsupported
from control_plane.domain.executor import Capabilities, Executor
from control_plane.domain.identifiers import ExecutorId, Lane, ObservationId, OperationId, ReplicaId, SessionId
from control_plane.domain.observation import (
    Answer,
    Observation,
    ObservationError,
    ObservationKind,
    ObservationRequest,
    Stamp,
)
from control_plane.domain.operation import Change, Lease, Operation, OperationState, Plan, Progress, Result
from control_plane.domain.rules import Rules
from control_plane.ports.operations import ClaimRequest, Decide, Renewal, Reported, Verdict
from control_plane.ports.records import ObservationClaim, Store
from shared.wire.protocol import ACCEPTED_PROTOCOL_VERSIONS

MAX_CLOCK_SKEW: Final = timedelta(minutes=5)
_ORDERS: Final = 256
_LOOK_WITHIN: Final = timedelta(minutes=5)
_OTHER_TABLE: Final = frozenset({"table_replaced", "table_gone"})
_RETRY_CHAIN: Final = 20


@dataclass(frozen=True, slots=True)
class Hello:
    """What an executor says of itself when it attaches."""

    protocol: int
    executor: ExecutorId
    display_name: str
    software_version: str
    capabilities: Capabilities
    leases: Sequence[Lease]
    wall_time: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """An assignment to hand out, with everything that the executor needs for it."""

    operation: Operation
    catalog: Catalog
    earlier: Sequence[Stamp]
    earlier_snapshots: Sequence[int]


@dataclass(frozen=True, slots=True)
class Look:
    """An observation to hand out."""

    observation: Observation
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class CancelOrder:
    lease: Lease
    reason: str


@dataclass(frozen=True, slots=True)
class DrainOrder:
    reason: str


Order = Grant | Look | CancelOrder | DrainOrder


@dataclass(slots=True, eq=False)
class Seat:
    """One live session on this replica. `held` are the leases handed out to it, `looking` its open observations."""

    session: SessionId
    executor: ExecutorId
    capabilities: Capabilities
    age_based: bool
    orders: asyncio.Queue[Order] = field(default_factory=lambda: asyncio.Queue(_ORDERS))
    held: dict[OperationId, Lease] = field(default_factory=dict)
    metadata: set[OperationId] = field(default_factory=set)
    """Those of them that are in the metadata lane."""
    looking: set[ObservationId] = field(default_factory=set)
    cancelled: set[Lease] = field(default_factory=set)
    draining: bool = False
    solo: OperationId | None = None
    """The last operation that was handed out to run alone: while it is held, nothing else is."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when another session of the same executor took its place, or when it does not read its orders."""

    def hold(self, operation: Operation) -> None:
        self.held[operation.id] = operation.lease
        if self.capabilities.lane(operation.type) is Lane.METADATA:
            self.metadata.add(operation.id)

    def let_go(self, lease: Lease) -> None:
        self.held.pop(lease.operation, None)
        self.metadata.discard(lease.operation)
        self.cancelled.discard(lease)

    def free(self, lane: Lane) -> int:
        """How many operations of that lane it can be given."""
        if self.draining or (self.solo is not None and self.solo in self.held) or not self.capabilities.types(lane):
            return 0
        busy = len(self.metadata) if lane is Lane.METADATA else len(self.held) - len(self.metadata)
        return max(0, self.capabilities.slots_of(lane) - busy)

    @property
    def free_looks(self) -> int:
        return max(0, self.capabilities.observation_slots - len(self.looking))


@dataclass(frozen=True, slots=True)
class Attached:
    """The answer to a Hello. Leases that are still unacknowledged are neither accepted nor refused: they are handed out
    once more.
    """

    seat: Seat
    accepted: Sequence[Lease]
    refused: Sequence[Lease]


class Dispatcher:
    """Attaches executors, hands out work to them, and carries what they report into the store."""

    def __init__(self, store: Store, *, replica: ReplicaId, rules: Rules) -> None:
        self._store = store
        self._replica = replica
        self._rules = rules
        self._seats: dict[SessionId, Seat] = {}
        self._given_last: Lane | None = None

    @property
    def rules(self) -> Rules:
        return self._rules

    @property
    def seats(self) -> Sequence[Seat]:
        return tuple(self._seats.values())

    # -- sessions

    async def attach(self, hello: Hello) -> Attached:
        """Make this the executor's only current session, and settle which of its leases hold on."""
        if hello.protocol not in ACCEPTED_PROTOCOL_VERSIONS:
            supported = ", ".join(map(str, ACCEPTED_PROTOCOL_VERSIONS))
            raise ProtocolVersionUnsupported(spoken=hello.protocol, supported=supported)
        now = await self._store.now()
        skew = hello.wall_time - now
        session = SessionId(str(uuid4()))
        executor = Executor(
            hello.executor,
            hello.display_name,
            hello.software_version,
            hello.capabilities,
            attach_time=now,
            last_heartbeat_time=now,
            session=session,
            replica=self._replica,
            clock_skew=skew,
        )
        await self._store.executors.attach(executor)
        seat = Seat(
            session,
            hello.executor,
            hello.capabilities,
            age_based=abs(skew) <= MAX_CLOCK_SKEW,
        )
        accepted: list[Lease] = []
        refused: list[Lease] = []
        for lease in hello.leases:
            operation = await self._resume(seat, lease)
            if operation is None:
                refused.append(lease)
                continue
            seat.hold(operation)
            if operation.state is OperationState.LEASED:
                catalog = await self._store.catalogs.get(operation.catalog)
                seat.orders.put_nowait(await self._grant(operation, catalog))
            else:
                accepted.append(lease)
        for older in self.seats:
            if older.executor == hello.executor:
                older.over.set()
        self._seats[session] = seat
        self._store.hints.give("operations")
        self._store.hints.give("observations")
        return Attached(seat, accepted, refused)

    async def detach(self, seat: Seat) -> None:
        """The stream ended. Leases are not touched: the executor may attach to another replica with them."""
        self._seats.pop(seat.session, None)
        await self._store.executors.detach(seat.session)

    def end_sessions(self, reason: str) -> None:
        """Give nothing more to anybody, and tell every executor to go elsewhere."""
        for seat in self._seats.values():
            seat.draining = True
            _order(seat, DrainOrder(reason))

    async def leave(self, seat: Seat) -> None:
        """The executor stops: it is given nothing more, and what it has not started goes back by its own Nacks."""
        seat.draining = True
        await self._store.executors.leave(seat.session)

    # -- what executors say of their leases

    async def acknowledge(self, seat: Seat, lease: Lease) -> Operation | None:
        """RUNNING: the executor may start. CANCELLED: it must not. None: the lease is not its any more."""
        operation = await self._change(
            seat,
            lease,
            lambda op, now: (
                decisions.acked(op, now, session=seat.session, rules=self._rules)
                if op.state is OperationState.LEASED
                else None
            ),
        )
        if operation is None:
            current = await self._current(lease)
            if current is not None and current.state is OperationState.RUNNING and current.session == seat.session:
                return current
        if operation is None or operation.is_terminal:
            self._release(seat, lease)
        return operation

    async def refuse(self, seat: Seat, lease: Lease, reason: str) -> None:
        """A Nack: nothing was touched, another executor may have it."""
        drain = seat.draining

        def decide(operation: Operation, now: datetime) -> Change | None:
            if operation.state is not OperationState.LEASED:
                return None
            if drain:
                return decisions.drained(operation, now, rules=self._rules)
            return decisions.returned(operation, now, reason=f"refused: {reason}", rules=self._rules, nacked=True)

        await self._change(seat, lease, decide)
        self._release(seat, lease)

    async def heartbeat(self, seat: Seat, leases: Sequence[Lease]) -> Renewal:
        """Renew exactly the leases listed; those in RECONCILING come back if nothing was decided yet."""
        if not leases and not seat.held:
            return Renewal((), (), (), ())
        renewal = await self._store.operations.renew(seat.session, leases, heartbeat=True)
        renewed, lost = list(renewal.renewed), list(renewal.lost)
        for lease in renewal.lapsed:
            back = await self._change(seat, lease, self._come_back(seat))
            (renewed if back is not None else lost).append(lease)
        for lease in lost:
            self._release(seat, lease)
        return replace(renewal, renewed=tuple(renewed), lapsed=(), lost=tuple(lost))

    async def plan(self, seat: Seat, lease: Lease, plan: Plan) -> bool:
        """Store what the attempt is about to do. False: the lease is stale, nothing may start."""
        decided = await self._change(
            seat,
            lease,
            lambda op, now: decisions.planned(op, now, plan=plan) if op.state is OperationState.RUNNING else None,
        )
        return decided is not None

    async def progress(self, seat: Seat, reports: Mapping[Lease, Progress]) -> None:
        await self._store.operations.record_progress(
            {lease.operation: p for lease, p in reports.items()}, leases=tuple(reports)
        )

    async def report(self, seat: Seat, lease: Lease, result: Result) -> Reported:
        """An attempt's result, from whichever session it comes; the lease and the stored results decide what it is
        worth.
        """
        try:
            reported = await self._store.operations.report(
                lease, result, lambda op, now: decisions.reported(op, now, result=result, rules=self._rules)
            )
        finally:
            self._release(seat, lease)
        if reported.verdict is Verdict.ACCEPTED:
            self._store.hints.give("events")
            if reported.operation.is_terminal:
                self._store.hints.give("targets")  # The next interval begins.
            if reported.operation.state is OperationState.VERIFYING:
                self._store.hints.give("due")  # Its verification is.
            if reported.operation.state_reason in _OTHER_TABLE:
                await self._look_again(reported.operation)
        return reported

    async def _look_again(self, operation: Operation) -> None:
        """The executor found another table, or none, under the name: have it looked up again."""
        request = ObservationRequest(ObservationKind.LOAD_TABLE, operation.catalog, table=operation.table)
        await self._store.observations.open(request, within=_LOOK_WITHIN, timeout=_LOOK_WITHIN)
        self._store.hints.give("observations")

    # -- looks

    async def answer(self, seat: Seat, observation: ObservationId, *, epoch: int, answer: Answer) -> None:
        """An observation's answer; one under a late epoch is dropped."""
        seat.looking.discard(observation)
        await self._store.observations.answer(observation, epoch=epoch, session=seat.session, answer=answer)
        self._store.hints.give("answers")
        self._store.hints.give("observations")

    # -- handing out

    async def hand_out(self) -> int:
        """Claim for the free slots of this replica's sessions; how many operations were handed out."""
        handed = 0
        free = [(seat, lane) for seat in self._seats.values() for lane in Lane if seat.free(lane)]
        # For one lane of one session the claim itself is as cheap as the question.
        if not free or (len(free) > 1 and not await self._store.operations.claimable()):
            return 0
        # Lanes share the limits of catalogs, engines and labels: whichever always asked first would take all of them.
        for seat, lane in sorted(free, key=lambda each: (each[1] is self._given_last, -each[0].free(each[1]))):
            # Read anew: what the other lane was given may have to run alone.
            if not (slots := seat.free(lane)):
                continue
            request = ClaimRequest(
                seat.session,
                seat.executor,
                seat.capabilities.engine,
                seat.capabilities.types(lane),
                seat.capabilities.catalogs,
                seat.capabilities.labels,
                slots=slots,
                alone=not seat.held,
                age_based=seat.age_based,
            )
            for claimed in await self._store.operations.claim(request):
                operation = claimed.operation
                # Held only once it is ordered: what fails in between goes back to the queue, and takes no slot here.
                grant = await self._grant(operation, claimed.catalog)
                seat.hold(operation)
                seat.solo = operation.id if operation.solo else seat.solo
                _order(seat, grant)
                self._given_last = lane
                handed += 1
        if handed:
            self._store.hints.give("events")
        return handed

    async def hand_out_looks(self) -> int:
        """The same for observations."""
        handed = 0
        free = [seat for seat in self._seats.values() if seat.free_looks]
        if not free or not await self._store.observations.claimable():
            return 0
        for seat in sorted(free, key=lambda seat: -seat.free_looks):
            kinds = [
                ObservationKind(kind)
                for kind in seat.capabilities.observation_kinds
                if kind in ObservationKind.__members__
            ]
            claim = ObservationClaim(seat.session, seat.executor, kinds, seat.capabilities.catalogs, seat.free_looks)
            for observation in await self._store.observations.claim(claim):
                handed += 1
                try:
                    catalog = await self._store.catalogs.get(observation.request.catalog)
                except CatalogNotFound as gone:
                    nothing = ObservationError("NOT_FOUND", str(gone))
                    await self.answer(seat, observation.id, epoch=observation.epoch, answer=nothing)
                    continue
                seat.looking.add(observation.id)
                _order(seat, Look(observation, catalog))
        return handed

    async def pass_on_cancels(self) -> None:
        """Tell executors of this replica which of their leases are to stop."""
        holders = {seat.executor: seat for seat in self._seats.values() if seat.held}
        if not holders:
            return
        for lease in await self._store.operations.cancel_requests(tuple(holders)):
            for seat in holders.values():
                if seat.held.get(lease.operation) == lease and lease not in seat.cancelled:
                    seat.cancelled.add(lease)
                    _order(seat, CancelOrder(lease, "cancelled on request"))

    async def touch(self) -> None:
        """All executors of this replica were heard of; one statement."""
        if self._seats:
            await self._store.executors.touch(tuple(self._seats))

    # -- inside

    async def _resume(self, seat: Seat, lease: Lease) -> Operation | None:
        """The lease's operation as the new session finds it; None if the lease is over."""
        come_back = self._come_back(seat)

        def decide(operation: Operation, now: datetime) -> Change | None:
            if operation.state is OperationState.LEASED:
                # Not acknowledged, so not extended: only the session is another one.
                return Change(replace(operation, session=seat.session))
            return come_back(operation, now)

        return await self._change(seat, lease, decide)

    def _come_back(self, seat: Seat) -> Decide:
        return lambda operation, now: decisions.came_back(operation, now, session=seat.session, rules=self._rules)

    async def _change(self, seat: Seat, lease: Lease, decide: Decide) -> Operation | None:
        try:
            operation = await self._store.operations.change(lease.operation, decide, lease=lease, session=seat.session)
        except OperationNotFound:
            return None
        if operation is not None:
            self._store.hints.give("events")
        return operation

    async def _current(self, lease: Lease) -> Operation | None:
        try:
            operation = await self._store.operations.get(lease.operation)
        except OperationNotFound:
            return None
        return operation if operation.lease == lease else None

    def _release(self, seat: Seat, lease: Lease) -> None:
        # By whichever session it came, the slot is that of the seat that holds the lease.
        for holder in self._holders(lease) or (seat,):
            holder.let_go(lease)
        self._store.hints.give("operations")

    def _holders(self, lease: Lease) -> list[Seat]:
        return [seat for seat in self._seats.values() if seat.held.get(lease.operation) == lease]

    async def _grant(self, operation: Operation, catalog: Catalog) -> Grant:
        stamps: list[Stamp] = []
        snapshots: list[int] = []
        if operation.attempt > 1 or operation.retry_of is not None:
            async for earlier in self._lineage(operation):
                for attempt in await self._store.operations.attempts(earlier.id):
                    if attempt.decided_by != "returned" and (earlier.id, attempt.epoch) != (
                        operation.id,
                        operation.epoch,
                    ):
                        stamps.append(Stamp(earlier.id, attempt.epoch))
                        snapshots.extend(attempt.plan.expiring_snapshots if attempt.plan else ())
        return Grant(operation, catalog, tuple(stamps), tuple(dict.fromkeys(snapshots)))

    async def _lineage(self, operation: Operation) -> AsyncIterator[Operation]:
        """The operation and those that it retries, newest first."""
        for _ in range(_RETRY_CHAIN):
            yield operation
            if operation.retry_of is None:
                return
            try:
                operation = await self._store.operations.get(operation.retry_of)
            except OperationNotFound:
                return


def _order(seat: Seat, order: Order) -> None:
    """Queue an order. A seat that does not read ends: its executor attaches anew, and that settles what it has."""
    try:
        seat.orders.put_nowait(order)
    except asyncio.QueueFull:
        seat.over.set()
