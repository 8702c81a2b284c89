"""Keeps this executor attached to the control plane: one session after another, on whichever replica answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from executor.session import Call, ExecutorSession, SessionEnded
from floe.execution.v1 import assignment_pb2_grpc as pb_grpc
from shared.wire.transport import MAX_EXECUTION_MESSAGE_BYTES, client_options

logger = structlog.get_logger(__name__)

_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 5.0
_CLOSES_WITHIN: Final = 2.0
_STATUS_KEY: Final = "grpc-status-details-bin"
_REFUSED_FOR_GOOD: Final = "PROTOCOL_VERSION_UNSUPPORTED"


class Refused(Exception):
    """The control plane does not want this executor, and trying again will not change that."""


class Attachment:
    """Attaches, and attaches again when a session ends; leases outlive sessions, so nothing is lost in between."""

    def __init__(self, addresses: Sequence[str], *, open_session: Callable[[Call], ExecutorSession]) -> None:
        self._addresses = itertools.cycle(random.sample(addresses, len(addresses)))
        self._open_session = open_session
        self._session: ExecutorSession | None = None
        self._ended = asyncio.Event()
        self._closing = False

    async def run(self) -> None:
        """Stay attached until `close`. Raises `Refused`."""
        delays = _delays()
        while not self._closing:
            address = next(self._addresses)
            was_welcomed = await self._attach(address)
            if was_welcomed:
                delays = _delays()
            if not self._closing:
                await asyncio.sleep(next(delays))
        self._ended.set()

    async def close(self) -> None:
        """End the session after what it still has to say, and attach no more."""
        self._closing = True
        if self._session is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSES_WITHIN):
                    await self._session.close()
                    await self._ended.wait()

    async def _attach(self, address: str) -> bool:
        """One session on one replica, to its end. Whether it came to be."""
        options = client_options(max_message_bytes=MAX_EXECUTION_MESSAGE_BYTES)
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call = pb_grpc.AssignmentServiceStub(channel).Attach()
            session = self._session = self._open_session(call)
            refusal: str | None = None
            try:
                await session.run()
            except* (SessionEnded, TimeoutError) as ended:
                logger.warning("session.ended", address=address, reason=str(_first(ended)) or "no answer in time")
            except* grpc.aio.AioRpcError as failed:
                error = _first(failed)
                assert isinstance(error, grpc.aio.AioRpcError)
                details = (error.details() or "")[:500]
                if _reason(error).endswith(_REFUSED_FOR_GOOD):
                    refusal = details
                logger.warning("session.ended", address=address, code=error.code().name, reason=details)
            finally:
                self._session = None
                call.cancel()
        # Out here, where it is not wrapped in a group.
        if refusal is not None:
            raise Refused(f"the control plane at {address} refused this executor: {refusal}")
        return session.welcomed


def _delays() -> Iterator[float]:
    """Ever longer waits with full jitter, so that the executors of a dead replica do not come back as one."""
    longest = _FIRST_DELAY
    while True:
        yield random.uniform(0, longest)
        longest = min(2 * longest, _LONGEST_DELAY)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: grpc.aio.AioRpcError) -> str:
    """The reason of the error's ErrorInfo; empty if it has none."""
    status, info = Status(), ErrorInfo()
    for key, value in error.trailing_metadata():
        if key == _STATUS_KEY and isinstance(value, bytes):
            with contextlib.suppress(DecodeError):
                status.ParseFromString(value)
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")
