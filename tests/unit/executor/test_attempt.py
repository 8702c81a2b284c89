"""What stops an attempt, and what its engine is told."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.assignment import (
    Assignment,
    Catalog,
    Effects,
    FailureClass,
    Lease,
    OperationId,
    Outcome,
    Plan,
    Result,
    RewriteDataFiles,
    Table,
)
from executor.attempt import RunningAttempt, StopReason
from executor.engines.base import Cancelled, DeadlinePassed
from executor.lease import Term
from tests.support.manual_clock import ManualClock

TTL = timedelta(seconds=60)
CANCELLED = Result(Outcome.NO_CHANGE, Effects.NONE, cancelled=True)
PLAN = Plan(base_snapshot=1, base_metadata_location="m")


class Attempts:
    """Makes attempts whose plans wait in `plans`."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.plans: list[Future[None]] = []

    def start(self, *, timeout: timedelta = timedelta(hours=6)) -> RunningAttempt:
        table = Table(Catalog("lake", "rest", "http://127.0.0.1"), ("sales",), "events", "u", "file:///t")
        lease = Lease(OperationId("o1"), 1, b"t" * 16)
        assignment = Assignment(lease, 1, table, RewriteDataFiles(), "p", timeout, timedelta(seconds=30))
        attempt = RunningAttempt(
            assignment,
            term=Term.confirmed(sent_at=self.clock(), ttl=TTL),
            slot=0,
            session=1,
            clock=self.clock,
            submit_plan=lambda _, __, stored: self.plans.append(stored),
        )
        attempt.start()
        return attempt


@pytest.fixture
def attempts() -> Attempts:
    return Attempts()


def test_nothing_may_begin_once_the_lease_cannot_be_trusted(attempts: Attempts) -> None:
    attempt = attempts.start()

    attempts.clock.advance(49.9)
    attempt.check()
    attempts.clock.advance(0.1)

    with pytest.raises(DeadlinePassed, match="not renewed in time"):
        attempt.check()


def test_a_renewal_counts_from_the_send_of_the_heartbeat(attempts: Attempts) -> None:
    attempt = attempts.start()
    sent_at = attempts.clock()
    attempts.clock.advance(40)
    attempt.renew(Term.confirmed(sent_at=sent_at, ttl=TTL))

    attempts.clock.advance(10)
    attempt.enforce()

    assert attempt.stop_reason is StopReason.DEADLINE


def test_what_was_stopped_for_its_deadline_is_not_revived_by_a_late_renewal(attempts: Attempts) -> None:
    attempt = attempts.start()
    attempts.clock.advance(50)
    attempt.enforce()
    kill_at = attempt.kill_at

    attempt.renew(Term.confirmed(sent_at=attempts.clock(), ttl=TTL))

    assert attempt.kill_at == kill_at
    with pytest.raises(DeadlinePassed):
        attempt.check()


def test_a_cancelled_attempt_keeps_its_lease_and_is_told_so(attempts: Attempts) -> None:
    attempt = attempts.start()
    attempt.stop(StopReason.CANCEL)

    with pytest.raises(Cancelled):
        attempt.check()
    assert attempt.explained(CANCELLED) == CANCELLED


def test_a_run_past_its_timeout_is_stopped_and_says_so(attempts: Attempts) -> None:
    attempt = attempts.start(timeout=timedelta(seconds=20))
    attempts.clock.advance(20)
    attempt.enforce()

    result = attempt.explained(CANCELLED)

    assert not result.cancelled
    assert result.failure is not None
    assert result.failure.kind is FailureClass.TIMEOUT


def test_losing_the_lease_outweighs_a_cancel(attempts: Attempts) -> None:
    attempt = attempts.start()
    attempt.stop(StopReason.CANCEL)
    attempt.stop(StopReason.LEASE_LOST)

    with pytest.raises(DeadlinePassed):
        attempt.check()
    result = attempt.explained(CANCELLED)
    assert result.failure is not None
    assert result.failure.kind is FailureClass.UNAVAILABLE


def test_a_lost_lease_leaves_the_engine_only_as_long_as_an_interrupt_takes(attempts: Attempts) -> None:
    attempt = attempts.start()
    attempt.stop(StopReason.LEASE_LOST)

    assert attempt.kill_at == attempts.clock() + attempt.term.stopping_time


def test_the_engine_is_told_again_to_stop_what_goes_on(attempts: Attempts) -> None:
    attempt = attempts.start()
    assert not attempt.cancel_due()
    attempt.stop(StopReason.CANCEL)

    told = [attempt.cancel_due(), attempt.cancel_due()]
    attempts.clock.advance(2)
    told.append(attempt.cancel_due())
    attempt.ended.set()
    attempts.clock.advance(2)
    told.append(attempt.cancel_due())

    assert told == [True, False, True, False]


def test_an_attempt_may_have_effects_only_after_its_plan_was_stored(attempts: Attempts) -> None:
    attempt = attempts.start()
    thread = threading.Thread(target=attempt.store_plan, args=(PLAN,))
    thread.start()
    while not attempts.plans:
        thread.join(0.001)
    assert not attempt.may_have_effects

    attempts.plans[0].set_result(None)
    thread.join()

    assert attempt.may_have_effects


def test_a_plan_that_nobody_stores_is_given_up_with_the_lease(attempts: Attempts) -> None:
    attempt = attempts.start()
    attempts.clock.advance(50)

    with pytest.raises(DeadlinePassed):
        attempt.store_plan(PLAN)
    assert not attempt.may_have_effects


@given(st.lists(st.one_of(st.floats(0, 20), st.sampled_from(list(StopReason)), st.just("renew")), max_size=30))
def test_what_may_go_on_is_always_killed_before_its_lease_lapses(steps: list[float | StopReason | str]) -> None:
    attempts = Attempts()
    attempt = attempts.start()
    confirmed = attempt.term.lapses_at
    for step in steps:
        match step:
            case StopReason():
                attempt.stop(step)
            case "renew":
                term = Term.confirmed(sent_at=attempts.clock(), ttl=TTL)
                attempt.renew(term)
                confirmed = max(confirmed, term.lapses_at)
            case float():
                attempts.clock.advance(step)
        attempt.enforce()

        assert attempt.kill_at < confirmed
        if attempts.clock() >= confirmed:
            with pytest.raises(DeadlinePassed):
                attempt.check()
