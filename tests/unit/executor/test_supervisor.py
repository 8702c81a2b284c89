"""Which permissions start something, by a clock that stands still."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from executor.assignment import (
    Assignment,
    Catalog,
    Effects,
    Lease,
    OperationId,
    OperationType,
    Outcome,
    Plan,
    Result,
    RewriteDataFiles,
    Table,
)
from executor.deadlines import DeadlineTable
from executor.engines.base import Attempt, EngineInfo
from executor.results import ResultStore
from executor.supervisor import Supervisor
from tests.support.manual_clock import ManualClock
from tests.support.waiting import eventually

TTL = timedelta(seconds=60)
DONE = Result(Outcome.COMPLETE, Effects.COMMITTED, snapshots=(1,))


class HeldEngine:
    """Runs until it is let go; `touched` is what it was asked to run."""

    def __init__(self) -> None:
        self.touched: list[Lease] = []
        self.go = threading.Event()
        self.error: Exception | None = None

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("held", "1", tuple(OperationType))

    @property
    def process_id(self) -> int | None:
        return None

    def start(self) -> None:
        pass

    def run(self, attempt: Attempt) -> Result:
        self.touched.append(attempt.assignment.lease)
        if self.error is not None:
            attempt.store_plan(Plan(base_snapshot=None, base_metadata_location="m"))
            raise self.error
        self.go.wait()
        return DONE

    def cancel(self, attempt: Attempt) -> None:
        self.go.set()

    def stop(self) -> None:
        self.go.set()


class Desk:
    """A supervisor, its clock and its engine."""

    def __init__(self, directory: Path) -> None:
        self.clock, self.engine = ManualClock(), HeldEngine()
        self.deadlines = DeadlineTable.create(1)
        self.results = ResultStore(directory)
        self.supervisor = Supervisor(
            self.engine, slots=1, deadlines=self.deadlines, results=self.results, clock=self.clock
        )

    def offer(self) -> Lease:
        table = Table(Catalog("lake", "rest", "http://127.0.0.1"), ("sales",), "events", "u", "file:///t")
        lease = Lease(OperationId("o1"), 1, b"t" * 16)
        assignment = Assignment(lease, 1, table, RewriteDataFiles(), "p", timedelta(hours=6), timedelta(seconds=30))
        assert self.supervisor.offered(assignment, sent_at=self.clock(), ttl=TTL) is None
        return lease

    def attach(self, *accepted: Lease) -> None:
        self.supervisor.attached(sent_at=self.clock(), ttl=TTL, accepted=accepted, refused=())

    async def result(self) -> Result:
        async def look() -> Result | None:
            return next(iter(self.supervisor.results().values()), None)

        return await eventually(look)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.supervisor.start()
    desk.attach()
    yield desk
    await desk.supervisor.stop()
    desk.deadlines.close()


async def test_an_acknowledged_lease_is_guarded_from_its_ack_on(desk: Desk) -> None:
    desk.offer()

    assert desk.deadlines.earliest() == desk.clock() + 55 * 10**9


async def test_old_permission_starts_nothing(desk: Desk) -> None:
    lease = desk.offer()
    desk.clock.advance(50)

    desk.supervisor.permitted(lease)

    assert list(desk.supervisor.take_given_back()) == [lease]
    assert desk.supervisor.results() == {}
    assert desk.engine.touched == []
    assert desk.deadlines.earliest() is None


async def test_a_renewed_heartbeat_does_not_extend_a_lease_that_waits_for_permission(desk: Desk) -> None:
    lease = desk.offer()
    desk.clock.advance(40)
    desk.supervisor.renewed([lease], sent_at=desk.clock(), ttl=TTL)
    desk.clock.advance(10)

    desk.supervisor.permitted(lease)

    assert list(desk.supervisor.take_given_back()) == [lease]
    assert desk.supervisor.results() == {}
    assert desk.engine.touched == []


async def test_an_assignment_that_comes_twice_in_one_session_counts_from_the_first_ack(desk: Desk) -> None:
    lease = desk.offer()
    desk.clock.advance(45)
    desk.offer()
    desk.clock.advance(5)

    desk.supervisor.permitted(lease)

    assert list(desk.supervisor.take_given_back()) == [lease]
    assert desk.supervisor.results() == {}
    assert desk.engine.touched == []


async def test_an_assignment_that_comes_again_in_a_new_session_counts_from_its_own_ack(desk: Desk) -> None:
    lease = desk.offer()
    desk.clock.advance(45)
    desk.attach()
    desk.offer()
    desk.clock.advance(45)

    desk.supervisor.permitted(lease)
    desk.engine.go.set()

    assert await desk.result() == DONE


async def test_a_lease_that_the_welcome_accepts_was_acknowledged_and_may_start(desk: Desk) -> None:
    lease = desk.offer()
    desk.clock.advance(55)

    desk.attach(lease)
    desk.engine.go.set()

    assert await desk.result() == DONE
    assert desk.engine.touched == [lease]


async def test_a_lease_that_the_welcome_accepts_is_guarded_from_that_hello_on(desk: Desk) -> None:
    lease = desk.offer()
    desk.clock.advance(55)

    desk.attach(lease)

    assert desk.deadlines.earliest() == desk.clock() + 55 * 10**9


async def test_what_has_not_started_is_given_back_when_the_executor_leaves(desk: Desk) -> None:
    lease = desk.offer()

    await desk.supervisor.leave("shutting down", grace=timedelta())

    assert desk.supervisor.take_given_back() == {lease: "shutting down"}
    assert desk.supervisor.take_given_back() == {}
    assert desk.supervisor.results() == {}


async def test_permission_that_comes_twice_starts_once(desk: Desk) -> None:
    lease = desk.offer()
    desk.supervisor.permitted(lease)
    desk.supervisor.permitted(lease)
    desk.engine.go.set()

    assert await desk.result() == DONE
    desk.supervisor.permitted(lease)
    assert desk.engine.touched == [lease]


async def test_an_engine_that_breaks_after_its_plan_leaves_the_effects_unknown(desk: Desk) -> None:
    desk.engine.error = ValueError("broken")
    lease = desk.offer()
    desk.supervisor.permitted(lease)

    async def is_planned() -> bool:
        return lease in desk.supervisor.plans()

    await eventually(is_planned)
    desk.supervisor.plan_stored(lease)
    result = await desk.result()

    assert (result.effects, result.commits_answered) == (Effects.UNKNOWN, False)
    assert result.failure is not None
    assert "broken" not in result.failure.message
    assert "ValueError" in result.failure.message


async def test_a_result_is_on_disk_before_it_is_told(desk: Desk) -> None:
    lease = desk.offer()
    desk.supervisor.permitted(lease)
    desk.engine.go.set()
    await desk.result()

    assert desk.results.load() == {lease: DONE}
    await desk.supervisor.answered(lease)
    assert desk.results.load() == {}


async def test_a_told_result_that_cannot_be_removed_from_disk_ends_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = desk.offer()
    desk.supervisor.permitted(lease)
    desk.engine.go.set()
    await desk.result()

    def remove(_: Lease) -> None:
        raise OSError("the disk is read-only")

    monkeypatch.setattr(desk.results, "remove", remove)
    await desk.supervisor.answered(lease)

    assert desk.supervisor.results() == {}
    await desk.supervisor.told(within=timedelta(seconds=1))
