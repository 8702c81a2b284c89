"""Which edge an operation takes: pure functions from (operation, what happened, now) to a change.

The store calls them under the operation's row lock, so what they read is what they change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from control_plane.domain import operation as life
from control_plane.domain.endings import (
    added,
    attempt_failed,
    attempt_of,
    cancelled,
    failed,
    left,
    no_change,
    skipped_for,
    summed_effects,
    terminal,
    verifying,
)
from control_plane.domain.errors import OperationFinished
from control_plane.domain.identifiers import ExecutorId, SessionId
from control_plane.domain.operation import (
    Change,
    Effects,
    Failure,
    FailureClass,
    IntendedEnd,
    Operation,
    OperationState,
    Outcome,
    Plan,
    Result,
    Verification,
    VerificationVerdict,
)
from control_plane.domain.rules import Rules

S = OperationState


def claimed(
    operation: Operation,
    now: datetime,
    *,
    executor: ExecutorId,
    session: SessionId,
    epoch: int,
    token: bytes,
    engine: str,
    rules: Rules,
) -> Change:
    """Granted to a session. An untouched attempt is handed out again under its old number, always under a new epoch."""
    return Change(
        replace(
            operation,
            state=S.LEASED,
            state_reason="",
            attempt=operation.attempt if operation.redelivery else operation.attempt + 1,
            epoch=epoch,
            token=token,
            executor=executor,
            session=session,
            engine=engine,
            ack_deadline=now + rules.ack_within,
            not_before=None,
            avoid_executor=None,
            avoid_until=None,
            plan=None,
        ),
        life.CLAIMED,
    )


def acked(operation: Operation, now: datetime, *, session: SessionId, rules: Rules) -> Change:
    """The executor has it: it may start once this is answered. A cancelled lease ends here, untouched."""
    if operation.cancel_requested:
        return cancelled(operation, now, decided_by="returned")
    return Change(
        replace(
            operation,
            state=S.RUNNING,
            session=session,
            ack_deadline=None,
            lease_expire_time=now + rules.lease_ttl,
            missed_deliveries=0,
            missed_renewals=0,
            redelivery=False,
            start_time=operation.start_time or now,
        ),
        life.ACKED,
    )


def returned(operation: Operation, now: datetime, *, reason: str, rules: Rules, nacked: bool = False) -> Change:
    """Not acknowledged, refused or drained: nothing was touched, so the same attempt goes back to the queue."""
    if operation.cancel_requested:
        return cancelled(operation, now, decided_by="returned")
    missed = operation.missed_deliveries + (0 if nacked else 1)
    if missed >= rules.max_missed_deliveries:
        failure = Failure(FailureClass.POISON, f"delivery: {missed} hand-outs in a row were not acknowledged")
        return failed(operation, now, failure, decided_by="returned")
    return Change(
        replace(
            left(operation),
            state=S.QUEUED,
            state_reason=reason,
            redelivery=True,
            missed_deliveries=missed,
            not_before=now + rules.nack_delay if nacked else operation.not_before,
            avoid_executor=operation.executor if nacked else None,
            avoid_until=now + rules.nack_avoid if nacked else None,
        ),
        life.RETURNED,
        attempt=attempt_of(operation, now, decided_by="returned", effects=Effects.NONE),
    )


def drained(operation: Operation, now: datetime, *, rules: Rules) -> Change:
    """An executor that drains gives back what it has not started; that counts against nobody."""
    change = returned(
        replace(operation, missed_deliveries=0), now, reason="the executor drains", rules=rules, nacked=True
    )
    return replace(change, operation=replace(change.operation, not_before=operation.not_before))


def lapsed(operation: Operation, now: datetime, *, rules: Rules) -> Change:
    """The lease ran out. The lease is not left: its holder may come back until evidence has decided."""
    return Change(
        replace(
            operation,
            state=S.RECONCILING,
            state_reason="the executor fell silent",
            lapse=operation.lapse + 1,
            lapse_time=now,
            evidence_not_before=now + rules.lock_delay,
            reconcile_deadline=operation.reconcile_deadline or now + rules.reconcile_within,
        ),
        life.LAPSED,
    )


def came_back(operation: Operation, now: datetime, *, session: SessionId, rules: Rules) -> Change | None:
    """The same holder with the same token, before anything else was decided. Evidence already asked for is void.

    None where there is nothing to come back to: the lease was never acknowledged, or the executor itself reported
    UNKNOWN effects.
    """
    if operation.state not in (S.RUNNING, S.RECONCILING) or operation.unsure_failure is not None:
        return None
    if operation.state is S.RUNNING:
        renewed = replace(operation, session=session, lease_expire_time=now + rules.lease_ttl, missed_renewals=0)
        return Change(renewed)
    return Change(
        replace(
            operation,
            state=S.RUNNING,
            state_reason="",
            session=session,
            lease_expire_time=now + rules.lease_ttl,
            missed_renewals=0,
            evidence_not_before=None,
            reconcile_deadline=None,
        ),
        life.CAME_BACK,
    )


def planned(operation: Operation, now: datetime, *, plan: Plan) -> Change:
    """The attempt's plan, before its first effect."""
    del now
    return Change(replace(operation, plan=plan), event="planned")


