"""Watching operations: one unbroken sequence of changes over streams that break."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from floe.v1 import operation_pb2 as pb
from floe_client.errors import DeadlineExceeded, NotFound, OutOfRange, Unavailable
from floe_client.transport import Transport

__all__ = ["Changed", "Listing", "Progressed", "Update", "follow", "is_terminal", "watch"]

TERMINAL: Final = frozenset(
    {
        pb.OPERATION_STATE_SUCCEEDED,
        pb.OPERATION_STATE_FAILED,
        pb.OPERATION_STATE_CANCELLED,
        pb.OPERATION_STATE_EXPIRED,
        pb.OPERATION_STATE_SKIPPED,
    }
)
PATIENCE: Final = 300.0
"""Seconds without an answer from anybody after which a watch gives up."""
SILENCE: Final = 45.0
"""Seconds without a message after which a stream counts as broken: the server says something every 15 s."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Changed:
    """An operation is now as `operation` says."""

    operation: pb.Operation
    event: pb.OperationEvent | None = None
    """The change that was made; None where the watch begins, or begins anew after its cursor expired."""
    cursor: str = ""
    """A later watch goes on from here."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """A running operation got further. Some of these are lost; no change ever is."""

    operation_id: str
    progress: pb.OperationProgress


Update = Changed | Progressed
Listing = tuple[Sequence[pb.Operation], str]
"""Operations as they are now, and the cursor from which a watch misses nothing that happened since."""


def is_terminal(operation: pb.Operation) -> bool:
    """Whether the operation has ended, in whatever way."""
    return operation.state in TERMINAL


async def watch(
    transport: Transport,
    filter: pb.OperationFilter,
    *,
    cursor: str = "",
    include_progress: bool = True,
    patience: float = PATIENCE,
) -> AsyncGenerator[Update, None]:
    """The changes of the operations that the filter selects, from the cursor on, without end.

    A broken stream is opened again from the last cursor, and what comes twice is dropped. Raises `Unavailable` when
    nobody answered for `patience` seconds, and `OutOfRange` when the cursor expired.
    """
    sequences: dict[str, int] = {}
    heard = time.monotonic()
    pause = _FIRST_PAUSE
    while True:
        try:
            request = pb.WatchOperationsRequest(filter=filter, cursor=cursor, include_progress=include_progress)
            async with aclosing(_messages(transport, request)) as messages:
                async for message in messages:
                    heard, pause = time.monotonic(), _FIRST_PAUSE
                    update = _update(message)
                    if isinstance(update, Progressed):
                        yield update
                    elif update is not None and update.event is not None:
                        operation_id = update.operation.id
                        if update.event.sequence > sequences.get(operation_id, 0):
                            sequences[operation_id] = update.event.sequence
                            yield update
                        if is_terminal(update.operation):
                            # Nothing follows an end: its sequence need not be remembered over a long watch.
                            sequences.pop(operation_id, None)
                    cursor = message.cursor or cursor
        except (Unavailable, DeadlineExceeded) as error:
            if time.monotonic() - heard > patience:
                raise Unavailable(f"nobody answered for {patience:.0f} s: {error.message}") from error
        # Many watchers lose the same server at once: they come back one by one.
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE)


async def follow(
    transport: Transport,
    ids: Sequence[str],
    listing: Callable[[pb.OperationFilter], Awaitable[Listing]],
    *,
    include_progress: bool = True,
    patience: float = PATIENCE,
) -> AsyncGenerator[Update, None]:
    """These operations as they are now, then their changes, until each of them has ended."""
    filter = pb.OperationFilter(operation_ids=ids)
    unfinished = set(ids)
    seen: dict[str, str] = {}
    while True:
        operations, cursor = await listing(filter)
        if missing := unfinished - {operation.id for operation in operations}:
            one = sorted(missing)[0]
            raise NotFound(f"no operation {one}", reason="OPERATION_NOT_FOUND", metadata={"id": one})
        for operation in operations:
            if seen.get(operation.id) != operation.etag:
                seen[operation.id] = operation.etag
                yield Changed(operation, cursor=cursor)
            if is_terminal(operation):
                unfinished.discard(operation.id)
        if not unfinished:
            return
        updates = watch(transport, filter, cursor=cursor, include_progress=include_progress, patience=patience)
        try:
            async with aclosing(updates):
                async for update in updates:
                    if isinstance(update, Changed):
                        seen[update.operation.id] = update.operation.etag
                    yield update
                    if isinstance(update, Changed) and is_terminal(update.operation):
                        unfinished.discard(update.operation.id)
                        if not unfinished:
                            return
        except OutOfRange as error:
            if error.reason != "CURSOR_EXPIRED":
                raise


async def _messages(
    transport: Transport, request: pb.WatchOperationsRequest
) -> AsyncGenerator[pb.WatchOperationsResponse, None]:
    """The messages of one stream, which is broken when it says nothing for too long."""
    stream = transport.stream("OperationService/WatchOperations", request, pb.WatchOperationsResponse)
    async with aclosing(stream):
        while True:
            try:
                async with asyncio.timeout(SILENCE):
                    message = await anext(stream, None)
            except TimeoutError as error:
                raise Unavailable(f"{transport.server} said nothing for {SILENCE:.0f} s") from error
            if message is None:
                return
            yield message


def _update(message: pb.WatchOperationsResponse) -> Update | None:
    match message.WhichOneof("update"):
        case "event":
            return Changed(message.event.operation, message.event, message.cursor)
        case "progress":
            return Progressed(message.progress.operation_id, message.progress.progress)
        case _:
            return None
