"""Changes of operations: guards, leases, sessions, results and what follows from them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from control_plane.domain import decisions
from control_plane.domain import operation as life
from control_plane.domain.decisions import EvidenceFound
from control_plane.domain.errors import CatalogNotFound, OperationFinished, OperationNotFound
from control_plane.domain.identifiers import CatalogName, ExecutorId, OperationId, SessionId, TableName
from control_plane.domain.operation import (
    Change,
    Effects,
    Failure,
    FailureClass,
    Lease,
    Operation,
    OperationState,
    Outcome,
    Plan,
    Progress,
)
from control_plane.ports.operations import OperationFilter, Verdict
from tests.support import factories
from tests.support.scene import Scene, returned
from tests.support.stores import RULES, age

S = OperationState
HOUR = timedelta(hours=1)


async def test_an_operation_is_read_as_it_was_written(scene: Scene) -> None:
    now = await scene.store.now()
    written = await scene.enqueue(
        action={"sort_order": [{"term": "a", "direction": "asc"}], "empty": [], "ratio": 0.5, "flag": None},
        retry_of=OperationId("earlier"),
        traceparent="00-abc-def-01",
        timeout=timedelta(hours=6, microseconds=7),
        not_before=now + HOUR,
        snapshots=(1, 2**62),
        metrics={"bytes": 2**60},
        failure=Failure(FailureClass.CONFLICT, "a writer won: “yes”"),
        plan=Plan(None, "s3://x", expiring_snapshots=(5, 6)),
        effects=Effects.PARTIAL,
        outcome=Outcome.PARTIAL,
        table=TableName(factories.LAKE, ("a.b", 'quo"te', "ü"), "t ü"),
    )

    assert await scene.operations.get(written.id) == written


async def test_an_operation_that_is_not_there_is_not_found(scene: Scene) -> None:
    with pytest.raises(OperationNotFound):
        await scene.operations.get(OperationId("none"))
    with pytest.raises(OperationNotFound):
        await scene.operations.change(OperationId("none"), returned)


async def test_nothing_is_queued_for_a_catalog_that_is_gone(scene: Scene) -> None:
    lost = factories.separate(table=TableName(CatalogName("gone"), ("a",), "b"))
    with pytest.raises(CatalogNotFound, match="gone"):
        await scene.operations.enqueue([factories.separate(), lost])

    assert await scene.operations.unfinished(CatalogName("gone")) == 0
    assert await scene.operations.unfinished(factories.LAKE) == 0


async def test_an_acknowledged_operation_runs_under_a_lease(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)

    assert running.state is S.RUNNING
    assert running.update_time is not None
    assert running.lease_expire_time == running.update_time + RULES.lease_ttl
    assert running.revision == 3


@pytest.mark.parametrize("wrong", [{"epoch": 99}, {"token": b"x" * 16}])
async def test_a_wrong_lease_changes_nothing(scene: Scene, wrong: dict[str, object]) -> None:
    holder = await scene.attach()
    leased = await scene.leased(holder)
    stale = replace(leased.lease, **wrong)  # type: ignore[arg-type]  # by name

    assert await scene.operations.change(leased.id, returned, lease=stale) is None
    assert await scene.operations.get(leased.id) == leased


async def test_a_lease_that_was_left_changes_nothing(scene: Scene) -> None:
    holder = await scene.attach()
    leased = await scene.leased(holder)
    await scene.operations.change(leased.id, returned)
    before = await scene.operations.get(leased.id)

    assert await scene.operations.change(leased.id, returned, lease=leased.lease) is None
    assert await scene.operations.get(leased.id) == before


async def test_a_session_that_was_taken_over_changes_nothing(scene: Scene) -> None:
    old = await scene.attach()
    leased = await scene.leased(old)
    new = await scene.attach()

    assert old.session is not None and new.session is not None
    assert await scene.operations.change(leased.id, returned, lease=leased.lease, session=old.session) is None
    assert await scene.operations.change(leased.id, returned, lease=leased.lease, session=new.session) is not None


async def test_another_executor_s_session_changes_nothing(scene: Scene) -> None:
    holder, other = await scene.attach("e1"), await scene.attach("e2")
    leased = await scene.leased(holder)

    assert await scene.operations.change(leased.id, returned, lease=leased.lease, session=other.session) is None
    assert await scene.operations.change(leased.id, returned, session=SessionId("invented")) is None


async def test_a_decision_that_decides_nothing_changes_nothing(scene: Scene) -> None:
    queued = await scene.enqueue()

    assert await scene.operations.change(queued.id, lambda op, now: None) is None
    assert await scene.operations.change(queued.id, lambda op, now: Change(op)) == queued
    assert await scene.operations.get(queued.id) == queued
    assert len(await scene.history(queued.id)) == 1


async def test_what_a_decision_raises_is_raised_and_nothing_is_changed(scene: Scene) -> None:
    queued = await scene.enqueue()

    def refuse(operation: Operation, now: datetime) -> Change:
        raise OperationFinished(operation.id, "anything")

    with pytest.raises(OperationFinished):
        await scene.operations.change(queued.id, refuse)
    assert await scene.operations.get(queued.id) == queued


async def test_an_edge_is_refused_outside_its_sources(scene: Scene) -> None:
    queued = await scene.enqueue()

    def verify(operation: Operation, now: datetime) -> Change:
        return Change(replace(operation, state=S.SUCCEEDED), life.VERIFIED)

    with pytest.raises(ValueError, match="verified"):
        await scene.operations.change(queued.id, verify)
    assert await scene.operations.get(queued.id) == queued


async def test_a_terminal_state_is_final(scene: Scene) -> None:
    queued = await scene.enqueue()
    cancelled = await scene.cancel(queued.id)

    with pytest.raises(OperationFinished):
        await scene.cancel(queued.id)
    with pytest.raises(ValueError):
        await scene.operations.change(queued.id, lambda op, now: Change(replace(op, state=S.QUEUED), life.APPROVED))
    assert await scene.operations.get(queued.id) == cancelled


async def test_what_is_learnt_later_is_added_to_a_finished_operation(scene: Scene) -> None:
    cancelled = await scene.cancel((await scene.enqueue()).id)

    await scene.operations.change(
        cancelled.id, lambda op, now: Change(replace(op, late_effects=True), event="late_evidence")
    )

    after = await scene.operations.get(cancelled.id)
    assert (after.late_effects, after.state, after.revision) == (True, S.CANCELLED, cancelled.revision + 1)
    assert (await scene.history(cancelled.id))[-1].event == "late_evidence"


async def test_an_untouched_hand_out_comes_back_under_a_higher_epoch_as_the_same_attempt(scene: Scene) -> None:
    holder = await scene.attach()
    first = await scene.leased(holder)
    await scene.operations.change(first.id, returned)

    (second,) = await scene.claim(holder)

    assert (second.attempt, second.epoch) == (1, first.epoch + 2)
    attempts = await scene.operations.attempts(first.id)
    assert [(a.number, a.epoch, a.decided_by, a.finish_time is None) for a in attempts] == [
        (1, first.epoch, "returned", False),
        (1, second.epoch, "", True),
    ]


async def test_a_current_attempt_shows_its_plan(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    plan = Plan(5, "s3://meta", expected_groups=3)
    await scene.operations.change(running.id, lambda op, now: decisions.planned(op, now, plan=plan))

    (attempt,) = await scene.operations.attempts(running.id)

    assert (attempt.plan, attempt.executor, attempt.epoch) == (plan, holder.id, running.epoch)


async def test_a_commit_is_verified_and_then_the_table_is_free(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    waiting = await scene.enqueue(table=running.table, table_uuid=running.table_uuid)

    reported = await scene.report(running.lease, factories.committed(7))

    assert (reported.verdict, reported.operation.state) == (Verdict.ACCEPTED, S.VERIFYING)
    assert not await scene.claim(holder), "the table belongs to what is verified"
    done = await scene.verify(running.id)
    assert (done.state, done.effects, done.snapshots) == (S.SUCCEEDED, Effects.COMMITTED, (7,))
    assert await scene.operations.get(running.id) == done
    assert [operation.id for operation in await scene.claim(holder)] == [waiting.id]
    (attempt,) = await scene.operations.attempts(running.id)
    assert (attempt.decided_by, attempt.effects, attempt.snapshots) == ("result", Effects.COMMITTED, (7,))


async def test_the_same_result_is_repeated_and_another_one_rejected(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    accepted = await scene.report(running.lease, factories.committed(metrics={"a": 1, "b": 2}))

    again = await scene.report(running.lease, factories.committed(metrics={"b": 2, "a": 1}))
    other = await scene.report(running.lease, factories.committed(8))

    assert accepted.verdict is Verdict.ACCEPTED
    assert (again.verdict, again.operation) == (Verdict.REPEATED, accepted.operation)
    assert other.verdict is Verdict.REJECTED and other.reason
    assert await scene.operations.get(running.id) == accepted.operation


async def test_a_result_is_still_known_when_the_operation_is_history(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    await scene.report(running.lease, factories.result())

    assert (await scene.report(running.lease, factories.result())).verdict is Verdict.REPEATED


async def test_concurrent_reports_of_one_lease_decide_once(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)

    reports = await asyncio.gather(*(scene.report(running.lease, factories.committed(n % 2)) for n in range(6)))

    verdicts = sorted(report.verdict for report in reports)
    assert verdicts == [Verdict.ACCEPTED, *[Verdict.REJECTED] * 3, *[Verdict.REPEATED] * 2]


@pytest.mark.parametrize("stale", [{"epoch": 99}, {"token": b"x" * 16}])
async def test_a_result_of_a_stale_lease_is_rejected(scene: Scene, stale: dict[str, object]) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    lease = replace(running.lease, **stale)  # type: ignore[arg-type]  # by name

    reported = await scene.report(lease, factories.committed())

    assert (reported.verdict, reported.operation) == (Verdict.REJECTED, running)
    assert (await scene.report(lease, factories.committed())).verdict is Verdict.REJECTED


async def test_what_was_never_acknowledged_has_no_result(scene: Scene) -> None:
    holder = await scene.attach()
    leased = await scene.leased(holder)

    assert (await scene.report(leased.lease, factories.committed())).verdict is Verdict.REJECTED
    assert await scene.operations.get(leased.id) == leased


async def test_a_result_needs_no_session(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    await scene.attach()

    assert (await scene.report(running.lease, factories.result())).verdict is Verdict.ACCEPTED


async def test_a_result_is_accepted_while_evidence_is_awaited(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    await scene.lapse(running)

    assert (await scene.report(running.lease, factories.committed())).operation.state is S.VERIFYING


async def test_a_report_that_raises_stores_nothing(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)

    def fail(operation: Operation, now: datetime) -> Change:
        raise OperationFinished(operation.id, "anything")

    with pytest.raises(OperationFinished):
        await scene.operations.report(running.lease, factories.result(), fail)
    assert (await scene.report(running.lease, factories.result())).verdict is Verdict.ACCEPTED


async def test_a_lapse_keeps_lease_and_epoch_and_coming_back_is_counted(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    session = holder.session
    assert session is not None
    lapses = []
    for _ in range(2):
        lapsed = await scene.lapse(running)
        lapses.append(lapsed.lapse)
        assert (lapsed.state, lapsed.lease) == (S.RECONCILING, running.lease)
        back = await scene.operations.change(
            running.id,
            lambda op, now: decisions.came_back(op, now, session=session, rules=RULES),
            lease=running.lease,
            session=session,
        )
        assert back is not None
        assert (back.state, back.lease, back.evidence_not_before) == (S.RUNNING, running.lease, None)

    assert lapses == [1, 2]
    found = EvidenceFound(Effects.NONE, Outcome.NO_CHANGE)
    await scene.lapse(running)
    late = await scene.operations.change(
        running.id, lambda op, now: decisions.evidence_read(op, now, lapse=2, found=found, rules=RULES)
    )
    assert late is None, "evidence of an earlier lapse decides nothing"


async def test_evidence_frees_the_table_and_ends_the_lease(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    await scene.lapse(running)
    found = EvidenceFound(Effects.NONE, Outcome.NO_CHANGE)

    after = await scene.operations.change(
        running.id, lambda op, now: decisions.evidence_read(op, now, lapse=1, found=found, rules=RULES)
    )

    assert after is not None
    assert (after.state, after.solo, after.token) == (S.QUEUED, True, b"")
    assert (await scene.report(running.lease, factories.committed())).verdict is Verdict.REJECTED
    await age(scene.store, running.id, "not_before")
    (again,) = await scene.claim(holder)
    assert (again.epoch, again.attempt) == (running.epoch + 2, 2)


async def test_a_heartbeat_renews_exactly_what_it_lists(scene: Scene) -> None:
    holder = await scene.attach()
    session = holder.session
    assert session is not None
    listed, unlisted = await scene.running(holder), await scene.running(holder)
    await age(scene.store, listed.id, "lease_expire_time", by=timedelta(seconds=1))

    renewal = await scene.operations.renew(session, [listed.lease], heartbeat=True)

    assert (renewal.renewed, renewal.lapsed, renewal.lost, renewal.cancelled) == ([listed.lease], [], [], [])
    renewed = await scene.operations.get(listed.id)
    now = await scene.store.now()
    assert renewed.lease_expire_time is not None and renewed.lease_expire_time > now
    assert (renewed.missed_renewals, (await scene.operations.get(unlisted.id)).missed_renewals) == (0, 1)


async def test_a_renewal_that_is_no_heartbeat_counts_nothing_as_missed(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    assert holder.session is not None

    await scene.operations.renew(holder.session, [], heartbeat=False)

    assert (await scene.operations.get(running.id)).missed_renewals == 0


async def test_a_renewal_makes_up_for_a_missed_one(scene: Scene) -> None:
    holder = await scene.attach()
    running = await scene.running(holder)
    assert holder.session is not None

    for leases in ([], [running.lease], []):
        await scene.operations.renew(holder.session, leases, heartbeat=True)

    assert (await scene.operations.get(running.id)).missed_renewals == 1


async def test_an_unacknowledged_lease_is_never_extended(scene: Scene) -> None:
    holder = await scene.attach()
    leased = await scene.leased(holder)
    assert holder.session is not None

    renewal = await scene.operations.renew(holder.session, [leased.lease], heartbeat=True)

    assert list(renewal.renewed) == [leased.lease]
    assert await scene.operations.get(leased.id) == leased


async def test_a_renewal_tells_what_lapsed_and_what_is_lost(scene: Scene) -> None:
    holder, other = await scene.attach("e1"), await scene.attach("e2")
    assert holder.session is not None
    lapsed, foreign, returned_lease = (
        await scene.running(holder),
        await scene.running(other),
        await scene.leased(holder),
    )
    await scene.lapse(lapsed)
    await scene.operations.change(returned_lease.id, returned)
    invented = Lease(OperationId("none"), 1, b"x" * 16)

    listed = [lapsed.lease, foreign.lease, returned_lease.lease, invented]
    renewal = await scene.operations.renew(holder.session, listed, heartbeat=True)

    assert (list(renewal.renewed), list(renewal.lapsed)) == ([], [lapsed.lease])
    assert list(renewal.lost) == [foreign.lease, returned_lease.lease, invented]
    assert (await scene.operations.get(foreign.id)).missed_renewals == 0


async def test_a_renewal_returns_cancels_and_so_does_asking(scene: Scene) -> None:
    holder = await scene.attach()
    assert holder.session is not None
    running, other = await scene.running(holder), await scene.running(holder)
    await scene.cancel(running.id)

    renewal = await scene.operations.renew(holder.session, [running.lease, other.lease], heartbeat=True)

    assert list(renewal.cancelled) == [running.id]
    assert await scene.operations.cancel_requests([holder.id]) == [running.lease]
    assert not await scene.operations.cancel_requests([ExecutorId("e2")])


async def test_a_superseded_session_renews_nothing(scene: Scene) -> None:
    old = await scene.attach()
    running = await scene.running(old)
    await scene.attach()
    assert old.session is not None

    renewal = await scene.operations.renew(old.session, [running.lease], heartbeat=True)

    assert (list(renewal.renewed), list(renewal.lost)) == ([], [running.lease])
    assert await scene.operations.get(running.id) == running


async def test_progress_is_kept_for_current_leases_only(scene: Scene) -> None:
    holder = await scene.attach()
    running, stale = await scene.running(holder), await scene.running(holder)
    old_lease = replace(stale.lease, epoch=stale.epoch - 1)
    for phase in ("planning", "rewriting"):
        await scene.operations.record_progress(
            {running.id: Progress(phase, groups_done=1), stale.id: Progress(phase)}, leases=[running.lease, old_lease]
        )

    progress = await scene.operations.progress([running.id, stale.id])

    assert list(progress) == [running.id]
    assert (progress[running.id].phase, progress[running.id].groups_done) == ("rewriting", 1)
    assert progress[running.id].time is not None
    await scene.report(running.lease, factories.result())
    assert not await scene.operations.progress([running.id])


async def test_a_cancelled_lease_ends_at_its_ack(scene: Scene) -> None:
    holder = await scene.attach()
    leased = await scene.leased(holder)
    await scene.cancel(leased.id)

    ended = await scene.ack(leased, holder)

    assert ended.state is S.CANCELLED
    assert len(await scene.claim(holder)) == 0


async def test_concurrent_changes_of_one_operation_all_happen(scene: Scene) -> None:
    queued = await scene.enqueue()

    def count(operation: Operation, now: datetime) -> Change:
        return Change(replace(operation, metrics={"n": operation.metrics.get("n", 0) + 1}), event="counted")

    await asyncio.gather(*(scene.operations.change(queued.id, count) for _ in range(20)))

    after = await scene.operations.get(queued.id)
    assert (after.metrics["n"], after.revision) == (20, 21)


async def test_finished_operations_are_counted_no_more(scene: Scene) -> None:
    holder = await scene.attach()
    await scene.leased(holder)
    queued: Sequence[Operation] = [await scene.enqueue() for _ in range(3)]
    await scene.cancel(queued[0].id)

    assert await scene.operations.counts() == {S.LEASED: 1, S.QUEUED: 2}
    assert await scene.operations.unfinished(factories.LAKE) == 3
    page = await scene.operations.list(OperationFilter(states=(S.CANCELLED,)), after=None, limit=10)
    assert [operation.id for operation in page.operations] == [queued[0].id]
