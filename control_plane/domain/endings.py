"""How attempts and operations end: what is kept of them, and that an old lease is stale from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.domain import operation as life
from control_plane.domain.identifiers import ExecutorId
from control_plane.domain.operation import (
    Attempt,
    Change,
    Edge,
    Effects,
    Failure,
    IntendedEnd,
    Operation,
    OperationState,
    Outcome,
)
from control_plane.domain.rules import Rules, back_off

S = OperationState


def summed_effects(earlier: Effects, attempt: Effects) -> Effects:
    """Effects of all attempts together: what is unknown stays unknown, and a commit does not unhappen."""
    order = (Effects.NONE, Effects.PARTIAL, Effects.COMMITTED, Effects.UNKNOWN)
    return max(earlier, attempt, key=order.index)


def verifying(
    operation: Operation,
    now: datetime,
    effects: Effects,
    end: IntendedEnd,
    outcome: Outcome,
    *,
    decided_by: str,
    rules: Rules,
) -> Change:
    attempt = attempt_of(operation, now, decided_by=decided_by, effects=effects, outcome=outcome, failure=end.failure)
    waiting = replace(
        left(operation),
        state=S.VERIFYING,
        state_reason="",
        effects=summed_effects(operation.effects, effects),
        outcome=outcome,
        intended=end,
        verify_deadline=now + rules.verify_within,
        verification=None,
    )
    return Change(waiting, life.COMMITTED, attempt=attempt)


def no_change(operation: Operation, now: datetime, *, decided_by: str) -> Change:
    # Nothing left to do after an earlier attempt's commits: together they did all of it.
    outcome = Outcome.NO_CHANGE if operation.effects is Effects.NONE else Outcome.COMPLETE
    attempt = attempt_of(operation, now, decided_by=decided_by, effects=Effects.NONE, outcome=Outcome.NO_CHANGE)
    return terminal(replace(operation, outcome=outcome, failure=None), now, life.NO_CHANGE, attempt)


def attempt_failed(
    operation: Operation,
    now: datetime,
    failure: Failure,
    *,
    decided_by: str = "",
    rules: Rules,
    solo: bool = False,
) -> Change:
    if operation.cancel_requested:
        return cancelled(operation, now, decided_by=decided_by)
    if not failure.kind.retryable or operation.attempt >= operation.max_attempts:
        return failed(operation, now, failure, decided_by=decided_by)
    waiting = replace(
        left(operation),
        state=S.QUEUED,
        state_reason=f"{failure.kind}: waits for attempt {operation.attempt + 1}",
        failure=failure,
        not_before=now + back_off(operation.id, operation.attempt, rules=rules),
        intended=None,
        verify_deadline=None,
        unsure_failure=None,
        evidence_not_before=None,
        reconcile_deadline=None,
        solo=solo or operation.solo,
        redelivery=False,
    )
    attempt = (
        attempt_of(operation, now, decided_by=decided_by, effects=Effects.NONE, failure=failure) if decided_by else None
    )
    return Change(waiting, life.ATTEMPT_FAILED, attempt=attempt)


def failed(operation: Operation, now: datetime, failure: Failure, *, decided_by: str = "") -> Change:
    attempt = None
    if decided_by:
        effects = Effects.UNKNOWN if operation.effects is Effects.UNKNOWN else Effects.NONE
        attempt = attempt_of(operation, now, decided_by=decided_by, effects=effects, failure=failure)
    outcome = Outcome.PARTIAL if operation.effects in (Effects.PARTIAL, Effects.COMMITTED) else operation.outcome
    return terminal(replace(operation, failure=failure, outcome=outcome), now, life.FAILED, attempt)


def cancelled(operation: Operation, now: datetime, *, decided_by: str = "") -> Change:
    attempt = attempt_of(operation, now, decided_by=decided_by, effects=Effects.NONE) if decided_by else None
    return terminal(replace(operation, state_reason=operation.cancel_reason), now, life.CANCELLED, attempt)


def skipped_for(operation: Operation, now: datetime, reason: str, *, decided_by: str = "") -> Change:
    attempt = attempt_of(operation, now, decided_by=decided_by, effects=Effects.NONE) if decided_by else None
    return terminal(replace(operation, state_reason=reason), now, life.SKIPPED, attempt)


def terminal(operation: Operation, now: datetime, edge: Edge, attempt: Attempt | None = None) -> Change:
    metrics = dict(operation.metrics)
    if operation.start_time is not None:
        metrics["duration_ms"] = int((now - operation.start_time) / timedelta(milliseconds=1))
    ended = replace(
        left(operation),
        state=edge.target,
        finish_time=now,
        metrics=metrics,
        intended=None,
        not_before=None,
        verify_deadline=None,
    )
    return Change(ended, edge, attempt=attempt)


def left(operation: Operation) -> Operation:
    """Without a lease: whoever presents the old token is stale from now on."""
    return replace(
        operation,
        token=b"",
        session=None,
        ack_deadline=None,
        lease_expire_time=None,
        missed_renewals=0,
    )


def attempt_of(
    operation: Operation,
    now: datetime,
    *,
    decided_by: str,
    effects: Effects,
    outcome: Outcome | None = None,
    failure: Failure | None = None,
) -> Attempt:
    return Attempt(
        number=operation.attempt,
        epoch=operation.epoch,
        executor=operation.executor or ExecutorId(""),
        start_time=operation.start_time or now,
        finish_time=now,
        outcome=outcome,
        effects=effects,
        failure=failure,
        decided_by=decided_by,
        plan=operation.plan,
        snapshots=operation.snapshots,
    )


def added(operation: Operation, metrics: Mapping[str, int], snapshots: Sequence[int], execution_id: str) -> Operation:
    """The operation with an attempt's figures added to those of the attempts before."""
    known = dict(operation.metrics)
    for name, value in metrics.items():
        known[name] = known.get(name, 0) + value
    ids = tuple(dict.fromkeys((*operation.snapshots, *snapshots)))
    return replace(operation, metrics=known, snapshots=ids, execution_id=execution_id or operation.execution_id)