def reported(operation: Operation, now: datetime, *, result: Result, rules: Rules) -> Change:
    """What follows from an executor's result. A commit wins over a cancel; unknown effects are asked after, never
    guessed.
    """
    # An executor that reports was not lost.
    operation = replace(operation, lost_solo=0)
    operation = added(operation, result.metrics, result.snapshots, result.execution_id)
    if result.effects is Effects.UNKNOWN:
        return _unsure(operation, now, result, rules)
    effects = summed_effects(operation.effects, result.effects)
    if result.effects in (Effects.PARTIAL, Effects.COMMITTED):
        end = _end_after_commit(operation, result)
        return verifying(operation, now, result.effects, end, result.outcome, decided_by="result", rules=rules)
    if result.skipped:
        if effects is Effects.NONE:
            return skipped_for(operation, now, result.skipped, decided_by="result")
        failure = Failure(FailureClass.INVALID, f"{result.skipped} after an earlier attempt had committed")
        return failed(operation, now, failure, decided_by="result")
    if result.cancelled and operation.cancel_requested:
        return cancelled(operation, now, decided_by="result")
    if result.failure is not None or result.cancelled:
        failure = result.failure or Failure(FailureClass.ENGINE, "the engine's work was cancelled by somebody else")
        return attempt_failed(operation, now, failure, decided_by="result", rules=rules)
    # COMPLETE without a commit is the same as nothing to do: there is no effect that could be verified.
    return no_change(operation, now, decided_by="result")


@dataclass(frozen=True, slots=True)
class EvidenceFound:
    """What the table says about an attempt: how many of its commits are there, or which planned snapshots are gone."""

    effects: Effects
    outcome: Outcome
    snapshots: Sequence[int] = ()
    detail: str = ""


def evidence_read(
    operation: Operation, now: datetime, *, lapse: int, found: EvidenceFound, rules: Rules
) -> Change | None:
    """What follows from evidence; None if it belongs to another lapse than the present one, and so decides nothing."""
    if operation.state is not S.RECONCILING or operation.lapse != lapse:
        return None
    operation = added(operation, {}, found.snapshots, "")
    if found.effects in (Effects.PARTIAL, Effects.COMMITTED):
        end = (
            IntendedEnd(S.SUCCEEDED, Outcome.COMPLETE)
            if found.outcome is Outcome.COMPLETE
            else _end_of_partial(
                operation, Failure(FailureClass.LOST, found.detail or "the executor was lost after some of its commits")
            )
        )
        change = verifying(operation, now, found.effects, end, found.outcome, decided_by="evidence", rules=rules)
        return replace(change, operation=replace(change.operation, state_reason=found.detail))
    if found.effects is Effects.UNKNOWN:
        failure = Failure(FailureClass.LOST, found.detail or "what the attempt changed cannot be known any more")
        return failed(replace(operation, effects=Effects.UNKNOWN), now, failure, decided_by="evidence")
    if operation.cancel_requested:
        return cancelled(operation, now, decided_by="evidence")
    if operation.unsure_failure is not None:
        return attempt_failed(operation, now, operation.unsure_failure, decided_by="evidence", rules=rules)
    lost_solo = operation.lost_solo + (1 if operation.solo else 0)
    failure = Failure(FailureClass.LOST, "the executor was lost before it committed anything")
    if lost_solo >= rules.max_lost_solo:
        failure = Failure(FailureClass.POISON, f"{lost_solo} executors in a row were lost while they ran it alone")
        return failed(replace(operation, lost_solo=lost_solo), now, failure, decided_by="evidence")
    return attempt_failed(
        replace(operation, lost_solo=lost_solo), now, failure, decided_by="evidence", rules=rules, solo=True
    )


def asked_later(operation: Operation, now: datetime, delay: timedelta) -> Change:
    """The evidence could not be read, or began too early: it is asked for again after `delay`, never before its lock-
    delay is over.
    """
    return Change(replace(operation, evidence_not_before=max(now + delay, operation.evidence_not_before or now)))


