"""Watching over streams that break: nothing is missed, nothing comes twice, and it ends with the operation."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from floe.v1 import operation_pb2 as pb
from floe_client import AsyncFloe, Changed, DeadlineExceeded, Floe, NotFound, OperationFailed, Progressed
from tests.support.scripted_server import Hang, Refusal, ScriptedServer

QUEUED, RUNNING = pb.OPERATION_STATE_QUEUED, pb.OPERATION_STATE_RUNNING
SUCCEEDED, FAILED = pb.OPERATION_STATE_SUCCEEDED, pb.OPERATION_STATE_FAILED
WATCH, LIST = "OperationService/WatchOperations", "OperationService/ListOperations"


def operation(state: pb.OperationState.ValueType, id: str = "o") -> pb.Operation:
    return pb.Operation(id=id, state=state, etag=str(state))


def listing(*operations: pb.Operation, cursor: str = "c0") -> pb.ListOperationsResponse:
    return pb.ListOperationsResponse(operations=operations, watch_cursor=cursor)


def change(sequence: int, state: pb.OperationState.ValueType, id: str = "o") -> pb.WatchOperationsResponse:
    event = pb.OperationEvent(sequence=sequence, to_state=state, operation=operation(state, id))
    return pb.WatchOperationsResponse(cursor=f"c{sequence}", event=event)


def progress(done: int) -> pb.WatchOperationsResponse:
    update = pb.OperationProgressUpdate(operation_id="o", progress=pb.OperationProgress(groups_done=done))
    return pb.WatchOperationsResponse(progress=update)


def heartbeat(cursor: str) -> pb.WatchOperationsResponse:
    return pb.WatchOperationsResponse(cursor=cursor, heartbeat=pb.WatchHeartbeat())


GONE = Refusal(grpc.StatusCode.UNAVAILABLE, "shutting down")


async def test_a_broken_watch_goes_on_from_its_last_cursor_and_drops_what_came_before(
    server: ScriptedServer, client: AsyncFloe
) -> None:
    server.script(LIST, listing(operation(QUEUED)))
    server.script(
        WATCH,
        [heartbeat("c0"), change(1, QUEUED), GONE],
        [change(1, QUEUED), change(2, RUNNING), progress(1)],
        [heartbeat("c9"), GONE],
        [change(3, SUCCEEDED), Hang()],
    )

    updates = [update async for update in client.operation("o").watch()]

    states = [update.operation.state for update in updates if isinstance(update, Changed)]
    assert states == [QUEUED, QUEUED, RUNNING, SUCCEEDED]
    assert [type(update) for update in updates].count(Progressed) == 1
    assert [request.cursor for request in server.requests(WATCH)] == ["c0", "c1", "c2", "c9"]
    assert {tuple(request.filter.operation_ids) for request in server.requests(WATCH)} == {("o",)}


async def test_an_operation_that_has_ended_is_told_without_watching(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script(LIST, listing(operation(SUCCEEDED)))

    assert (await client.operation("o").result()).state == SUCCEEDED
    assert not server.requests(WATCH)


async def test_an_expired_cursor_is_answered_by_listing_again(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script(LIST, listing(operation(QUEUED)), listing(operation(RUNNING), cursor="n0"))
    server.script(
        WATCH,
        [Refusal(grpc.StatusCode.OUT_OF_RANGE, "past retention", "CURSOR_EXPIRED")],
        [change(7, SUCCEEDED)],
    )

    updates = [update async for update in client.operation("o").watch()]

    assert [update.operation.state for update in updates if isinstance(update, Changed)] == [QUEUED, RUNNING, SUCCEEDED]
    assert [request.cursor for request in server.requests(WATCH)] == ["c0", "n0"]


async def test_following_several_ends_with_the_last_of_them(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script(LIST, listing(operation(QUEUED, "a"), operation(QUEUED, "b"), operation(FAILED, "c")))
    server.script(WATCH, [change(1, FAILED, "b"), change(1, SUCCEEDED, "a"), Hang()])

    updates = [update async for update in client.operations.follow(["a", "b", "c"])]

    assert [update.operation.id for update in updates if isinstance(update, Changed)] == ["a", "b", "c", "b", "a"]


async def test_an_operation_that_nobody_knows_is_not_waited_for(server: ScriptedServer, client: AsyncFloe) -> None:
    server.script(LIST, listing())

    with pytest.raises(NotFound, match="no operation o"):
        await client.operation("o").result()


async def test_a_result_other_than_succeeded_raises_with_the_operation(
    server: ScriptedServer, client: AsyncFloe
) -> None:
    ended = operation(FAILED)
    ended.failure.message = "out of memory"
    ended.effects = pb.EFFECTS_PARTIAL
    server.script(LIST, listing(ended))

    with pytest.raises(
        OperationFailed, match=r"ended FAILED: out of memory \(effects on the table: PARTIAL\)"
    ) as failure:
        await client.operation("o").result()

    assert failure.value.operation == ended


async def test_a_result_that_takes_too_long_leaves_the_operation_alone(
    server: ScriptedServer, client: AsyncFloe
) -> None:
    server.script(LIST, listing(operation(RUNNING)))
    server.script(WATCH, [Hang()])

    with pytest.raises(DeadlineExceeded, match="it goes on"):
        await client.operation("o").result(timeout=0.05)

    assert not server.requests("OperationService/CancelOperation")


async def test_the_sync_client_watches_too(server: ScriptedServer) -> None:
    server.script(LIST, listing(operation(QUEUED)))
    server.script(WATCH, [change(1, RUNNING), GONE], [change(2, SUCCEEDED), Hang()])

    def use() -> list[int]:
        with Floe(server.address) as client:
            updates = list(client.operation("o").watch())
        return [update.operation.state for update in updates if isinstance(update, Changed)]

    assert await asyncio.to_thread(use) == [QUEUED, RUNNING, SUCCEEDED]
