"""Observations on their way: asked over one stream, looked at in the lane, answered over the stream there is then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol, TypeVar

import structlog

from executor import convert, convert_observations
from executor.convert import UnknownRequest
from executor.convert_observations import Answer
from executor.observation.errors import Invalid, ObservationError, Unavailable
from executor.observation.model import Request
from floe.execution.v1 import assignment_pb2 as pb
from shared.telemetry.traces import span_from

R = TypeVar("R")

logger = structlog.get_logger(__name__)

_LONGEST: Final = timedelta(minutes=15)
_WAITING_PER_SLOT: Final = 8


class Lane(Protocol):
    """Who looks. It raises `ObservationError` for what is wrong out there, and is never asked from two loops."""

    async def warm(self) -> None: ...

    async def run(self, request: Request[R], *, within: timedelta) -> R: ...

    async def close(self) -> None: ...


class Observing:
    """Takes what is asked, at most `slots` at a time and a few in line, and keeps answers until they are taken.

    Nothing here is durable: an observation that is lost is asked again, under a new epoch.
    """

    def __init__(self, lane: Lane, *, slots: int, tasks: asyncio.TaskGroup) -> None:
        self._lane = lane
        self._tasks = tasks
        self._slots = asyncio.Semaphore(slots)
        self._limit = slots * (1 + _WAITING_PER_SLOT)
        self._running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._answers: list[pb.Observation] = []
        self.changed = asyncio.Event()
        """Set when there is an answer to take."""

    def asked(self, message: pb.Observe) -> None:
        """Begin to look. Asked again for what is under way, it goes on; a newer epoch ends the older look."""
        key = (message.observation_id, message.epoch)
        if key in self._running:
            return
        for older in [each for each in self._running if each[0] == key[0]]:
            self._running[older].cancel()
        if len(self._running) >= self._limit:
            full = Unavailable(f"this executor has {self._limit} observations under way or in line; ask later")
            self._answer(convert_observations.to_wire(message, full, began=convert.wall_time(), elapsed=timedelta()))
            return
        task = self._tasks.create_task(self._look(message))
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))

    def take_answers(self) -> Sequence[pb.Observation]:
        """Answers that were not taken before."""
        taken, self._answers = self._answers, []
        return taken

    def close(self) -> None:
        """End what is under way."""
        for task in self._running.values():
            task.cancel()

    async def _look(self, message: pb.Observe) -> None:
        async with self._slots:
            began, since = convert.wall_time(), time.monotonic()
            answer = await self._answer_of(message)
            elapsed = timedelta(seconds=time.monotonic() - since)
        self._answer(convert_observations.to_wire(message, answer, began=began, elapsed=elapsed))

    async def _answer_of(self, message: pb.Observe) -> Answer | ObservationError:
        kind = message.WhichOneof("request") or "unknown"
        attributes = {"floe.observation_id": message.observation_id, "floe.catalog": message.catalog.name}
        with span_from(message.traceparent, f"observe {kind}", attributes=attributes):
            try:
                request = convert_observations.request(message)
                within = min(message.timeout.ToTimedelta() or _LONGEST, _LONGEST)
                answer: Answer = await self._lane.run(request, within=within)
                return answer
            except UnknownRequest as unknown:
                return Invalid(str(unknown))
            except ObservationError as failure:
                logger.info("observation.failed", kind=kind, error=failure.kind, message=str(failure))
                return failure
            except Exception as error:
                logger.exception("observation.broken", kind=kind)
                return ObservationError(f"the executor failed with {type(error).__name__}; see its log")

    def _answer(self, message: pb.Observation) -> None:
        self._answers.append(message)
        self.changed.set()
