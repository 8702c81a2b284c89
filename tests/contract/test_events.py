"""Events, pages and blockers: what is read of operations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from control_plane.domain.errors import CursorExpired
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    OperationId,
    OperationType,
    RunId,
    TableName,
    TriggerId,
)
from control_plane.domain.operation import Change, Operation, OperationState
from control_plane.ports.operations import Cursor, OperationEvent, OperationFilter, Retention
from tests.support import factories
from tests.support.scene import Scene, returned

S = OperationState
HOUR = timedelta(hours=1)


async def read(
    scene: Scene, after: Cursor, where: OperationFilter | None = None, *, limit: int = 3
) -> Sequence[OperationEvent]:
    """Page after page until there is nothing new."""
    found: list[OperationEvent] = []
    while True:
        page = await scene.operations.events(after, where or OperationFilter(), limit=limit)
        found.extend(event for _, event in page.events)
        after = page.cursor
        if len(page.events) < limit:
            return found


async def test_a_life_is_told_edge_by_edge(scene: Scene) -> None:
    start = await scene.operations.cursor()
    holder = await scene.attach()
    running = await scene.running(holder)
    await scene.report(running.lease, factories.committed())
    await scene.verify(running.id)

    events = await read(scene, start)

    assert [(e.event, e.from_state, e.to_state) for e in events] == [
        ("queued", None, S.QUEUED),
        ("claimed", S.QUEUED, S.LEASED),
        ("acked", S.LEASED, S.RUNNING),
        ("committed", S.RUNNING, S.VERIFYING),
        ("verified", S.VERIFYING, S.SUCCEEDED),
    ]
    assert [e.operation.revision for e in events] == [1, 2, 3, 4, 5]
    assert events[-1].operation == await scene.operations.get(running.id)
    assert not any(e.operation.token for e in events), "a token is its holder's alone"


async def test_a_cursor_reads_on_where_it_stands(scene: Scene) -> None:
    await scene.enqueue()
    start = await scene.operations.cursor()
    queued = await scene.enqueue()

    first = await scene.operations.events(start, OperationFilter(), limit=10)
    assert [event.operation.id for _, event in first.events] == [queued.id]
    again = await scene.operations.events(first.cursor, OperationFilter(), limit=10)
    assert not again.events
    await scene.cancel(queued.id)
    for cursor in (first.events[-1][0], first.cursor, again.cursor):
        later = await scene.operations.events(cursor, OperationFilter(), limit=10)
        assert [event.event for _, event in later.events] == ["cancelled"]


async def test_events_are_filtered(scene: Scene) -> None:
    start = await scene.operations.cursor()
    wanted = await scene.enqueue(run_id=RunId("mine"), trigger_id=TriggerId("mine"))
    await scene.enqueue(type=OperationType.EXPIRE_SNAPSHOTS)
    for where in (
        OperationFilter(ids=(wanted.id,)),
        OperationFilter(run=wanted.run_id),
        OperationFilter(trigger=wanted.trigger_id),
        OperationFilter(table=wanted.table),
        OperationFilter(types=(wanted.type,)),
    ):
        assert [event.operation.id for event in await read(scene, start, where)] == [wanted.id]
    await scene.cancel(wanted.id)
    ended = await read(scene, start, OperationFilter(states=(S.CANCELLED,)))
    assert [event.event for event in ended] == ["cancelled"]


async def test_events_are_complete_and_in_order_under_concurrent_writers(scene: Scene) -> None:
    start = await scene.operations.cursor()
    queued = [await scene.enqueue() for _ in range(6)]
    seen: list[OperationEvent] = []

    def touch(operation: Operation, now: datetime) -> Change:
        return Change(operation, event="touched")

    async def write(operation: OperationId) -> None:
        for _ in range(5):
            async with scene.store.transaction():
                await scene.operations.change(operation, touch)

    async def watch(done: asyncio.Event) -> None:
        cursor = start
        while True:
            last = done.is_set()
            page = await scene.operations.events(cursor, OperationFilter(), limit=7)
            cursor = page.cursor
            seen.extend(event for _, event in page.events)
            if last and not page.events:
                return
            await asyncio.sleep(0)

    done = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch(done))
        # Two writers for each operation.
        await asyncio.gather(*(write(operation.id) for operation in queued for _ in range(2)))
        done.set()

    for operation in queued:
        revisions = [event.operation.revision for event in seen if event.operation.id == operation.id]
        assert revisions == list(range(1, 12))


async def test_a_cursor_of_another_store_or_of_the_future_is_refused(scene: Scene) -> None:
    cursor = await scene.operations.cursor()
    for wrong in (replace(cursor, store="another"), replace(cursor, xid=cursor.xid + 10**6)):
        with pytest.raises(CursorExpired):
            await scene.operations.events(wrong, OperationFilter(), limit=1)


async def test_a_cursor_past_retention_is_refused(scene: Scene) -> None:
    before = await scene.operations.cursor()
    await scene.enqueue()
    after = await scene.operations.cursor()

    assert await scene.store.clean(Retention(events=-1)) >= 1

    with pytest.raises(CursorExpired):
        await scene.operations.events(before, OperationFilter(), limit=1)
    assert not (await scene.operations.events(after, OperationFilter(), limit=1)).events


async def test_pages_give_each_operation_once_newest_first(scene: Scene) -> None:
    now = await scene.store.now()
    made = [await scene.enqueue(create_time=now - timedelta(minutes=n // 3)) for n in range(12)]
    for operation in made[::2]:
        await scene.cancel(operation.id)

    listed: list[Operation] = []
    after = None
    while True:
        page = await scene.operations.list(OperationFilter(), after=after, limit=5)
        listed.extend(page.operations)
        if page.next is None:
            break
        after = page.next
        # One that is made now is newer than the pages still to come, and one that moves stays where it was.
        await scene.enqueue(create_time=now + HOUR)
        await scene.cancel(made[len(listed) % 12 | 1].id) if len(listed) == 5 else None

    assert [operation.id for operation in listed] == [
        operation.id for operation in sorted(made, key=lambda o: (o.create_time, o.id), reverse=True)
    ]


async def test_a_list_is_filtered(scene: Scene) -> None:
    await scene.store.catalogs.create(factories.catalog("pond"))
    wanted = await scene.enqueue(
        table=TableName(CatalogName("pond"), ("a",), "b"),
        run_id=RunId("mine"),
        trigger_id=TriggerId("mine"),
        policy="own",
        type=OperationType.EXPIRE_SNAPSHOTS,
    )
    other = await scene.enqueue()
    await scene.cancel(other.id)
    for where in (
        OperationFilter(ids=(wanted.id,)),
        OperationFilter(catalog=wanted.catalog),
        OperationFilter(run=wanted.run_id),
        OperationFilter(trigger=wanted.trigger_id),
        OperationFilter(policy=wanted.policy),
        OperationFilter(table=wanted.table),
        OperationFilter(types=(wanted.type,)),
        OperationFilter(states=(S.QUEUED, S.RUNNING)),
    ):
        page = await scene.operations.list(where, after=None, limit=10)
        assert ([operation.id for operation in page.operations], page.next) == ([wanted.id], None)
    both = await scene.operations.list(OperationFilter(states=(S.QUEUED, S.CANCELLED)), after=None, limit=10)
    assert len(both.operations) == 2


async def blocked(scene: Scene, operation: Operation) -> str:
    return "; ".join((await scene.operations.blockers([operation]))[operation.id])


async def test_nothing_blocks_what_only_waits_for_its_turn(scene: Scene) -> None:
    await scene.attach()
    queued = await scene.enqueue()

    assert await scene.operations.blockers([queued]) == {queued.id: []}
    assert await scene.operations.blockers([]) == {}


async def test_only_what_is_queued_has_blockers(scene: Scene) -> None:
    leased = await scene.leased(await scene.attach())

    assert await scene.operations.blockers([leased]) == {}


async def test_blockers_name_what_they_wait_for(scene: Scene) -> None:
    holder = await scene.attach()
    busy = await scene.running(holder)
    now = await scene.store.now()
    run = RunId("run")
    behind = await scene.enqueue(table=busy.table, table_uuid=busy.table_uuid)
    step = await scene.enqueue(run_id=run)
    next_step = await scene.enqueue(run_id=run, type=OperationType.EXPIRE_SNAPSHOTS)
    backing_off = await scene.enqueue(not_before=now + HOUR)
    unwanted = await scene.enqueue(policy="gone")

    assert busy.id in await blocked(scene, behind)
    assert step.id in await blocked(scene, next_step)
    assert "waits until" in await blocked(scene, backing_off)
    assert "policy gone" in await blocked(scene, unwanted)
    await scene.store.pauses.set(factories.pause(reason="a migration"))
    assert "a migration" in await blocked(scene, step)


async def test_a_full_limit_is_named(scene: Scene) -> None:
    holder = await scene.attach()
    await scene.store.set_capacity({"engine:spark": 1})
    leased = await scene.leased(holder)
    waiting = await scene.enqueue()

    assert "engine:spark" in await blocked(scene, waiting)
    await scene.operations.change(leased.id, returned)
    assert not await blocked(scene, waiting)


async def test_no_capable_executor_says_which_capability_is_missing(scene: Scene) -> None:
    queued = await scene.enqueue(type=OperationType.EXPIRE_SNAPSHOTS)
    assert await blocked(scene, queued) == "NO_CAPABLE_EXECUTOR: no executor is attached"

    can = factories.executor().capabilities
    await scene.attach("e1", capabilities=replace(can, operation_types=(OperationType.REWRITE_DATA_FILES,)))
    assert "EXPIRE_SNAPSHOTS" in await blocked(scene, queued)

    await scene.attach("e2", capabilities=replace(can, catalogs=(CatalogName("pond"),)))
    assert "serves catalog lake" in await blocked(scene, queued)

    await scene.attach("e3")
    await scene.store.executors.set_drained(ExecutorId("e3"), True)
    assert "drains" in await blocked(scene, queued)
