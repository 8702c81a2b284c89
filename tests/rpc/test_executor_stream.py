"""The interleavings of assignment, ack, heartbeat, result and takeover, over the real stream and on both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from control_plane.domain.identifiers import ObservationId, ReplicaId, TableUuid
from control_plane.domain.operation import Change, Effects, Operation, OperationState, Outcome
from control_plane.domain.rules import Rules
from control_plane.ports.records import Store
from control_plane.rpc.executor_session import AssignmentServicer
from control_plane.rpc.server import Limits, build_executor_server
from control_plane.services.dispatch import Dispatcher
from control_plane.services.recovery import RecoveryService
from floe.execution.v1 import assignment_pb2 as pb
from tests.support.clock import ManualClock
from tests.support.factories import catalog, operation, policy
from tests.support.scripted_executor import ScriptedExecutor, scripted_executor
from tests.support.services import recovery
from tests.support.waiting import eventually

S = OperationState
RULES = Rules(ack_within=timedelta(seconds=30), lock_delay=timedelta())
LIMITS = Limits(
    message_bytes=2**20, calls=64, streams=64, streams_per_connection=16, default_deadline=timedelta(minutes=3)
)
UUID = TableUuid("9d1f8a3e-3c0e-4c5e-9a43-0a3f4c2f9b11")


@dataclass
class Plane:
    """One replica's executor side, stepped by the test instead of by loops."""

    store: Store
    dispatcher: Dispatcher
    recovery: RecoveryService
    clock: ManualClock
    channel: grpc.aio.Channel

    async def queue(self, **changes: Any) -> Operation:
        queued = replace(operation(), **{"table_uuid": UUID, **await self._times(), **changes})
        await self.store.operations.enqueue([queued])
        return queued

    async def _times(self) -> dict[str, Any]:
        now = await self.store.now()
        return {"create_time": now, "virtual_deadline": now, "queue_deadline": now + timedelta(days=1)}

    async def get(self, queued: Operation) -> Operation:
        return await self.store.operations.get(queued.id)

    async def past(self, queued: Operation, *fields: str) -> None:
        """Let these instants of the operation be over."""

        def decide(op: Operation, now: datetime) -> Change:
            return Change(replace(op, **dict.fromkeys(fields, now - timedelta(seconds=1))))  # type: ignore[arg-type]  # instants

        await self.store.operations.change(queued.id, decide)

    async def until(self, queued: Operation, state: OperationState) -> Operation:
        """The operation once it is in `state`; fails after a deadline."""

        async def reached() -> Operation | None:
            found = await self.get(queued)
            return found if found.state is state else None

        return await eventually(reached)

    async def lapse(self, queued: Operation) -> Operation:
        await self.past(queued, "lease_expire_time")
        self.clock.advance(RULES.lease_ttl)
        await self.recovery.sweep()
        return await self.get(queued)


@pytest.fixture
async def plane(any_store: Store, clock: ManualClock) -> AsyncIterator[Plane]:
    await any_store.policies.create(policy())
    await any_store.catalogs.create(catalog())
    dispatcher = Dispatcher(any_store, replica=ReplicaId("r1"), rules=RULES)
    sweeping = recovery(any_store, clock)
    await sweeping.sweep()
    servicer = AssignmentServicer(dispatcher, replica=ReplicaId("r1"), heartbeat=timedelta(seconds=5))
    server = build_executor_server(servicer, LIMITS)
    port = await server.start("127.0.0.1:0")
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Plane(any_store, dispatcher, sweeping, clock, channel)
    finally:
        await servicer.drain(timedelta())
        await server.stop(timedelta())


async def started(plane: Plane, executor: ScriptedExecutor) -> tuple[Operation, pb.Assignment]:
    """An operation that runs on the executor."""
    queued = await plane.queue()
    await plane.dispatcher.hand_out()
    assignment = await executor.start()
    return queued, assignment


