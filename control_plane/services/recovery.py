"""What has to happen to operations without anybody asking: missed acks, lapsed leases, evidence, verification,
deadlines.

Any replica may do any of it at any time: each step is a decision under the operation's row lock, judged by the store's
clock, and one that is no longer due changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

import structlog

from control_plane.domain import decisions
from control_plane.domain.decisions import EvidenceFound
from control_plane.domain.errors import OperationNotFound
from control_plane.domain.evidence import judge
from control_plane.domain.identifiers import OperationId
from control_plane.domain.observation import (
    Evidence,
    Observation,
    ObservationError,
    ObservationKind,
    ObservationRequest,
    Stamp,
    Verdict,
)
from control_plane.domain.operation import (
    Change,
    Effects,
    FailureClass,
    Finding,
    Operation,
    OperationState,
    Outcome,
    Verification,
    VerificationVerdict,
)
from control_plane.domain.rules import Rules
from control_plane.ports.operations import Due, OperationFilter
from control_plane.ports.records import Clock, Store
from control_plane.services.sightings import KINDS, Sightings

logger = structlog.get_logger(__name__)

_BATCH: Final = 100
_ASK_AGAIN: Final = timedelta(seconds=10)
_LOOK_TIMEOUT: Final = timedelta(minutes=5)
_SCHEDULER: Final = "scheduler"


class RecoveryService:
    """Sweeps what is due, and acts on the answers of looks."""

    def __init__(self, store: Store, clock: Clock, sightings: Sightings, *, rules: Rules) -> None:
        self._store = store
        self._clock = clock
        self._sightings = sightings
        self._rules = rules
        self._started: float | None = None
        self._steps: Mapping[Due, Callable[[OperationId], Awaitable[Operation | None]]] = {
            Due.UNACKED: self._return_to_queue,
            Due.LAPSED: self._lapse,
            Due.EVIDENCE: self._ask_for_evidence,
            Due.RECONCILE_OVERDUE: self._give_up_reconciling,
            Due.VERIFY: self._ask_for_verification,
            Due.VERIFY_OVERDUE: self._give_up_verifying,
            Due.EXPIRED: self._expire,
            Due.WITHDRAWN: self._withdraw,
            Due.POLICY_CHANGED: self._supersede,
            Due.WINDOW_OVER: self._close_window,
        }

    async def sweep(self) -> int:
        """One pass over what is due; how many operations were changed. One bad row never stops the others."""
        if self._started is None:
            self._started = self._clock.monotonic()
        changed = 0
        for reason in sorted(await self._store.operations.due_now()):
            if reason is Due.LAPSED and not self._settled():
                continue
            for operation in await self._store.operations.due(reason, limit=_BATCH):
                changed += await self._one(reason, operation)
        if changed:
            self._tell()
        return changed

    async def act_on_answers(self) -> int:
        """Use the answers that have come in; how many."""
        kinds = (
            ObservationKind.GATHER_EVIDENCE,
            ObservationKind.VERIFY_OPERATION,
            *KINDS,
        )
        answered = await self._store.observations.answered(kinds, limit=_BATCH)
        for observation in answered:
            try:
                await self._use(observation)
            except Exception:
                logger.exception("answer.unusable", observation=observation.id, kind=observation.request.kind)
            await self._store.observations.used(observation.id)
        if answered:
            self._tell()
        return len(answered)

    async def sweep_observations(self) -> None:
        """Hand out again what nobody answered; end what is past its deadline."""
        if await self._store.observations.sweep():
            self._store.hints.give("answers")

    def _tell(self) -> None:
        """Whatever ended makes room, and may be waited for by the schedule."""
        for topic in ("events", "operations", "targets"):
            self._store.hints.give(topic)

    def _settled(self) -> bool:
        # A replica that was away cannot tell silence of an executor from its own: it waits one TTL.
        return (
            self._started is not None
            and self._clock.monotonic() - self._started >= self._rules.lease_ttl.total_seconds()
        )

    async def _one(self, reason: Due, operation: OperationId) -> bool:
        try:
            return await self._steps[reason](operation) is not None
        except OperationNotFound:
            return False
        except Exception:
            logger.exception("sweep.step_failed", reason=reason, operation=operation)
            return False

    # -- leases

    async def _return_to_queue(self, operation: OperationId) -> Operation | None:
        return await self._store.operations.change(
            operation,
            lambda op, now: decisions.returned(op, now, reason="not acknowledged in time", rules=self._rules),
            due=Due.UNACKED,
        )

    async def _lapse(self, operation: OperationId) -> Operation | None:
        lapsed = await self._store.operations.change(
            operation, lambda op, now: decisions.lapsed(op, now, rules=self._rules), due=Due.LAPSED
        )
        if lapsed is not None:
            logger.warning("lease.lapsed", operation=operation, executor=lapsed.executor, epoch=lapsed.epoch)
        return lapsed

    # -- evidence

    async def _ask_for_evidence(self, operation_id: OperationId) -> Operation | None:
        operation = await self._store.operations.get(operation_id)
        if operation.state is not OperationState.RECONCILING:
            return None
        request = ObservationRequest(
            ObservationKind.GATHER_EVIDENCE,
            operation.catalog,
            table=operation.table,
            table_uuid=operation.table_uuid,
            location=operation.location,
            operation=operation.id,
            operation_type=operation.type,
            lapse=operation.lapse,
            stamps=(Stamp(operation.id, operation.epoch),),
            expiring=operation.plan.expiring_snapshots if operation.plan else (),
        )
        await self._open(request, operation, within=self._rules.reconcile_within)
        return None

    async def _use_evidence(self, observation: Observation) -> None:
        request, answer = observation.request, observation.answer
        if request.operation is None:
            return

        def decide(operation: Operation, now: datetime) -> Change | None:
            if operation.state is not OperationState.RECONCILING or operation.lapse != request.lapse:
                return None
            if not _began_after(observation, operation.evidence_not_before):
                return decisions.asked_later(operation, now, timedelta())
            match answer:
                case Evidence():
                    found = judge(operation, answer)
                case ObservationError(kind="NOT_FOUND"):
                    found = EvidenceFound(
                        Effects.UNKNOWN, Outcome.PARTIAL, detail="the table is gone; what was done to it cannot be read"
                    )
                case _:
                    # Nobody can say now: keep asking until the reconcile deadline.
                    return decisions.asked_later(operation, now, _ASK_AGAIN)
            return decisions.evidence_read(operation, now, lapse=request.lapse, found=found, rules=self._rules)

        operation = await self._store.operations.change(request.operation, decide)
        if operation is not None and operation.state is not OperationState.RECONCILING:
            if operation.state is OperationState.VERIFYING:
                self._store.hints.give("due")
            logger.info("evidence.decided", operation=operation.id, state=operation.state, effects=operation.effects)

    async def _give_up_reconciling(self, operation: OperationId) -> Operation | None:
        return await self._store.operations.change(operation, decisions.reconcile_overdue, due=Due.RECONCILE_OVERDUE)

    # -- verification

    async def _ask_for_verification(self, operation_id: OperationId) -> Operation | None:
        operation = await self._store.operations.get(operation_id)
        if operation.state is not OperationState.VERIFYING:
            return None
        epoch, plan = operation.epoch, operation.plan
        if plan is None:
            # It found an earlier attempt's commits and made none: those are looked at, from where that attempt began.
            for attempt in await self._store.operations.attempts(operation_id):
                epoch, plan = (attempt.epoch, attempt.plan) if attempt.plan is not None else (epoch, plan)
        request = ObservationRequest(
            ObservationKind.VERIFY_OPERATION,
            operation.catalog,
            table=operation.table,
            table_uuid=operation.table_uuid,
            location=operation.location,
            operation=operation.id,
            operation_type=operation.type,
            lapse=operation.attempt,
            # Only this attempt's commits: the others began elsewhere, and were looked at when they were made.
            stamps=(Stamp(operation.id, epoch),),
            expiring=plan.expiring_snapshots if plan else (),
            retained=plan.retained_snapshots if plan else (),
            base_snapshot=plan.base_snapshot if plan else None,
            base_metadata_location=plan.base_metadata_location if plan else "",
        )
        await self._open(request, operation, within=self._rules.verify_within)
        return None

    async def _use_verdict(self, observation: Observation) -> None:
        request, answer = observation.request, observation.answer
        if request.operation is None:
            return

        def decide(operation: Operation, now: datetime) -> Change | None:
            if operation.state is not OperationState.VERIFYING or operation.attempt != request.lapse:
                return None
            match answer:
                case Verdict(verdict, findings):
                    verification = Verification(verdict, findings, now)
                case ObservationError(kind="NOT_FOUND" | "INVALID", message=message):
                    verification = Verification(
                        VerificationVerdict.UNVERIFIED, (Finding("readable", False, message),), now
                    )
                case _:
                    return None  # Asked again by the next sweep, until the verify deadline.
            return decisions.verified(operation, now, verification=verification, rules=self._rules)

        # In one transaction: the table's fence opens only when nothing destructive can follow any more.
        async with self._store.transaction():
            operation = await self._store.operations.change(request.operation, decide)
            if operation is not None:
                await self._stop_run(operation)
        if (
            operation is not None
            and operation.failure is not None
            and operation.failure.kind is FailureClass.VERIFICATION
        ):
            logger.error("verification.failed", operation=operation.id, table=str(operation.table))

    async def _give_up_verifying(self, operation_id: OperationId) -> Operation | None:
        async with self._store.transaction():
            operation = await self._store.operations.change(
                operation_id,
                lambda op, now: decisions.verify_overdue(op, now, rules=self._rules),
                due=Due.VERIFY_OVERDUE,
            )
            if operation is not None:
                await self._stop_run(operation)
        return operation

    async def _stop_run(self, verified: Operation) -> None:
        """Nothing destructive follows, in the same run, a table that is not as it should be, or may not be."""
        verdict = verified.verification.verdict if verified.verification else VerificationVerdict.PASSED
        if verdict is VerificationVerdict.PASSED:
            return
        reason = "quarantined" if verdict is VerificationVerdict.FAILED else "unverified"

        def decide(operation: Operation, now: datetime) -> Change | None:
            return (
                decisions.skipped(operation, now, reason=reason) if operation.state is OperationState.QUEUED else None
            )

        waiting = OperationFilter(run=verified.run_id, states=(OperationState.QUEUED,))
        page = await self._store.operations.list(waiting, after=None, limit=_BATCH)
        for operation in page.operations:
            if operation.id != verified.id:
                await self._store.operations.change(operation.id, decide)

    # -- the queue

    async def _expire(self, operation: OperationId) -> Operation | None:
        return await self._store.operations.change(operation, decisions.expired, due=Due.EXPIRED)

    async def _withdraw(self, operation: OperationId) -> Operation | None:
        return await self._store.operations.change(
            operation, lambda op, now: decisions.skipped(op, now, reason="policy_withdrawn"), due=Due.WITHDRAWN
        )

    async def _supersede(self, operation: OperationId) -> Operation | None:
        """Its slot is decided again, under what governs the table now."""
        return await self._store.operations.change(
            operation, lambda op, now: decisions.skipped(op, now, reason="policy_changed"), due=Due.POLICY_CHANGED
        )

    async def _close_window(self, operation: OperationId) -> Operation | None:
        cancelled = await self._store.operations.change(
            operation,
            lambda op, now: decisions.cancel_requested(op, now, by=_SCHEDULER, reason="its window is over"),
            due=Due.WINDOW_OVER,
        )
        if cancelled is not None:
            self._store.hints.give("cancels")
        return cancelled

    # -- looks

    async def _open(self, request: ObservationRequest, operation: Operation, *, within: timedelta) -> None:
        await self._store.observations.open(
            request,
            within=within,
            timeout=min(within, _LOOK_TIMEOUT),
            not_before=operation.evidence_not_before,
            traceparent=operation.traceparent,
        )
        self._store.hints.give("observations")

    async def _use(self, observation: Observation) -> None:
        request = observation.request
        match request.kind:
            case ObservationKind.GATHER_EVIDENCE:
                await self._use_evidence(observation)
            case ObservationKind.VERIFY_OPERATION:
                await self._use_verdict(observation)
            case ObservationKind.LIST_TABLES | ObservationKind.LOAD_TABLE | ObservationKind.INSPECT_TABLE:
                await self._sightings.keep(observation)
            case ObservationKind.CHECK_CATALOG | ObservationKind.PLAN_EXPIRY | ObservationKind.LIST_ORPHANS:
                pass  # Whoever asked is waiting for it.


def _began_after(observation: Observation, instant: datetime | None) -> bool:
    return instant is None or (observation.begin_time is not None and observation.begin_time >= instant)
