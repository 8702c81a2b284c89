"""A real session of an executor with a control plane that says what the test wants, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from executor.attachment import Attachment, Refused
from executor.deadlines import DeadlineTable
from executor.introduction import Introduction
from executor.lease import SECOND, boottime
from executor.observing import Observing
from executor.results import ResultStore
from executor.session import ExecutorSession
from executor.supervisor import Supervisor
from floe.execution.v1 import assignment_pb2 as pb
from shared.telemetry.traces import configure_tracing
from tests.support.fake_engine import FakeEngine, FakeLane
from tests.support.fake_tables import Behaviour, Behaviours, EffectLog
from tests.support.scripted_control_plane import (
    PATIENCE,
    ScriptedControlPlane,
    Stream,
    assignment,
    scripted_control_plane,
)
from tests.support.waiting import eventually

MINUTE = timedelta(seconds=60)


class MovedClock:
    """The real clock, moved on when a test says so."""

    def __init__(self) -> None:
        self._ahead = 0

    def __call__(self) -> int:
        return boottime() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += int(seconds * SECOND)


@dataclass
class Executor:
    supervisor: Supervisor
    attachment: Attachment
    engine: FakeEngine
    deadlines: DeadlineTable
    clock: MovedClock
    log: EffectLog
    behaviours: Behaviours
    running: asyncio.Task[None]

    async def reached(self, lease: pb.Lease) -> None:
        """The engine hangs where it was told to."""
        path = self.behaviours.reached(lease.operation_id, lease.epoch)

        async def look() -> bool:
            return path.exists()

        await eventually(look, within=PATIENCE)

    async def stopped(self, task: asyncio.Task[None]) -> None:
        async with asyncio.timeout(PATIENCE):
            await task


@contextlib.asynccontextmanager
async def executor_on(address: str, directory: Path, *, slots: int = 2, protocol: int = 1) -> AsyncIterator[Executor]:
    """The parts of a real executor but its watchdog, put together as its composition root does."""
    clock, deadlines, engine = MovedClock(), DeadlineTable.create(slots), FakeEngine(directory)
    store = ResultStore(directory / "results")
    supervisor = Supervisor(engine, slots=slots, deadlines=deadlines, results=store, clock=clock)
    await supervisor.start()
    introduction = Introduction(
        executor_id="e1",
        display_name="test",
        software_version="0",
        process_id=1,
        engine=engine.info,
        slots=slots,
        observation_slots=1,
        protocol_version=protocol,
    )
    try:
        async with asyncio.TaskGroup() as tasks:
            observing = Observing(FakeLane(directory), slots=1, tasks=tasks)
            attachment = Attachment(
                [address],
                open_session=lambda call: ExecutorSession(
                    call, introduction=introduction, work=supervisor, looks=observing, clock=clock
                ),
            )
            running = tasks.create_task(attachment.run())
            watching = tasks.create_task(supervisor.run())
            log, behaviours = EffectLog(directory), Behaviours(directory)
            try:
                yield Executor(supervisor, attachment, engine, deadlines, clock, log, behaviours, running)
            finally:
                behaviours.release()
                running.cancel()
                watching.cancel()
                observing.close()
    finally:
        await supervisor.stop()
        deadlines.close()


@pytest.fixture
async def control_plane() -> AsyncIterator[ScriptedControlPlane]:
    async with scripted_control_plane() as control_plane:
        yield control_plane


@pytest.fixture
async def executor(control_plane: ScriptedControlPlane, tmp_path: Path) -> AsyncIterator[Executor]:
    async with executor_on(control_plane.address, tmp_path) as executor:
        yield executor


@pytest.fixture
async def stream(control_plane: ScriptedControlPlane, executor: Executor) -> Stream:
    stream = await control_plane.attached()
    await stream.welcome()
    return stream


async def test_the_hello_says_what_the_executor_can_do(control_plane: ScriptedControlPlane, executor: Executor) -> None:
    hello = await (await control_plane.attached()).welcome()

    assert hello.protocol_version == 1
    assert list(hello.capabilities.operation_types) == ["REWRITE_DATA_FILES", "EXPIRE_SNAPSHOTS"]
    assert "GATHER_EVIDENCE" in hello.capabilities.observation_kinds
    assert (hello.capabilities.slots, hello.capabilities.observation_slots) == (2, 1)
    assert abs(hello.wall_time.ToSeconds() - time.time()) < 60


async def test_an_operation_is_acknowledged_planned_reported_and_told(stream: Stream, executor: Executor) -> None:
    lease = await stream.grant(assignment())
    await stream.expect("plan", lease=lease)
    assert executor.log.effects() == []
    await stream.send(plan_stored=pb.PlanStored(lease=lease))

    result = await stream.expect("result", lease=lease)

    (commit,) = executor.log.commits("u1")
    assert (result.outcome, result.effects, list(result.snapshot_ids)) == ("COMPLETE", "COMMITTED", [commit.snapshot])
    assert result.metrics == {"files_rewritten": 10}


async def test_nothing_starts_before_the_ack_is_answered(stream: Stream, executor: Executor) -> None:
    wanted = assignment()
    await stream.send(assignment=wanted)
    await stream.expect("ack")
    # Renewed heartbeats that list the lease are no permission.
    await stream.heartbeats(5)
    assert stream.said("plan") == []

    await stream.permit(wanted.lease)

    await stream.expect("plan")


async def test_permission_that_is_older_than_the_deadline_starts_nothing(stream: Stream, executor: Executor) -> None:
    wanted = assignment()
    await stream.send(assignment=wanted)
    await stream.expect("ack")

    # Both reach the executor at once: its clock jumps over the deadline before it may read the permission.
    executor.clock.advance(50)
    await stream.permit(wanted.lease)
    nack = await stream.expect("nack")

    assert (nack.lease, "deadline" in nack.reason) == (wanted.lease, True)
    assert stream.said("result") == []
    assert stream.said("plan") == []
    assert executor.log.effects() == []


async def test_an_ack_that_was_lost_is_given_again_in_the_next_session(
    control_plane: ScriptedControlPlane, executor: Executor
) -> None:
    first = await control_plane.attached()
    await first.welcome()
    wanted = assignment()
    await first.send(assignment=wanted)
    await first.expect("ack")
    first.end()

    second = await control_plane.attached()
    # Still LEASED there: neither accepted nor refused, but assigned again.
    hello = await second.welcome()
    assert list(hello.leases) == [wanted.lease]
    await second.grant(wanted)

    await second.expect("plan", lease=wanted.lease)


async def test_a_lease_that_was_refused_before_its_start_is_forgotten(stream: Stream, executor: Executor) -> None:
    wanted = assignment()
    await stream.send(assignment=wanted)
    await stream.expect("ack")
    await stream.send(lease_lost=pb.LeaseLost(lease=wanted.lease, reason="not acknowledged in time"))
    await stream.heartbeats(1)

    # Its slot is free again, and a grant under the next epoch is another lease.
    again = assignment(epoch=2)
    await stream.grant(again)

    await stream.expect("plan", lease=again.lease)
    assert stream.said("result") == []


async def test_an_executor_attaches_again_with_its_leases_and_goes_on(
    control_plane: ScriptedControlPlane, executor: Executor
) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    first = await control_plane.attached()
    await first.welcome()
    lease = await first.grant(assignment())
    await first.expect("plan")
    await first.send(plan_stored=pb.PlanStored(lease=lease))
    await executor.reached(lease)
    first.end()

    second = await control_plane.attached()
    hello = await second.welcome(accepted=[lease])
    executor.behaviours.release()

    assert list(hello.leases) == [lease]
    assert (await second.expect("result")).effects == "COMMITTED"
    assert len(executor.log.commits("u1")) == 1


async def test_a_plan_that_was_not_stored_is_sent_again_in_the_next_session(
    control_plane: ScriptedControlPlane, executor: Executor
) -> None:
    first = await control_plane.attached()
    await first.welcome()
    lease = await first.grant(assignment())
    await first.expect("plan")
    first.end()

    second = await control_plane.attached()
    await second.welcome(accepted=[lease])
    await second.expect("plan", lease=lease)
    await second.send(plan_stored=pb.PlanStored(lease=lease))

    assert (await second.expect("result")).effects == "COMMITTED"


async def test_a_result_is_repeated_until_it_is_answered(
    control_plane: ScriptedControlPlane, executor: Executor, tmp_path: Path
) -> None:
    first = await control_plane.attached()
    await first.welcome()
    lease = await first.grant(assignment())
    await first.expect("plan")
    await first.send(plan_stored=pb.PlanStored(lease=lease))
    told = await first.expect("result")
    assert await first.expect("result") == told
    first.end()

    second = await control_plane.attached()
    hello = await second.welcome(accepted=[lease])
    assert list(hello.leases) == [lease]
    assert await second.expect("result") == told
    assert len(list((tmp_path / "results").iterdir())) == 1
    await second.send(result_accepted=pb.ResultAccepted(lease=lease))

    async def is_forgotten() -> bool:
        return list((tmp_path / "results").iterdir()) == [] and executor.supervisor.leases() == []

    await eventually(is_forgotten)


async def test_the_results_of_a_process_that_ended_are_told_by_the_next(
    control_plane: ScriptedControlPlane, tmp_path: Path
) -> None:
    async with executor_on(control_plane.address, tmp_path):
        first = await control_plane.attached()
        await first.welcome()
        lease = await first.grant(assignment())
        await first.expect("plan")
        await first.send(plan_stored=pb.PlanStored(lease=lease))
        told = await first.expect("result")

    async with executor_on(control_plane.address, tmp_path):
        second = await control_plane.attached()
        hello = await second.welcome()

        # It tells what the other did, but does not claim to hold the other's lease.
        assert await second.expect("result") == told
        assert list(hello.leases) == []


async def test_a_rejected_result_is_not_sent_again(stream: Stream, executor: Executor, tmp_path: Path) -> None:
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await stream.expect("result")
    await stream.send(result_rejected=pb.ResultRejected(lease=lease, reason="stale epoch"))

    async def is_forgotten() -> bool:
        return list((tmp_path / "results").iterdir()) == []

    await eventually(is_forgotten)
    assert executor.supervisor.results() == {}


async def test_a_lost_lease_stops_the_engine_and_its_result_is_still_told(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await executor.reached(lease)

    await stream.send(lease_lost=pb.LeaseLost(lease=lease, reason="another has it"))
    result = await stream.expect("result", lease=lease)

    assert result.effects == "NONE"
    assert not result.cancelled
    assert getattr(result.failure, "class") == "UNAVAILABLE"
    assert executor.log.effects() == []


async def test_a_cancel_stops_the_engine(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await executor.reached(lease)

    await stream.send(cancel=pb.Cancel(lease=lease, reason="a person asked"))
    result = await stream.expect("result")

    assert result.cancelled
    assert (result.effects, executor.log.commits("u1")) == ("NONE", [])


async def test_a_cancel_that_comes_before_the_permission_does_nothing(stream: Stream, executor: Executor) -> None:
    wanted = assignment()
    await stream.send(assignment=wanted)
    await stream.expect("ack")
    await stream.send(cancel=pb.Cancel(lease=wanted.lease, reason="a person asked"))

    result = await stream.expect("result")
    await stream.permit(wanted.lease)
    await stream.heartbeats(2)

    assert (result.cancelled, result.effects) == (True, "NONE")
    assert stream.said("plan") == []


async def test_a_commit_that_beat_the_cancel_is_told_as_committed(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="after"))
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await executor.reached(lease)

    await stream.send(cancel=pb.Cancel(lease=lease, reason="a person asked"))

    assert (await stream.expect("result")).effects == "COMMITTED"


async def test_an_executor_that_is_not_renewed_stops_its_engine_itself(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await executor.reached(lease)

    stream.renews = lambda beat: []
    executor.clock.advance(50)
    result = await stream.expect("result")

    assert (result.effects, getattr(result.failure, "class")) == ("NONE", "UNAVAILABLE")
    assert executor.deadlines.earliest() is None


async def test_a_heartbeat_renews_only_the_leases_that_its_answer_lists(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    stream.renews = lambda beat: []
    await stream.grant(assignment())
    await stream.heartbeats(3)
    before = executor.deadlines.earliest()
    await stream.heartbeats(3)
    assert before is not None
    assert executor.deadlines.earliest() == before

    stream.renews = lambda beat: beat.leases

    async def is_later() -> bool:
        return (executor.deadlines.earliest() or 0) > before

    await eventually(is_later)


async def test_a_run_that_exceeds_its_timeout_says_so(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    lease = await stream.grant(assignment(timeout=timedelta(seconds=20)))
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await executor.reached(lease)

    executor.clock.advance(20)

    assert getattr((await stream.expect("result")).failure, "class") == "TIMEOUT"


async def test_no_more_is_taken_than_there_are_slots(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    for name in ("o1", "o2"):
        await stream.grant(assignment(name))
    third = assignment("o3")
    await stream.send(assignment=third)

    nack = await stream.expect("nack")

    assert (nack.lease, nack.reason) == (third.lease, "no slot is free")


async def test_what_has_to_run_alone_does(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    await stream.grant(assignment("o1", solo=True))
    await stream.send(assignment=assignment("o2"))
    assert (await stream.expect("nack")).reason == "what runs has to run alone"


async def test_an_action_that_is_not_known_is_refused_by_name(stream: Stream, executor: Executor) -> None:
    unknown = assignment()
    unknown.ClearField("rewrite_data_files")
    await stream.send(assignment=unknown)
    assert "does not know the action" in (await stream.expect("nack")).reason

    strange = assignment(rewrite_data_files=pb.RewriteDataFiles(strategy="HILBERT"))
    await stream.send(assignment=strange)
    assert "HILBERT" in (await stream.expect("nack")).reason


async def test_an_engine_that_dies_is_replaced_and_its_attempt_is_unknown(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="inside"))
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await executor.reached(lease)
    dead = executor.deadlines.engine
    assert dead is not None

    dead.kill()
    result = await stream.expect("result")
    await stream.send(result_accepted=pb.ResultAccepted(lease=lease))
    assert (result.effects, result.commits_answered) == ("UNKNOWN", False)

    async def is_replaced() -> bool:
        return executor.deadlines.engine not in (None, dead)

    await eventually(is_replaced)
    executor.behaviours.set(Behaviour())
    again = await stream.grant(assignment("o2", uuid="u2"))
    await stream.expect("plan", lease=again)
    await stream.send(plan_stored=pb.PlanStored(lease=again))
    assert (await stream.expect("result", lease=again)).effects == "COMMITTED"


async def test_the_engine_works_in_the_trace_of_the_request(stream: Stream, executor: Executor) -> None:
    exporter = InMemorySpanExporter()
    end = configure_tracing("test", None, exporter)
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    lease = await stream.grant(assignment(traceparent=f"00-{trace_id}-{parent}-01"))
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await stream.expect("result")
    end()

    spans = {span.name: span for span in exporter.get_finished_spans()}
    attempt, engine = spans["attempt RewriteDataFiles"], spans["engine.run"]
    assert {span.context.trace_id for span in (attempt, engine) if span.context} == {int(trace_id, 16)}
    assert attempt.parent is not None
    assert attempt.parent.span_id == int(parent, 16)
    assert engine.parent == attempt.context


async def test_progress_is_the_latest_and_comes_at_most_once_a_second(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))

    progress = await stream.expect("progress", phase="rewriting")

    assert (progress.lease, progress.groups_total) == (lease, 1)


async def test_a_drained_executor_finishes_what_it_has(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(drain=pb.Drain(reason="maintenance"))
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await executor.reached(lease)
    executor.behaviours.release()

    assert (await stream.expect("result")).effects == "COMMITTED"


async def test_an_executor_that_leaves_says_so_ends_its_work_and_tells_it(stream: Stream, executor: Executor) -> None:
    executor.behaviours.set(Behaviour(hang="before"))
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))
    await executor.reached(lease)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(executor.supervisor.leave("shutting down", grace=timedelta(0)))
        await stream.expect("draining", reason="shutting down")
        result = await stream.expect("result")
        await stream.send(assignment=assignment("o2"))
        nack = await stream.expect("nack")
        await stream.send(result_accepted=pb.ResultAccepted(lease=lease))
    await executor.supervisor.told(within=MINUTE)
    await executor.attachment.close()

    assert getattr(result.failure, "class") == "UNAVAILABLE"
    assert nack.reason == "shutting down"
    await executor.stopped(executor.running)


async def test_an_observation_is_answered_and_a_strange_one_too(stream: Stream, executor: Executor) -> None:
    table = pb.TableRef(namespace=["sales"], name="events")
    catalog = pb.CatalogRecord(name="lake", type="rest", uri="http://127.0.0.1:1")
    asked = pb.Observe(observation_id="b1", epoch=4, catalog=catalog, table=table, load_table=pb.LoadTable())
    await stream.send(observe=asked)
    answer = await stream.expect("observation", observation_id="b1")

    assert answer.epoch == 4
    assert answer.loaded_table.table.uuid
    await stream.send(observe=pb.Observe(observation_id="b2", epoch=1, catalog=catalog))
    assert (await stream.expect("observation", observation_id="b2")).error.kind == "INVALID"


async def test_a_silent_replica_is_left(control_plane: ScriptedControlPlane, executor: Executor) -> None:
    silent = await control_plane.attached()
    await silent.welcome()
    silent.renews = lambda beat: None

    await (await control_plane.attached()).welcome()


async def test_a_wrong_protocol_version_ends_the_executor_with_the_reason(
    control_plane: ScriptedControlPlane, tmp_path: Path
) -> None:
    status = Status(code=9, message="protocol 99 is not spoken here")
    status.details.add().Pack(ErrorInfo(reason="ERROR_REASON_PROTOCOL_VERSION_UNSUPPORTED", domain="floe"))

    with pytest.raises(ExceptionGroup) as failure:
        async with executor_on(control_plane.address, tmp_path, protocol=99) as executor:
            stream = await control_plane.attached()
            await stream.expect("hello", protocol_version=99)
            metadata = (("grpc-status-details-bin", status.SerializeToString()),)
            stream.error = (grpc.StatusCode.FAILED_PRECONDITION, status.message, metadata)
            stream.end()
            await executor.stopped(executor.running)

    refused = failure.value.exceptions[0]
    assert isinstance(refused, Refused)
    assert "protocol 99 is not spoken here" in str(refused)


async def test_an_executor_waits_for_a_control_plane_that_is_not_there_yet(tmp_path: Path) -> None:
    async with scripted_control_plane() as gone:
        address = gone.address
    async with executor_on(address, tmp_path), scripted_control_plane(address) as control_plane:
        assert (await (await control_plane.attached()).welcome()).executor_id == "e1"
