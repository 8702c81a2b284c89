"""What follows for an operation from what happens to it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.domain import decisions, diagram
from control_plane.domain import operation as life
from control_plane.domain.decisions import EvidenceFound
from control_plane.domain.errors import OperationFinished
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    OperationId,
    OperationType,
    PolicyName,
    RunId,
    SessionId,
    TableName,
    TableUuid,
    TriggerId,
)
from control_plane.domain.operation import (
    Change,
    Effects,
    Failure,
    FailureClass,
    Operation,
    OperationState,
    Outcome,
    Plan,
    Result,
    Verification,
    VerificationVerdict,
)
from control_plane.domain.rules import Rules, back_off

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RULES = Rules()
SESSION = SessionId("s1")
S = OperationState


def queued(**changes: object) -> Operation:
    operation = Operation(
        id=OperationId("op"),
        type=OperationType.REWRITE_DATA_FILES,
        table=TableName(CatalogName("lake"), ("sales",), "events"),
        table_uuid=TableUuid("uuid"),
        location="file:///t",
        policy=PolicyName("p"),
        policy_generation=1,
        action={},
        trigger_id=TriggerId("t"),
        run_id=RunId("r"),
        requested_by="local:test",
        create_time=NOW,
        queue_deadline=NOW + timedelta(days=1),
        timeout=timedelta(hours=6),
        virtual_deadline=NOW,
    )
    return dataclasses.replace(operation, **changes)  # type: ignore[arg-type]  # the caller names the fields


def leased(**changes: object) -> Operation:
    change = decisions.claimed(
        queued(**changes),
        NOW,
        executor=ExecutorId("e1"),
        session=SESSION,
        epoch=7,
        token=b"t" * 16,
        engine="spark",
        rules=RULES,
    )
    return change.operation


def running(**changes: object) -> Operation:
    operation = decisions.acked(leased(), NOW, session=SESSION, rules=RULES).operation
    return dataclasses.replace(operation, **changes)  # type: ignore[arg-type]  # the caller names the fields


def reconciling(**changes: object) -> Operation:
    operation = decisions.lapsed(running(), NOW, rules=RULES).operation
    return dataclasses.replace(operation, **changes)  # type: ignore[arg-type]  # the caller names the fields


def cancelled_meanwhile(operation: Operation) -> Operation:
    return decisions.cancel_requested(operation, NOW, by="local:test", reason="enough").operation


def result(effects: Effects = Effects.NONE, outcome: Outcome = Outcome.NO_CHANGE, **more: object) -> Result:
    return Result(outcome=outcome, effects=effects, **more)  # type: ignore[arg-type]  # the caller names the fields


def reported(operation: Operation, what: Result) -> Change:
    return decisions.reported(operation, NOW, result=what, rules=RULES)


def test_the_terminal_states_are_those_that_no_edge_leaves() -> None:
    assert {S.SUCCEEDED, S.FAILED, S.CANCELLED, S.EXPIRED, S.SKIPPED} == life.TERMINAL


def test_the_page_of_the_documentation_is_what_the_edges_draw() -> None:
    page = Path(__file__).parents[2] / "docs" / "state-machine.md"

    assert page.read_text() == diagram.draw()


def test_an_acknowledged_lease_holds_for_a_ttl() -> None:
    operation = running()

    assert operation.state is S.RUNNING
    assert operation.lease_expire_time == NOW + RULES.lease_ttl
    assert operation.ack_deadline is None


def test_a_cancelled_lease_ends_at_its_ack() -> None:
    change = decisions.acked(cancelled_meanwhile(leased()), NOW, session=SESSION, rules=RULES)

    assert change.edge is life.CANCELLED
    assert change.operation.effects is Effects.NONE


def test_what_was_not_acknowledged_goes_back_as_the_same_attempt() -> None:
    back = decisions.returned(leased(), NOW, reason="late", rules=RULES).operation
    again = decisions.claimed(
        back, NOW, executor=ExecutorId("e2"), session=SESSION, epoch=9, token=b"u" * 16, engine="spark", rules=RULES
    ).operation

    assert (back.state, back.token) == (S.QUEUED, b"")
    assert (again.attempt, again.epoch) == (1, 9)


def test_ten_missed_deliveries_in_a_row_are_poison() -> None:
    operation = leased(missed_deliveries=RULES.max_missed_deliveries - 1)

    change = decisions.returned(operation, NOW, reason="late", rules=RULES)

    assert change.edge is life.FAILED
    assert change.operation.failure is not None
    assert change.operation.failure.kind is FailureClass.POISON


def test_a_refusal_waits_and_avoids_that_executor() -> None:
    back = decisions.returned(leased(), NOW, reason="busy", rules=RULES, nacked=True).operation

    assert back.not_before == NOW + RULES.nack_delay
    assert (back.avoid_executor, back.avoid_until) == ("e1", NOW + RULES.nack_avoid)
    assert back.missed_deliveries == 0


def test_a_commit_is_verified_before_it_is_a_success() -> None:
    change = reported(running(plan=Plan(1, "m")), result(Effects.COMMITTED, Outcome.COMPLETE, snapshots=(5,)))

    assert change.edge is life.COMMITTED
    assert change.operation.plan == Plan(1, "m")
    done = decisions.verified(
        change.operation, NOW, verification=Verification(VerificationVerdict.PASSED, (), NOW), rules=RULES
    )
    assert done.edge is life.VERIFIED
    assert (done.operation.state, done.operation.outcome, done.operation.snapshots) == (
        S.SUCCEEDED,
        Outcome.COMPLETE,
        (5,),
    )


def test_success_without_a_commit_is_no_change() -> None:
    change = reported(running(), result(Effects.NONE, Outcome.COMPLETE))

    assert change.edge is life.NO_CHANGE
    assert change.operation.outcome is Outcome.NO_CHANGE


def test_a_commit_wins_over_a_cancel() -> None:
    change = reported(cancelled_meanwhile(running()), result(Effects.COMMITTED, Outcome.COMPLETE, cancelled=True))

    end = decisions.verify_overdue(change.operation, NOW, rules=RULES).operation
    assert end.state is S.SUCCEEDED
    assert end.cancel_requested


def test_a_part_that_was_cancelled_ends_cancelled_with_its_effects() -> None:
    change = reported(cancelled_meanwhile(running()), result(Effects.PARTIAL, Outcome.PARTIAL, cancelled=True))

    end = decisions.verify_overdue(change.operation, NOW, rules=RULES).operation
    assert (end.state, end.effects, end.outcome) == (S.CANCELLED, Effects.PARTIAL, Outcome.PARTIAL)


def test_a_part_is_never_a_success_and_is_tried_again() -> None:
    failure = Failure(FailureClass.ENGINE, "one group failed")
    change = reported(running(), result(Effects.COMMITTED, Outcome.PARTIAL, failure=failure))

    end = decisions.verify_overdue(change.operation, NOW, rules=RULES)

    assert end.edge is life.ATTEMPT_FAILED
    assert end.operation.effects is Effects.COMMITTED
    nothing_left = reported(dataclasses.replace(end.operation, state=S.RUNNING), result()).operation
    assert (nothing_left.state, nothing_left.outcome) == (S.SUCCEEDED, Outcome.COMPLETE)


def test_a_part_of_the_last_attempt_fails_with_outcome_partial() -> None:
    change = reported(running(attempt=5), result(Effects.PARTIAL, Outcome.PARTIAL))

    end = decisions.verify_overdue(change.operation, NOW, rules=RULES).operation
    assert (end.state, end.outcome) == (S.FAILED, Outcome.PARTIAL)


@pytest.mark.parametrize("kind", list(FailureClass))
def test_only_retryable_failures_are_tried_again(kind: FailureClass) -> None:
    change = reported(running(), result(failure=Failure(kind, "x")))

    assert change.edge is (life.ATTEMPT_FAILED if kind.retryable else life.FAILED)


def test_a_failure_after_a_cancel_is_cancelled_and_not_tried_again() -> None:
    change = reported(cancelled_meanwhile(running()), result(failure=Failure(FailureClass.ENGINE, "x")))

    assert change.edge is life.CANCELLED


def test_another_table_under_the_name_is_skipped() -> None:
    change = reported(running(), result(skipped="table_replaced"))

    assert change.edge is life.SKIPPED
    assert change.operation.state_reason == "table_replaced"


def test_another_table_after_an_earlier_commit_is_no_skip() -> None:
    change = reported(running(effects=Effects.COMMITTED), result(skipped="table_replaced"))

    assert change.edge is life.FAILED
    assert change.operation.effects is Effects.COMMITTED


def test_unknown_effects_are_asked_after_and_do_not_come_back() -> None:
    change = reported(running(), result(Effects.UNKNOWN, commits_answered=False))

    assert change.edge is life.UNSURE
    assert change.operation.token
    assert change.operation.evidence_not_before == NOW + RULES.lock_delay
    assert decisions.came_back(change.operation, NOW, session=SESSION, rules=RULES) is None


def test_with_every_commit_answered_evidence_need_not_wait() -> None:
    change = reported(running(), result(Effects.UNKNOWN, commits_answered=True))

    assert change.operation.evidence_not_before == NOW


def test_coming_back_makes_evidence_of_that_lapse_void() -> None:
    lapsed = reconciling()
    back = decisions.came_back(lapsed, NOW, session=SessionId("s2"), rules=RULES)
    assert back is not None
    again = decisions.lapsed(back.operation, NOW, rules=RULES).operation

    found = EvidenceFound(Effects.NONE, Outcome.NO_CHANGE)
    assert back.edge is life.CAME_BACK
    assert decisions.evidence_read(back.operation, NOW, lapse=lapsed.lapse, found=found, rules=RULES) is None
    assert decisions.evidence_read(again, NOW, lapse=lapsed.lapse, found=found, rules=RULES) is None
    assert decisions.evidence_read(again, NOW, lapse=again.lapse, found=found, rules=RULES) is not None


def test_a_lost_attempt_that_did_nothing_is_tried_again_alone() -> None:
    found = EvidenceFound(Effects.NONE, Outcome.NO_CHANGE)
    change = decisions.evidence_read(reconciling(), NOW, lapse=1, found=found, rules=RULES)

    assert change is not None
    assert change.edge is life.ATTEMPT_FAILED
    assert change.operation.solo
    assert change.operation.failure == Failure(FailureClass.LOST, "the executor was lost before it committed anything")


def test_three_lost_solo_attempts_are_poison() -> None:
    found = EvidenceFound(Effects.NONE, Outcome.NO_CHANGE)
    operation = reconciling(solo=True, lost_solo=RULES.max_lost_solo - 1)

    change = decisions.evidence_read(operation, NOW, lapse=1, found=found, rules=RULES)

    assert change is not None
    assert change.operation.failure is not None
    assert (change.edge, change.operation.failure.kind) == (life.FAILED, FailureClass.POISON)


def test_a_lost_attempt_whose_commit_is_found_is_verified_and_not_run_again() -> None:
    found = EvidenceFound(Effects.COMMITTED, Outcome.COMPLETE, (11,))
    change = decisions.evidence_read(reconciling(), NOW, lapse=1, found=found, rules=RULES)

    assert change is not None
    assert change.edge is life.COMMITTED
    assert change.operation.snapshots == (11,)
    assert decisions.verify_overdue(change.operation, NOW, rules=RULES).operation.state is S.SUCCEEDED


def test_what_nobody_can_tell_is_said_and_not_guessed() -> None:
    end = decisions.reconcile_overdue(reconciling(), NOW).operation

    assert (end.state, end.effects) == (S.FAILED, Effects.UNKNOWN)
    assert end.failure is not None
    assert end.failure.kind is FailureClass.LOST


def test_a_failed_verification_ends_failed_whatever_was_intended() -> None:
    waiting = reported(running(), result(Effects.COMMITTED, Outcome.COMPLETE)).operation

    end = decisions.verified(
        waiting, NOW, verification=Verification(VerificationVerdict.FAILED, (), NOW), rules=RULES
    ).operation

    assert end.state is S.FAILED
    assert end.failure is not None
    assert end.failure.kind is FailureClass.VERIFICATION


def test_a_queued_operation_is_cancelled_at_once_and_a_finished_one_refuses() -> None:
    change = decisions.cancel_requested(queued(), NOW, by="local:test", reason="")

    assert change.edge is life.CANCELLED
    with pytest.raises(OperationFinished):
        decisions.cancel_requested(change.operation, NOW, by="local:test", reason="")


def test_asking_twice_for_a_cancel_keeps_the_first() -> None:
    first = cancelled_meanwhile(running())

    second = decisions.cancel_requested(first, NOW + timedelta(hours=1), by="local:other", reason="again")

    assert second.operation == first
    assert second.event == ""


def test_back_off_grows_by_four_and_is_capped_within_its_jitter() -> None:
    waits = [back_off(OperationId("op"), attempt, rules=RULES) for attempt in range(1, 8)]

    for attempt, wait in enumerate(waits, start=1):
        base = min(RULES.back_off * 4 ** (attempt - 1), RULES.back_off_cap)
        assert base * 0.8 <= wait <= base * 1.2


ACTIONS = st.sampled_from(
    [
        *("claim", "ack", "return", "nack", "lapse", "back", "verify", "verify_bad", "cancel"),
        *("report_none", "report_commit", "report_part", "report_unknown", "report_fail", "report_skip"),
        *("evidence_none", "evidence_commit", "evidence_unknown"),
    ]
)


def _step(action: str, op: Operation, now: datetime) -> Change | None:
    match action, op.state:
        case "claim", S.QUEUED:
            return decisions.claimed(
                op,
                now,
                executor=ExecutorId("e"),
                session=SESSION,
                epoch=op.epoch + 2,
                token=b"x" * 16,
                engine="spark",
                rules=RULES,
            )
        case "ack", S.LEASED:
            return decisions.acked(op, now, session=SESSION, rules=RULES)
        case (("return" | "nack"), S.LEASED):
            return decisions.returned(op, now, reason="r", rules=RULES, nacked=action == "nack")
        case "lapse", S.RUNNING:
            return decisions.lapsed(op, now, rules=RULES)
        case "back", _:
            return decisions.came_back(op, now, session=SESSION, rules=RULES)
        case "report_none", (S.RUNNING | S.RECONCILING):
            return reported(op, result())
        case "report_commit", (S.RUNNING | S.RECONCILING):
            return reported(op, result(Effects.COMMITTED, Outcome.COMPLETE))
        case "report_part", (S.RUNNING | S.RECONCILING):
            return reported(op, result(Effects.PARTIAL, Outcome.PARTIAL))
        case "report_unknown", (S.RUNNING | S.RECONCILING):
            return reported(op, result(Effects.UNKNOWN, commits_answered=False))
        case "report_fail", (S.RUNNING | S.RECONCILING):
            return reported(op, result(failure=Failure(FailureClass.ENGINE, "x")))
        case (("evidence_none" | "evidence_commit" | "evidence_unknown"), S.RECONCILING):
            effects = {"none": Effects.NONE, "commit": Effects.COMMITTED, "unknown": Effects.UNKNOWN}
            found = EvidenceFound(effects[action.split("_")[1]], Outcome.COMPLETE)
            return decisions.evidence_read(op, now, lapse=op.lapse, found=found, rules=RULES)
        case (("verify" | "verify_bad"), S.VERIFYING):
            verdict = VerificationVerdict.PASSED if action == "verify" else VerificationVerdict.FAILED
            return decisions.verified(op, now, verification=Verification(verdict, (), now), rules=RULES)
        case "cancel", _ if not op.is_terminal:
            return decisions.cancel_requested(op, now, by="b", reason="r")
    return None


@given(st.lists(ACTIONS, max_size=60))
def test_every_walk_keeps_to_the_edges_and_forgets_no_effect(actions: list[str]) -> None:
    operation, committed = queued(), False
    for action in actions:
        before = operation
        change = _step(action, operation, NOW)
        if change is None:
            continue
        operation = change.operation
        assert not before.is_terminal
        if change.edge is not None:
            assert before.state in change.edge.sources
            assert operation.state is change.edge.target
        else:
            assert operation.state is before.state
        assert (operation.token != b"") == (operation.state in life.LEASE_STATES)
        assert operation.attempt <= operation.max_attempts
        committed = committed or (change.edge is life.COMMITTED)
        if committed:
            assert operation.effects is not Effects.NONE
        if (
            operation.cancel_requested
            and not before.is_terminal
            and change.edge in (life.RETURNED, life.ATTEMPT_FAILED)
        ):
            raise AssertionError("a cancelled operation went back to the queue")
        if operation.state is S.SUCCEEDED:
            assert operation.outcome in (Outcome.COMPLETE, Outcome.NO_CHANGE)
