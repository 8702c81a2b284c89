"""Who leads: elections, renewals, the end of a term, and a leader that gets nothing done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from control_plane.domain.errors import StoreUnavailable
from control_plane.domain.identifiers import ReplicaId
from control_plane.domain.scheduling import Term
from control_plane.loops.leader import Duties, Leader
from control_plane.ports.records import Store
from control_plane.services.leadership import Leadership
from control_plane.store.memory import MemoryStore
from tests.support.clock import ManualClock
from tests.support.stores import RULES
from tests.support.waiting import eventually

SECOND = timedelta(seconds=1)


@dataclass
class Work:
    """What a leader of these tests works on: it counts its steps, and does as the test says."""

    steps: int = 0
    terms: list[int] = field(default_factory=list)
    pause: timedelta = timedelta(seconds=30)
    error: Exception | None = None
    hangs: bool = False
    cancelled: bool = False

    async def step(self, term: Term) -> timedelta:
        self.steps += 1
        if term.number not in self.terms:
            self.terms.append(term.number)
        if self.hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        if self.error is not None:
            raise self.error
        return self.pause


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Store:
    return MemoryStore(clock, rules=RULES)


@asynccontextmanager
async def leader(
    store: Store, clock: ManualClock, work: Work, *, name: str = "r1", stalled_after: timedelta = 20 * SECOND
) -> AsyncIterator[Leadership]:
    async def discover() -> None:
        pass

    leadership = Leadership(store, clock, replica=ReplicaId(name))
    duties = Duties(work, discover, stalled_after=stalled_after)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(Leader(leadership, clock, store.hints, duties).run())
        yield leadership
        task.cancel()


async def works(work: Work, *, steps: int = 1) -> None:
    async def look() -> bool:
        return work.steps >= steps

    await eventually(look)


async def test_a_replica_alone_leads_and_works(store: Store, clock: ManualClock) -> None:
    work = Work()
    async with leader(store, clock, work) as leadership:
        await works(work)
        assert leadership.reign is not None
        current = await store.leadership.current()
        assert current is not None and current.holder == "r1"


async def test_a_hint_wakes_a_leader_that_has_nothing_to_do(store: Store, clock: ManualClock) -> None:
    work = Work()
    async with leader(store, clock, work):
        await works(work)
        store.hints.give("targets")
        await works(work, steps=2)


async def test_who_stops_resigns_and_the_next_follows_at_once(store: Store, clock: ManualClock) -> None:
    first, second = Work(), Work()
    async with leader(store, clock, second, name="r2") as follower:
        await works(second)
        async with leader(store, clock, first, name="r1"):
            await asyncio.sleep(0)
            assert not first.steps
    assert await store.leadership.current() is None
    assert follower.reign is None
    # The clock stands still: a term that was not resigned would be in force for ever.
    async with leader(store, clock, first, name="r1"):
        await works(first)
    assert first.terms > second.terms


async def test_a_term_that_is_over_cancels_the_work(store: Store, clock: ManualClock) -> None:
    work = Work(hangs=True)
    async with leader(store, clock, work) as leadership:
        await works(work)
        clock.advance(7 * SECOND)

        async def look() -> bool:
            return work.cancelled

        await eventually(look)
        work.hangs = False
        await works(work, steps=2)
        assert leadership.reign is not None
        assert len(work.terms) == 2


async def test_a_leader_that_gets_nothing_done_makes_room(store: Store, clock: ManualClock) -> None:
    stuck, fresh = Work(hangs=True), Work()
    # So short that its term is in force when it is noticed, on a clock that the test moves.
    async with leader(store, clock, stuck, name="stuck", stalled_after=2 * SECOND):
        await works(stuck)
        clock.advance(3 * SECOND)
        async with leader(store, clock, fresh, name="fresh"):
            await works(fresh)
        assert stuck.cancelled
        assert stuck.steps == 1, "it stands back for a while"


async def test_a_step_that_fails_does_not_end_the_term(store: Store, clock: ManualClock) -> None:
    work = Work(error=StoreUnavailable("gone for a moment"))
    async with leader(store, clock, work):
        await works(work)
        work.error = None
        await works(work, steps=2)
        assert len(work.terms) == 1


async def test_a_replica_trusts_its_term_no_longer_than_the_store_has_promised(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()

    async def unreachable(term: Term, *, ttl: timedelta) -> None:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(store.leadership, "renew", unreachable)
    async with leader(store, clock, work) as leadership:
        await works(work)
        clock.advance(5 * SECOND)

        async def look() -> bool:
            return leadership.reign is None

        # A second before the store's own end, and although the store says nothing.
        await eventually(look)
        assert await store.leadership.current() is not None
