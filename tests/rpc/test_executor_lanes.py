"""What rewrites no data does not wait behind what does: lanes, over the real stream and on both stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.domain.identifiers import OperationType, TableName, TableUuid
from control_plane.domain.operation import Change, Operation, OperationState
from control_plane.store.postgres.store import PostgresStore
from floe.execution.v1 import assignment_pb2 as pb
from tests.rpc.test_executor_stream import Plane, plane
from tests.support.factories import EVENTS
from tests.support.scripted_executor import ScriptedExecutor, scripted_executor

__all__ = ["plane"]

EXPIRING = {
    "older_than": "2026-01-01T00:00:00Z",
    "retain_last": 1,
    "floor": "2026-01-01T00:00:00Z",
    "clean_expired_metadata": False,
    "snapshot_ids": [],
}
COMPACTION, EXPIRY = OperationType.REWRITE_DATA_FILES, OperationType.EXPIRE_SNAPSHOTS


async def queued(plane: Plane, *kinds: OperationType) -> list[Operation]:
    """On a table each, the first one first in the queue."""
    made = []
    for number, kind in enumerate(kinds):
        table = TableName(EVENTS.catalog, EVENTS.namespace, f"t{number}")
        changes = {"action": EXPIRING} if kind is EXPIRY else {}
        place = await plane.store.now() + timedelta(seconds=number)
        made.append(
            await plane.queue(
                type=kind,
                table=table,
                table_uuid=TableUuid(f"uuid-{number}"),
                virtual_deadline=place,
                **changes,
            )
        )
    return made


async def running(plane: Plane, *operations: Operation) -> list[bool]:
    return [(await plane.get(each)).state is OperationState.LEASED for each in operations]


async def taken(executor: ScriptedExecutor, number: int) -> list[pb.Assignment]:
    return [await executor.start() for _ in range(number)]


async def test_metadata_work_is_handed_out_while_compactions_fill_their_lane(plane: Plane) -> None:
    first, second, expiry = await queued(plane, COMPACTION, COMPACTION, EXPIRY)
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=1, metadata_slots=1)
        assert await plane.dispatcher.hand_out() == 2
        assert await running(plane, first, second, expiry) == [True, False, True]
        assert await plane.dispatcher.hand_out() == 0


async def test_metadata_work_takes_no_room_from_compactions(plane: Plane) -> None:
    expiries = await queued(plane, EXPIRY, EXPIRY, EXPIRY, COMPACTION)
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=2, metadata_slots=1)
        assert await plane.dispatcher.hand_out() == 2
        assert await running(plane, *expiries) == [True, False, False, True]


async def test_the_end_of_an_operation_frees_the_slot_of_its_lane(plane: Plane) -> None:
    operations = await queued(plane, COMPACTION, EXPIRY, COMPACTION, EXPIRY)
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=1, metadata_slots=1)
        await plane.dispatcher.hand_out()
        started = {each.lease.operation_id: each for each in await taken(executor, 2)}
        await executor.report(started[operations[1].id].lease)
        assert await plane.dispatcher.hand_out() == 1
        assert (await plane.get(operations[2])).state is OperationState.QUEUED
        assert (await plane.get(operations[3])).state is OperationState.LEASED


async def test_an_executor_without_lanes_takes_everything_in_its_slots(plane: Plane) -> None:
    operations = await queued(plane, COMPACTION, EXPIRY, EXPIRY)
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=2)
        assert await plane.dispatcher.hand_out() == 2
        assert await running(plane, *operations) == [True, True, False]


async def test_what_runs_alone_holds_up_both_lanes(plane: Plane) -> None:
    compaction, expiry = await queued(plane, COMPACTION, EXPIRY)
    await plane.store.operations.change(compaction.id, lambda op, now: Change(replace(op, solo=True)))
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=2, metadata_slots=2)
        assert await plane.dispatcher.hand_out() == 1
        states = await running(plane, compaction, expiry)
        assert sum(states) == 1
        assert await plane.dispatcher.hand_out() == 0


async def test_an_executor_that_attaches_anew_keeps_its_lanes(plane: Plane) -> None:
    operations = await queued(plane, COMPACTION, EXPIRY)
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=1, metadata_slots=1)
        await plane.dispatcher.hand_out()
        leases = [each.lease for each in await taken(executor, 2)]
        async with scripted_executor(plane.channel, executor.id) as again:
            await again.hello(slots=1, metadata_slots=1, leases=leases)
            more = await queued(plane, COMPACTION, EXPIRY)
            assert await plane.dispatcher.hand_out() == 0
            expiry = next(lease for lease in leases if lease.operation_id == operations[1].id)
            await again.report(expiry)
            # Of the same tables: the first is busy.
            assert await plane.dispatcher.hand_out() == 1
            assert (await plane.get(more[1])).state is OperationState.LEASED


async def test_an_executor_shows_what_is_busy_in_each_lane(plane: Plane) -> None:
    await queued(plane, COMPACTION, EXPIRY)
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=3, metadata_slots=2)
        await plane.dispatcher.hand_out()
        (found,) = await plane.store.executors.list(after=None, limit=10, detached=False)
    assert (found.capabilities.slots, found.capabilities.metadata_slots) == (3, 2)
    assert (len(found.operations), found.metadata_slots_in_use) == (2, 1)


async def test_two_lanes_that_wait_cost_one_question(plane: Plane) -> None:
    if not isinstance(plane.store, PostgresStore):
        pytest.skip("the memory store sends no statements")
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=1, metadata_slots=1)
        before = plane.store.statements
        assert await plane.dispatcher.hand_out() == 0
        assert plane.store.statements - before == 1


async def test_lanes_that_share_a_limit_take_turns(plane: Plane) -> None:
    await queued(plane, COMPACTION, COMPACTION, COMPACTION, EXPIRY, EXPIRY)
    await plane.store.set_capacity({"engine:spark": 1})
    given = []
    async with scripted_executor(plane.channel) as executor:
        await executor.hello(slots=2, metadata_slots=1)
        for _ in range(4):
            assert await plane.dispatcher.hand_out() == 1
            (assignment,) = await taken(executor, 1)
            given.append(assignment.WhichOneof("action"))
            await executor.report(assignment.lease)

    assert given == ["rewrite_data_files", "expire_snapshots"] * 2
