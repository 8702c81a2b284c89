"""Which permissions start something, by a clock that stands still."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from executor.assignment import (
    Action,
    Assignment,
    Catalog,
    Effects,
    ExpireSnapshots,
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
COMPACTION = RewriteDataFiles()
EXPIRY = ExpireSnapshots(datetime(2026, 1, 1, tzinfo=UTC), 1, datetime(2026, 1, 1, tzinfo=UTC))
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

    def __init__(self, directory: Path, *, slots: int = 1, metadata_slots: int = 0) -> None:
        self.clock, self.engine = ManualClock(), HeldEngine()
        self.deadlines = DeadlineTable.create(slots + metadata_slots)
        self.results = ResultStore(directory)
        self.supervisor = Supervisor(
            self.engine,
            slots=slots,
            metadata_slots=metadata_slots,
            deadlines=self.deadlines,
            results=self.results,
            clock=self.clock,
        )

    def offer(self) -> Lease:
        lease, refusal = self.offered("o1")
        assert refusal is None
        return lease

    def offered(self, operation: str, action: Action = COMPACTION) -> tuple[Lease, str | None]:
        """The lease, and why it was not taken."""
        table = Table(Catalog("lake", "rest", "http://127.0.0.1"), ("sales",), "events", "u", "file:///t")
        lease = Lease(OperationId(operation), 1, b"t" * 16)
        assignment = Assignment(lease, 1, table, action, "p", timedelta(hours=6), timedelta(seconds=30))
        return lease, self.supervisor.offered(assignment, sent_at=self.clock(), ttl=TTL)

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


@pytest.fixture
async def lanes(tmp_path: Path) -> AsyncIterator[Desk]:
    """One slot, and one for what rewrites no data."""
    desk = Desk(tmp_path / "lanes", slots=1, metadata_slots=1)
    await desk.supervisor.start()
    desk.attach()
    yield desk
    await desk.supervisor.stop()
    desk.deadlines.close()


async def test_what_rewrites_no_data_has_a_slot_of_its_own(lanes: Desk) -> None:
    _, compaction = lanes.offered("o1")
    _, second = lanes.offered("o2")
    _, expiry = lanes.offered("o3", EXPIRY)
    _, another = lanes.offered("o4", EXPIRY)

    assert (compaction, second, expiry, another) == (None, "no slot is free", None, "no slot is free")


async def test_what_rewrites_data_never_takes_the_slot_of_what_does_not(lanes: Desk) -> None:
    """A control plane that knows no lanes counts `slots` alone."""
    _, first = lanes.offered("o1", EXPIRY)
    _, second = lanes.offered("o2", EXPIRY)
    _, compaction = lanes.offered("o3")

    assert (first, second, compaction) == (None, None, "no slot is free")


async def test_a_slot_comes_back_to_its_own_lane(lanes: Desk) -> None:
    lease, _ = lanes.offered("o1", EXPIRY)
    lanes.supervisor.lost(lease, "a test")

    assert [lanes.offered(f"o{number}")[1] for number in (2, 3)] == [None, "no slot is free"]
    assert lanes.offered("o4", EXPIRY)[1] is None