def reconcile_overdue(operation: Operation, now: datetime) -> Change:
    """Nobody could say what the lost attempt did: an honest end, and no guess."""
    failure = Failure(FailureClass.LOST, "what the lost attempt changed could not be read in time; look at the table")
    return failed(replace(operation, effects=Effects.UNKNOWN), now, failure, decided_by="evidence")


def verified(operation: Operation, now: datetime, *, verification: Verification, rules: Rules) -> Change:
    """The intended end, unless the table is not as it should be."""
    operation = replace(operation, verification=verification)
    if verification.verdict is VerificationVerdict.FAILED:
        wrong = "; ".join(f"{f.check}: {f.detail}" for f in verification.findings if not f.passed)
        return failed(operation, now, Failure(FailureClass.VERIFICATION, wrong or "the verification failed"))
    end = operation.intended
    if end is None:
        raise ValueError(f"operation {operation.id} is VERIFYING without an intended end")
    operation = replace(operation, outcome=end.outcome, failure=end.failure)
    match end.state:
        case S.SUCCEEDED:
            return terminal(operation, now, life.VERIFIED)
        case S.CANCELLED:
            return terminal(operation, now, life.CANCELLED)
        case S.QUEUED:
            failure = end.failure or Failure(FailureClass.ENGINE, "only a part was done")
            return attempt_failed(operation, now, failure, rules=rules)
        case _:
            return terminal(operation, now, life.FAILED)


def verify_overdue(operation: Operation, now: datetime, *, rules: Rules) -> Change:
    """No verdict in time: its intended end, marked UNVERIFIED."""
    unverified = Verification(VerificationVerdict.UNVERIFIED, (), now)
    return verified(operation, now, verification=unverified, rules=rules)


def cancel_requested(operation: Operation, now: datetime, *, by: str, reason: str) -> Change:
    """QUEUED and HELD end at once; what runs is asked to stop. Asking again changes nothing."""
    if operation.is_terminal:
        raise OperationFinished(operation.id, operation.state)
    if operation.cancel_requested:
        return Change(operation)
    asked = replace(operation, cancel_request_time=now, cancel_requested_by=by, cancel_reason=reason)
    if operation.state in (S.QUEUED, S.HELD):
        return cancelled(asked, now)
    return Change(asked, event="cancel_requested")


def expired(operation: Operation, now: datetime) -> Change:
    """Its deadline passed before it started; a waiting retry keeps its effects."""
    return terminal(replace(operation, state_reason="its deadline passed before it could start"), now, life.EXPIRED)


def skipped(operation: Operation, now: datetime, *, reason: str) -> Change:
    """No longer needed or allowed: `policy_withdrawn`, `table_gone`, ..."""
    return skipped_for(operation, now, reason)


def _unsure(operation: Operation, now: datetime, result: Result, rules: Rules) -> Change:
    # The lock-delay is there for commit requests still under way; with every one answered there are none.
    delay = timedelta() if result.commits_answered else rules.lock_delay
    after = max(now + delay, operation.evidence_not_before or now) if operation.state is S.RECONCILING else now + delay
    waiting = replace(
        operation,
        state=S.RECONCILING,
        state_reason="the executor could not say what it did",
        lapse=operation.lapse + 1,
        lapse_time=now,
        evidence_not_before=after,
        reconcile_deadline=operation.reconcile_deadline or now + rules.reconcile_within,
        unsure_failure=result.failure or Failure(FailureClass.ENGINE, "the engine could not say what it did"),
    )
    return Change(waiting, life.UNSURE) if operation.state is S.RUNNING else Change(waiting, event="unsure")


def _end_after_commit(operation: Operation, result: Result) -> IntendedEnd:
    if result.outcome is Outcome.COMPLETE and result.effects is Effects.COMMITTED:
        return IntendedEnd(S.SUCCEEDED, Outcome.COMPLETE)
    return _end_of_partial(operation, result.failure or Failure(FailureClass.ENGINE, "only a part was done"))


def _end_of_partial(operation: Operation, failure: Failure) -> IntendedEnd:
    if operation.cancel_requested:
        return IntendedEnd(S.CANCELLED, Outcome.PARTIAL)
    if failure.kind.retryable and operation.attempt < operation.max_attempts:
        return IntendedEnd(S.QUEUED, Outcome.PARTIAL, failure)
    return IntendedEnd(S.FAILED, Outcome.PARTIAL, failure)
