"""A real executor process that is stopped, killed and left alone: what becomes of its engine."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from floe.execution.v1 import assignment_pb2 as pb
from tests.support.executor_process import ExecutorProcess, executor_process, gone
from tests.support.fake_tables import Behaviour, Behaviours, EffectLog
from tests.support.scripted_control_plane import ScriptedControlPlane, Stream, assignment, scripted_control_plane
from tests.support.waiting import eventually

SHORT = timedelta(seconds=3)
BEAT = timedelta(milliseconds=500)


@pytest.fixture
async def control_plane() -> AsyncIterator[ScriptedControlPlane]:
    async with scripted_control_plane() as control_plane:
        yield control_plane


@pytest.fixture
async def executor(control_plane: ScriptedControlPlane, tmp_path: Path) -> AsyncIterator[ExecutorProcess]:
    async with executor_process(control_plane.address, tmp_path) as executor:
        yield executor


async def at_work(stream: Stream, directory: Path, *, hang: str, ttl: timedelta = SHORT) -> pb.Lease:
    """An operation that hangs in the engine."""
    behaviours = Behaviours(directory)
    behaviours.set(Behaviour(hang=hang))
    await stream.welcome(ttl=ttl, heartbeat=BEAT)
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))

    async def is_there() -> bool:
        return behaviours.reached("o1", 1).exists()

    await eventually(is_there)
    return lease


async def test_a_stopped_executor_leaves_no_engine_that_commits(
    control_plane: ScriptedControlPlane, executor: ExecutorProcess, tmp_path: Path
) -> None:
    lease = await at_work(await control_plane.attached(), tmp_path, hang="inside")
    engine = await executor.engine()

    executor.signal(signal.SIGSTOP)
    # Nobody of the executor's own process can act; the watchdog alone does.
    await gone(engine)
    Behaviours(tmp_path).release()
    executor.signal(signal.SIGCONT)

    # What it says when it is back: it does not know, and it has a new engine.
    stream = await control_plane.attached()
    await stream.welcome(refused=[lease])
    result = await stream.expect("result", lease=lease)
    assert (result.effects, result.commits_answered) == ("UNKNOWN", False)
    assert EffectLog(tmp_path).commits("u1") == []
    assert await executor.engine() != engine


async def test_a_killed_executor_takes_its_engine_along(
    control_plane: ScriptedControlPlane, executor: ExecutorProcess, tmp_path: Path
) -> None:
    await at_work(await control_plane.attached(), tmp_path, hang="inside", ttl=timedelta(minutes=10))
    engine, watchdog = await executor.engine(), await executor.watchdog()

    executor.signal(signal.SIGKILL)

    await gone(engine)
    await gone(watchdog)
    Behaviours(tmp_path).release()
    assert EffectLog(tmp_path).commits("u1") == []


async def test_an_executor_without_its_watchdog_ends_and_its_engine_too(
    control_plane: ScriptedControlPlane, executor: ExecutorProcess, tmp_path: Path
) -> None:
    await at_work(await control_plane.attached(), tmp_path, hang="inside", ttl=timedelta(minutes=10))
    engine = await executor.engine()

    (await executor.watchdog()).kill()

    assert await executor.ended() == 1
    await gone(engine)
    assert "watchdog ended" in executor.log


async def test_an_executor_that_is_asked_to_stop_tells_its_result_first(
    control_plane: ScriptedControlPlane, executor: ExecutorProcess, tmp_path: Path
) -> None:
    stream = await control_plane.attached()
    lease = await at_work(stream, tmp_path, hang="before", ttl=timedelta(minutes=10))
    engine, watchdog = await executor.engine(), await executor.watchdog()

    executor.signal(signal.SIGTERM)
    await stream.expect("draining")
    result = await stream.expect("result")
    await stream.send(result_accepted=pb.ResultAccepted(lease=lease))

    assert result.effects == "NONE"
    assert await executor.ended() == 0
    await gone(engine)
    await gone(watchdog)


async def test_a_second_signal_does_not_wait(control_plane: ScriptedControlPlane, tmp_path: Path) -> None:
    patient = {"FLOE_EXECUTOR__SHUTDOWN_GRACE": "PT10M"}
    async with executor_process(control_plane.address, tmp_path, environment=patient) as executor:
        stream = await control_plane.attached()
        await at_work(stream, tmp_path, hang="before", ttl=timedelta(minutes=10))
        engine = await executor.engine()

        executor.signal(signal.SIGTERM)
        await stream.expect("draining")
        executor.signal(signal.SIGTERM)

        assert await executor.ended() == 128 + signal.SIGTERM
        await gone(engine)


async def test_a_second_executor_on_the_same_directory_is_refused_naming_the_first(
    control_plane: ScriptedControlPlane, executor: ExecutorProcess, tmp_path: Path
) -> None:
    await (await control_plane.attached()).welcome(heartbeat=BEAT)

    async with executor_process(control_plane.address, tmp_path) as second:
        assert await second.ended() == 2
        assert f"in use by process {executor.pid}" in second.log


async def test_an_executor_killed_after_its_commit_leaves_it_to_be_found(
    control_plane: ScriptedControlPlane, executor: ExecutorProcess, tmp_path: Path
) -> None:
    Behaviours(tmp_path).set(Behaviour(dies="after"))
    stream = await control_plane.attached()
    await stream.welcome(ttl=SHORT, heartbeat=BEAT)
    lease = await stream.grant(assignment())
    await stream.expect("plan")
    await stream.send(plan_stored=pb.PlanStored(lease=lease))

    assert await executor.ended() == -signal.SIGKILL

    async with executor_process(control_plane.address, tmp_path, name="e2"):
        other = await control_plane.attached()
        await other.welcome(heartbeat=BEAT)
        table = pb.TableRef(namespace=["sales"], name="events", uuid="u1", location="fake://u1")
        wanted = pb.GatherEvidence(stamps=[pb.Stamp(operation_id="o1", epoch=1)])
        await other.send(observe=pb.Observe(observation_id="b1", epoch=1, table=table, gather_evidence=wanted))
        evidence = (await other.expect("observation")).evidence
        assert [each.snapshot_id for each in evidence.snapshots] == [EffectLog(tmp_path).commits("u1")[0].snapshot]