async def test_an_acknowledged_assignment_may_start_and_its_result_ends_it(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        queued, assignment = await started(plane, executor)

        answer = await executor.report(assignment.lease)

        assert answer == "result_accepted"
        done = await plane.get(queued)
        assert (done.state, done.outcome, done.effects) == (S.SUCCEEDED, Outcome.NO_CHANGE, Effects.NONE)


async def test_what_is_cancelled_at_the_end_of_its_window_is_not_given_more_time(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        await plane.queue(cancel_at=await plane.store.now() + timedelta(minutes=2), timeout=timedelta(hours=6))
        await plane.dispatcher.hand_out()
        assignment = await executor.assignment()

        assert timedelta(minutes=2) < assignment.timeout.ToTimedelta() <= timedelta(minutes=2, seconds=10)


async def test_an_ack_that_arrives_too_late_is_answered_with_the_loss_of_the_lease(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        queued = await plane.queue()
        await plane.dispatcher.hand_out()
        assignment = await executor.assignment()
        await plane.past(queued, "ack_deadline")
        await plane.recovery.sweep()

        await executor.send(ack=pb.Ack(lease=assignment.lease))

        lost = (await executor.expect("lease_lost")).lease_lost
        assert lost.lease == assignment.lease
        back = await plane.get(queued)
        assert (back.state, back.attempt, back.start_time) == (S.QUEUED, 1, None)
        await plane.dispatcher.hand_out()
        again = await executor.start()
        assert again.attempt == 1
        assert again.lease.epoch > assignment.lease.epoch


async def test_a_lost_ack_costs_a_new_hello_and_no_attempt(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        queued = await plane.queue()
        await plane.dispatcher.hand_out()
        assignment = await executor.assignment()
        executor.break_off()

        async with scripted_executor(plane.channel, executor.id) as again:
            welcome = await again.hello(leases=[assignment.lease])

            # Still unacknowledged: neither accepted nor refused, but handed out once more under the same lease.
            assert (list(welcome.accepted), list(welcome.refused)) == ([], [])
            repeated = await again.start()
            assert repeated.lease == assignment.lease
            assert (await plane.get(queued)).state is S.RUNNING


async def test_a_hello_does_not_extend_a_lease_that_was_not_acknowledged(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        queued = await plane.queue()
        await plane.dispatcher.hand_out()
        assignment = await executor.assignment()
        before = (await plane.get(queued)).ack_deadline

        async with scripted_executor(plane.channel, executor.id) as again:
            await again.hello(leases=[assignment.lease])
            await again.send(heartbeat=pb.Heartbeat(sequence=1, leases=[assignment.lease]))
            await again.expect("lease_renewed")

        assert (await plane.get(queued)).ack_deadline == before


async def test_the_same_result_twice_is_accepted_twice_and_another_one_is_rejected(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        queued, assignment = await started(plane, executor)

        first = await executor.report(assignment.lease)
        second = await executor.report(assignment.lease)
        other = await executor.report(assignment.lease, effects="COMMITTED", outcome="COMPLETE", snapshot_ids=[7])

        assert (first, second, other) == ("result_accepted", "result_accepted", "result_rejected")
        done = await plane.get(queued)
        assert (done.state, done.effects, list(done.snapshots)) == (S.SUCCEEDED, Effects.NONE, [])


async def test_a_new_session_takes_over_with_its_leases_and_ends_the_old_one(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as old:
        await old.hello()
        queued, assignment = await started(plane, old)

        async with scripted_executor(plane.channel, old.id) as new:
            welcome = await new.hello(leases=[assignment.lease])

            assert list(welcome.accepted) == [assignment.lease]
            assert await old.end() is grpc.StatusCode.ABORTED
            assert (await plane.get(queued)).state is S.RUNNING
            assert await new.report(assignment.lease) == "result_accepted"


async def test_an_old_session_renews_nothing(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as old:
        welcome = await old.hello()
        queued, assignment = await started(plane, old)
        seat = next(seat for seat in plane.dispatcher.seats if seat.session == welcome.session_id)
        async with scripted_executor(plane.channel, old.id) as new:
            await new.hello(leases=[assignment.lease])
            lease = (await plane.get(queued)).lease

            renewal = await plane.dispatcher.heartbeat(seat, [lease])

            assert (list(renewal.renewed), list(renewal.lost)) == ([], [lease])


async def test_the_result_of_a_stale_epoch_changes_nothing(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as slow, scripted_executor(plane.channel) as next_one:
        await slow.hello()
        queued, stale = await started(plane, slow)
        slow.break_off()
        assert (await plane.lapse(queued)).state is S.RECONCILING
        await next_one.hello()
        await _no_evidence(plane, next_one)
        await plane.until(queued, S.QUEUED)
        await plane.past(queued, "not_before")
        await plane.dispatcher.hand_out()
        fresh = await next_one.start()

        async with scripted_executor(plane.channel, slow.id) as back:
            welcome = await back.hello(leases=[stale.lease])
            late = await back.report(stale.lease, effects="COMMITTED", outcome="COMPLETE", snapshot_ids=[7])

        assert list(welcome.refused) == [stale.lease]
        assert late == "result_rejected"
        now = await plane.get(queued)
        assert (now.state, now.epoch, now.effects) == (S.RUNNING, fresh.lease.epoch, Effects.NONE)
        assert fresh.attempt == 2
        assert fresh.solo
        assert [(s.operation_id, s.epoch) for s in fresh.earlier] == [(queued.id, stale.lease.epoch)]


async def test_a_holder_that_comes_back_goes_on_and_its_evidence_is_void(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor, scripted_executor(plane.channel) as observer:
        await executor.hello(kinds=())
        queued, assignment = await started(plane, executor)
        assert (await plane.lapse(queued)).state is S.RECONCILING
        await observer.hello(slots=0)
        await plane.recovery.sweep()
        await plane.dispatcher.hand_out_looks()
        look = (await observer.expect("observe")).observe

        await executor.send(heartbeat=pb.Heartbeat(sequence=1, leases=[assignment.lease]))
        renewed = (await executor.expect("lease_renewed")).lease_renewed
        await observer.send(observation=_evidence(look))
        await _answered(plane, look.observation_id)
        await plane.recovery.act_on_answers()

        assert list(renewed.leases) == [assignment.lease]
        now = await plane.get(queued)
        assert (now.state, now.attempt, now.epoch) == (S.RUNNING, 1, assignment.lease.epoch)


async def test_a_commit_found_by_evidence_is_verified_and_never_run_again(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor, scripted_executor(plane.channel) as observer:
        await executor.hello()
        queued, assignment = await started(plane, executor)
        await executor.send(plan=pb.PlanReport(lease=assignment.lease, base_snapshot_id=1, max_commits=1))
        assert (await executor.expect("plan_stored")).plan_stored.lease == assignment.lease
        executor.break_off()
        await plane.lapse(queued)
        await observer.hello()
        await plane.recovery.sweep()
        await plane.dispatcher.hand_out_looks()
        look = (await observer.expect("observe")).observe
        await observer.send(observation=_evidence(look, 77))
        await _answered(plane, look.observation_id)
        await plane.recovery.act_on_answers()
        assert (await plane.get(queued)).state is S.VERIFYING

        await plane.recovery.sweep()
        await plane.dispatcher.hand_out_looks()
        verify = (await observer.expect("observe")).observe
        verdict = pb.Verdict(verdict="PASSED", findings=[pb.Check(check="lineage", passed=True)])
        answer = pb.Observation(observation_id=verify.observation_id, epoch=verify.epoch, verdict=verdict)
        await observer.send(observation=answer)
        await _answered(plane, verify.observation_id)
        await plane.recovery.act_on_answers()

        done = await plane.get(queued)
        assert verify.verify_operation.base_snapshot_id == 1
        assert (done.state, done.effects, list(done.snapshots), done.attempt) == (
            S.SUCCEEDED,
            Effects.COMMITTED,
            [77],
            1,
        )


async def test_a_cancel_reaches_the_executor_and_ends_with_its_result(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        queued, assignment = await started(plane, executor)
        await plane.store.operations.change(
            queued.id, lambda op, now: Change(replace(op, cancel_request_time=now, cancel_reason="enough"))
        )

        await plane.dispatcher.pass_on_cancels()

        assert (await executor.expect("cancel")).cancel.lease == assignment.lease
        assert await executor.report(assignment.lease, cancelled=True) == "result_accepted"
        assert (await plane.get(queued)).state is S.CANCELLED


async def test_a_refused_assignment_goes_back_and_not_to_the_same_executor(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor, scripted_executor(plane.channel) as other:
        await executor.hello()
        queued = await plane.queue()
        await plane.dispatcher.hand_out()
        assignment = await executor.assignment()

        await executor.send(nack=pb.Nack(lease=assignment.lease, reason="engine is restarting"))

        await plane.until(queued, S.QUEUED)
        await plane.past(queued, "not_before")
        assert await plane.dispatcher.hand_out() == 0
        await other.hello()
        await plane.dispatcher.hand_out()
        assert (await other.start()).attempt == 1


async def test_progress_is_kept_for_the_current_lease_only(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.hello()
        queued, assignment = await started(plane, executor)
        stranger = pb.Lease(operation_id=assignment.lease.operation_id, epoch=99, token=b"x" * 16)

        await executor.send(progress=pb.ProgressReport(lease=stranger, phase="forged"))
        await executor.send(progress=pb.ProgressReport(lease=assignment.lease, phase="rewriting", groups_done=1))

        shown = await eventually(lambda: plane.store.operations.progress([queued.id]))
        assert (shown[queued.id].phase, shown[queued.id].groups_done) == ("rewriting", 1)


async def test_another_protocol_version_is_refused_with_the_reason(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        with pytest.raises((AssertionError, grpc.aio.AioRpcError)):
            await executor.hello(protocol=99)

        assert await executor.end() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_stream_that_does_not_begin_with_a_hello_is_refused(plane: Plane) -> None:
    async with scripted_executor(plane.channel) as executor:
        await executor.send(heartbeat=pb.Heartbeat(sequence=1))

        assert await executor.end() is grpc.StatusCode.INVALID_ARGUMENT


def _evidence(look: pb.Observe, *snapshots: int) -> pb.Observation:
    stamp = look.gather_evidence.stamps[0]
    table = pb.LoadedTable(table=pb.TableRef(uuid=look.table.uuid, location=look.table.location))
    found = [pb.StampedSnapshot(snapshot_id=snapshot, stamp=stamp) for snapshot in snapshots]
    evidence = pb.Evidence(table=table, snapshots=found)
    return pb.Observation(observation_id=look.observation_id, epoch=look.epoch, evidence=evidence)


async def _no_evidence(plane: Plane, observer: ScriptedExecutor) -> None:
    await plane.recovery.sweep()
    await plane.dispatcher.hand_out_looks()
    look = (await observer.expect("observe")).observe
    await observer.send(observation=_evidence(look))
    await _answered(plane, look.observation_id)
    await plane.recovery.act_on_answers()


async def _answered(plane: Plane, observation: str) -> None:
    async def answered() -> bool:
        row = await plane.store.observations.get(ObservationId(observation))
        return row is not None and row.answer is not None

    await eventually(answered)
