"""One leader at a time, under numbers that only rise."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from control_plane.domain.identifiers import ReplicaId
from control_plane.domain.scheduling import LEADER_TTL, Term
from control_plane.ports.records import Store
from control_plane.ports.scheduling import TermOver
from tests.support.clock import ManualClock
from tests.support.waiting import eventually

ONE, OTHER = ReplicaId("one"), ReplicaId("other")
SHORT = timedelta(milliseconds=300)


async def elect(store: Store, holder: ReplicaId = ONE, *, ttl: timedelta = LEADER_TTL) -> Term:
    term = await store.leadership.acquire(holder, ttl=ttl)
    assert term is not None
    return term


async def runs_out(store: Store, clock: ManualClock) -> None:
    """Until no term is in force. Only the memory store's clock is moved by it."""
    clock.advance(SHORT)

    async def over() -> bool:
        return await store.leadership.current() is None

    await eventually(over)


async def enter(store: Store, term: Term) -> datetime:
    async with store.scheduling.in_term(term) as now:
        return now


async def test_nobody_leads_at_first(any_store: Store) -> None:
    assert await any_store.leadership.current() is None


async def test_the_first_to_ask_leads_and_the_others_do_not(any_store: Store) -> None:
    terms = await asyncio.gather(
        *(any_store.leadership.acquire(ReplicaId(f"r{number}"), ttl=LEADER_TTL) for number in range(8))
    )
    (term,) = [term for term in terms if term is not None]
    assert await any_store.leadership.current() == term
    assert term.expire_time - term.start_time == LEADER_TTL
    assert term.last_pass_time is None


async def test_a_term_in_force_is_not_taken_even_by_its_holder(any_store: Store) -> None:
    await elect(any_store)
    assert await any_store.leadership.acquire(ONE, ttl=LEADER_TTL) is None


async def test_the_number_rises_with_every_election_also_after_a_resignation(
    any_store: Store, clock: ManualClock
) -> None:
    numbers = []
    for _ in range(3):
        term = await elect(any_store)
        await any_store.leadership.resign(term)
        numbers.append(term.number)
    short = await elect(any_store, ttl=SHORT)
    await runs_out(any_store, clock)
    numbers += [short.number, (await elect(any_store, OTHER)).number]
    assert numbers == list(range(numbers[0], numbers[0] + 5))


async def test_a_renewal_moves_the_end_and_nothing_else(any_store: Store, clock: ManualClock) -> None:
    term = await elect(any_store)
    clock.advance(timedelta(seconds=2))
    renewed = await any_store.leadership.renew(term, ttl=LEADER_TTL)
    assert renewed is not None
    assert renewed.expire_time > term.expire_time
    assert (renewed.number, renewed.holder, renewed.start_time) == (term.number, term.holder, term.start_time)


async def test_a_term_that_ran_out_is_not_renewed_though_nobody_took_it(any_store: Store, clock: ManualClock) -> None:
    term = await elect(any_store, ttl=SHORT)
    await runs_out(any_store, clock)
    assert await any_store.leadership.renew(term, ttl=LEADER_TTL) is None
    assert await any_store.leadership.current() is None


async def test_a_term_that_another_followed_is_neither_renewed_nor_resigned(any_store: Store) -> None:
    old = await elect(any_store)
    await any_store.leadership.resign(old)
    new = await elect(any_store, OTHER)
    assert await any_store.leadership.renew(old, ttl=LEADER_TTL) is None
    await any_store.leadership.resign(old)
    await any_store.leadership.passed(old)
    assert await any_store.leadership.current() == new


async def test_a_pass_is_seen_by_others_until_the_next_term(any_store: Store) -> None:
    term = await elect(any_store)
    await any_store.leadership.passed(term)
    current = await any_store.leadership.current()
    assert current is not None
    assert current.last_pass_time is not None
    await any_store.leadership.resign(term)
    assert (await elect(any_store, OTHER)).last_pass_time is None


async def test_a_term_given_by_a_clock_that_was_set_back_does_not_last_for_hours(any_store: Store) -> None:
    await elect(any_store, ttl=timedelta(hours=1))
    assert await any_store.leadership.acquire(OTHER, ttl=LEADER_TTL) is not None


async def test_a_scheduling_transaction_goes_by_the_store_s_time(any_store: Store) -> None:
    term = await elect(any_store)
    assert term.start_time <= await enter(any_store, term) <= await any_store.now()


@pytest.mark.parametrize("ending", ["resigned", "ran out", "was followed"])
async def test_nothing_is_scheduled_in_a_term_that_is_over(any_store: Store, clock: ManualClock, ending: str) -> None:
    term = await elect(any_store, ttl=SHORT if ending == "ran out" else LEADER_TTL)
    if ending == "ran out":
        await runs_out(any_store, clock)
    else:
        await any_store.leadership.resign(term)
    if ending == "was followed":
        await elect(any_store, OTHER)
    with pytest.raises(TermOver):
        await enter(any_store, term)


async def test_an_error_undoes_the_scheduling_transaction(any_store: Store) -> None:
    from tests.support import factories

    term = await elect(any_store)
    with pytest.raises(RuntimeError):
        async with any_store.scheduling.in_term(term):
            await any_store.catalogs.create(factories.catalog())
            raise RuntimeError
    assert not await any_store.catalogs.list(after=None, limit=1)
