"""What once went wrong between the planes, over the real stream and on both stores."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from control_plane.domain.identifiers import CatalogName, Lane, OperationType
from control_plane.domain.observation import ObservationKind, ObservationRequest
from control_plane.domain.operation import Change, Operation, OperationState
from floe.execution.v1 import assignment_pb2 as pb
from tests.rpc.test_executor_stream import UUID, Plane, _answered, plane, started
from tests.support.factories import catalog, operation
from tests.support.scripted_executor import ScriptedExecutor, scripted_executor

__all__ = ["plane"]

S = OperationState


async def verify(plane: Plane, executor: ScriptedExecutor, verdict: str) -> pb.Observe:
    """Have the verification of what was committed asked for and answered."""
    await plane.recovery.sweep()
    await plane.dispatcher.hand_out_looks()
    look = (await executor.expect("observe")).observe
    answer = pb.Verdict(verdict=verdict, findings=[pb.Check(check="rows", passed=verdict == "PASSED", detail="seen")])
    await executor.send(
        observation=pb.Observation(observation_id=look.observation_id, epoch=look.epoch, verdict=answer)
    )
    await _answered(plane, look.observation_id)
    await plane.recovery.act_on_answers()
    return look


async def with_expiry(plane: Plane) -> tuple[Operation, Operation]:
    """A run of two steps: a rewrite, and the expiry that comes after it."""
    rewrite = await plane.queue()
    expiry = replace(
        operation(),
        type=OperationType.EXPIRE_SNAPSHOTS,
        table_uuid=UUID,
        run_id=rewrite.run_id,
        create_time=rewrite.create_time,
        queue_deadline=rewrite.queue_deadline,
        virtual_deadline=rewrite.virtual_deadline,
        action={"older_than": "2026-01-01T00:00:00Z", "retain_last": 1, "floor": "2026-01-01T00:00:00Z"},
    )
    await plane.store.operations.enqueue([expiry])
    return rewrite, expiry


async def test_a_commit_hurries_its_verification(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        _, assignment = await started(plane, executor)
        waits = asyncio.Event()

        async def next_hint() -> None:
            await plane.store.hints.wait("due", timedelta())  # Takes the earlier ones.
            waits.set()
            await plane.store.hints.wait("due", timedelta(hours=1))

        hurried = asyncio.create_task(next_hint())
        await waits.wait()
        await executor.report(assignment.lease, effects="COMMITTED", outcome="COMPLETE", snapshot_ids=[7])
        async with asyncio.timeout(10):
            await hurried


async def test_no_expiry_follows_a_table_that_failed_its_verification(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        rewrite, expiry = await with_expiry(plane)
        await plane.dispatcher.hand_out()
        assignment = await executor.start()
        await executor.report(assignment.lease, effects="COMMITTED", outcome="COMPLETE", snapshot_ids=[7])

        await verify(plane, executor, "FAILED")

        assert (await plane.get(rewrite)).state is S.FAILED
        after = await plane.get(expiry)
        assert (after.state, after.state_reason) == (S.SKIPPED, "quarantined")


async def test_no_expiry_of_the_run_follows_a_table_that_could_not_be_verified(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        rewrite, expiry = await with_expiry(plane)
        await plane.dispatcher.hand_out()
        assignment = await executor.start()
        await executor.report(assignment.lease, effects="COMMITTED", outcome="COMPLETE", snapshot_ids=[7])

        await verify(plane, executor, "UNVERIFIED")

        assert (await plane.get(rewrite)).state is S.SUCCEEDED
        after = await plane.get(expiry)
        assert (after.state, after.state_reason) == (S.SKIPPED, "unverified")


async def test_each_attempt_is_verified_from_where_it_began(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        queued, first = await started(plane, executor)
        await executor.send(plan=pb.PlanReport(lease=first.lease, base_snapshot_id=1, max_commits=10))
        await executor.expect("plan_stored")
        failure = pb.Failure(**{"class": "ENGINE", "message": "one group failed"})
        await executor.report(first.lease, effects="PARTIAL", outcome="PARTIAL", failure=failure, snapshot_ids=[2])
        looked = await verify(plane, executor, "PASSED")
        await plane.past(queued, "not_before")
        await plane.dispatcher.hand_out()
        second = await executor.start()
        await executor.send(plan=pb.PlanReport(lease=second.lease, base_snapshot_id=2, max_commits=10))
        await executor.expect("plan_stored")
        await executor.report(second.lease, effects="COMMITTED", outcome="COMPLETE", snapshot_ids=[3])
        again = await verify(plane, executor, "PASSED")

        for look, assignment, base in ((looked, first, 1), (again, second, 2)):
            asked = look.verify_operation
            assert [stamp.epoch for stamp in asked.stamps] == [assignment.lease.epoch]
            assert asked.base_snapshot_id == base
        assert (await plane.get(queued)).state is S.SUCCEEDED


async def test_the_result_of_an_operation_that_nobody_knows_is_rejected_and_the_session_goes_on(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        unknown = pb.Lease(operation_id="11111111-1111-1111-1111-111111111111", epoch=1, token=b"x" * 16)

        assert await executor.report(unknown) == "result_rejected"

        _, assignment = await started(plane, executor)
        assert await executor.report(assignment.lease) == "result_accepted"


async def test_a_look_at_a_catalog_that_is_gone_takes_no_room(plane: Plane) -> None:
    await plane.store.catalogs.create(catalog("gone"))
    request = ObservationRequest(ObservationKind.LIST_TABLES, CatalogName("gone"))
    opened = await plane.store.observations.open(request, within=timedelta(minutes=5), timeout=timedelta(minutes=5))
    await plane.store.catalogs.delete(CatalogName("gone"), revision=None)
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(observation_slots=1)

        await plane.dispatcher.hand_out_looks()

        seat = plane.dispatcher.seats[0]
        assert seat.free_looks == 1
        row = await plane.store.observations.get(opened.id)
        assert row is None or row.answer is not None


async def test_an_executor_undrained_after_it_attached_again_is_given_work(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        identity = plane.dispatcher.seats[0].executor
        await plane.store.executors.set_drained(identity, True)
        async with scripted_executor(plane.channel, executor.id) as again:
            await again.hello()
            await plane.queue()
            assert await plane.dispatcher.hand_out() == 0

            await plane.store.executors.set_drained(identity, False)
            await plane.dispatcher.hand_out()

            assert (await again.start()).attempt == 1


async def test_beside_an_operation_that_runs_alone_nothing_else_is_handed_out(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=2)
        alone = await plane.queue()
        await plane.store.operations.change(alone.id, lambda op, now: Change(replace(op, solo=True)))
        await plane.dispatcher.hand_out()
        assert (await executor.start()).solo

        assert plane.dispatcher.seats[0].free(Lane.DATA) == 0
