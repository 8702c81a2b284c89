"""Calls that share a statement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from control_plane.domain.errors import StoreUnavailable
from control_plane.store.postgres.together import Together


class Statement:
    """Doubles numbers. It answers when told to, and refuses what is negative."""

    def __init__(self) -> None:
        self.batches: list[Sequence[int]] = []
        self.sent = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.error: type[Exception] = ValueError

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(tuple(items))
        self.sent.set()
        await self.let_go.wait()
        if min(items) < 0:
            raise self.error(f"refused {min(items)}")
        return [item * 2 for item in items]


@asynccontextmanager
async def running(statement: Statement) -> AsyncIterator[Together[int, int]]:
    together = Together(statement)
    task = asyncio.create_task(together.run())
    try:
        yield together
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_calls_that_come_while_a_statement_is_under_way_share_the_next_one() -> None:
    statement = Statement()
    statement.let_go.clear()
    async with running(statement) as together, asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(together(1))]
        await _until_sent(statement)
        calls += [tasks.create_task(together(item)) for item in (2, 3)]
        await asyncio.sleep(0)
        statement.let_go.set()
    assert [call.result() for call in calls] == [2, 4, 6]
    assert statement.batches == [(1,), (2, 3)]


async def test_a_refused_batch_is_done_again_one_by_one_so_that_each_caller_gets_its_own_error() -> None:
    statement = Statement()
    async with running(statement) as together:
        answers = await asyncio.gather(together(1), together(-2), together(3), return_exceptions=True)
    assert answers[0] == 2
    assert isinstance(answers[1], ValueError) and str(answers[1]) == "refused -2"
    assert answers[2] == 6
    assert statement.batches == [(1, -2, 3), (1,), (-2,), (3,)]


async def test_a_batch_of_which_nobody_knows_whether_it_was_done_is_not_done_again() -> None:
    statement = Statement()
    statement.error = StoreUnavailable
    async with running(statement) as together:
        answers = await asyncio.gather(together(1), together(-2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    assert statement.batches == [(1, -2)]


async def test_a_caller_that_left_before_its_turn_is_not_served() -> None:
    statement = Statement()
    statement.let_go.clear()
    async with running(statement) as together:
        first = asyncio.ensure_future(together(1))
        await _until_sent(statement)
        left, second = asyncio.ensure_future(together(2)), asyncio.ensure_future(together(3))
        await asyncio.sleep(0)
        left.cancel()
        statement.let_go.set()
        assert [await first, await second] == [2, 6]
    assert statement.batches == [(1,), (3,)]


async def test_whoever_waits_when_the_store_closes_is_told() -> None:
    statement = Statement()
    statement.let_go.clear()
    async with running(statement) as together:
        under_way = asyncio.ensure_future(together(1))
        await _until_sent(statement)
        waiting = asyncio.ensure_future(together(2))
        await asyncio.sleep(0)
    answers = await asyncio.gather(under_way, waiting, together(3), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3


async def _until_sent(statement: Statement) -> None:
    async with asyncio.timeout(5):
        await statement.sent.wait()


@pytest.mark.parametrize("calls", [1, 1000])
async def test_every_call_is_answered(calls: int) -> None:
    statement = Statement()
    async with running(statement) as together:
        answers = await asyncio.gather(*(together(item) for item in range(calls)))
    assert answers == [item * 2 for item in range(calls)]
