"""What the leader does: whoever is elected schedules and discovers until its term is over, and then stands again.

Losing the term cancels all of it. Whatever is cancelled in the middle was not stored: each step is a transaction that
the term's row guards.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import structlog

from control_plane.domain.errors import StoreUnavailable
from control_plane.domain.scheduling import RENEW_EVERY, Term
from control_plane.ports.records import Clock, Hints
from control_plane.ports.scheduling import TermOver
from control_plane.services.leadership import Leadership, Reign

logger: Final = structlog.get_logger(__name__)

_CAMPAIGN_EVERY: Final = timedelta(seconds=1)
_RETRY_AFTER: Final = timedelta(seconds=0.25)
_BREATH: Final = timedelta(milliseconds=50)
_STEP_FAILED_PAUSE: Final = timedelta(seconds=1)
_ASK_WITHIN: Final = 2.0
_RESIGN_WITHIN: Final = 1.0
_JITTER: Final = 0.2


class Scheduling(Protocol):
    """What a leader works on: `step` completes one set of what is to be done."""

    async def step(self, term: Term) -> timedelta:
        """How long nothing more is to be done, unless a hint of `targets` says otherwise."""


@dataclass(frozen=True, slots=True)
class Duties:
    """The leader's work. `discover` is taken again and again beside the scheduling."""

    scheduling: Scheduling
    discover: Callable[[], Awaitable[object]]
    discover_every: timedelta = timedelta(seconds=10)
    stalled_after: timedelta = timedelta(seconds=20)
    """A leader that has work to do and completes none of it for so long makes room for another one."""


class _Stalled(Exception):
    """The leader works and gets nothing done."""


class Leader:
    """Campaigns for ever, and leads whenever it is elected."""

    def __init__(self, leadership: Leadership, clock: Clock, hints: Hints, duties: Duties) -> None:
        self._leadership = leadership
        self._clock = clock
        self._hints = hints
        self._duties = duties

    async def run(self) -> None:
        """Until cancelled; then it resigns."""
        while True:
            reign = await self._elected()
            why, stand_back = "it stopped", False
            try:
                try:
                    await self._lead(reign)
                except* _Stalled:
                    why, stand_back = "its work stalled", True
                except* TermOver:
                    why = ""
                except* Exception as failures:
                    why, stand_back = "its work failed", True
                    logger.exception("leader.failed", exc_info=failures)
            finally:
                await self._leave(reign, why, stand_back=stand_back)

    async def _elected(self) -> Reign:
        while True:
            try:
                async with asyncio.timeout(_ASK_WITHIN):
                    reign = await self._leadership.campaign()
                if reign is not None:
                    return reign
            except (StoreUnavailable, TimeoutError) as error:
                logger.warning("leadership.unreachable", error=str(error))
            await self._hints.wait("leader", _CAMPAIGN_EVERY * random.uniform(1 - _JITTER, 1 + _JITTER))

    async def _leave(self, reign: Reign, why: str, *, stand_back: bool) -> None:
        if not why:
            self._leadership.over(reign, "another replica may lead now")
            return
        try:
            async with asyncio.timeout(_RESIGN_WITHIN):
                await self._leadership.resign(reign, why, stand_back=stand_back)
        except (StoreUnavailable, TimeoutError):
            self._leadership.over(reign, f"{why}, and the store could not be told")

    async def _lead(self, reign: Reign) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew(reign))
            tasks.create_task(self._watch(reign))
            tasks.create_task(self._schedule(reign))
            tasks.create_task(self._discover())

    async def _renew(self, reign: Reign) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY.total_seconds())
            while True:
                self._leadership.check(reign)
                left = reign.trusted_until - self._clock.monotonic()
                try:
                    async with asyncio.timeout(min(_ASK_WITHIN, left)):
                        await self._leadership.renew(reign)
                    break
                except (StoreUnavailable, TimeoutError):
                    await asyncio.sleep(_RETRY_AFTER.total_seconds())

    async def _watch(self, reign: Reign) -> None:
        while not self._leadership.stalled(reign, after=self._duties.stalled_after):
            await asyncio.sleep(0.5)
            self._leadership.check(reign)
        raise _Stalled

    async def _schedule(self, reign: Reign) -> None:
        scheduling = self._duties.scheduling
        self._leadership.worked(reign, busy=True)
        while True:
            self._leadership.check(reign)
            reign.busy = True
            try:
                pause = await scheduling.step(reign.term)
            except TermOver:
                raise
            except Exception:
                # What was not stored is still due. If nothing comes of it for long, the watch ends the term.
                logger.exception("scheduling.step_failed", term=reign.term.number)
                await asyncio.sleep(_STEP_FAILED_PAUSE.total_seconds())
                continue
            self._leadership.worked(reign, busy=not pause)
            if pause:
                # Whatever ends gives a hint: a flood of them is answered a few times a second.
                breath = min(_BREATH, pause)
                await asyncio.sleep(breath.total_seconds())
                if pause > breath:
                    await self._hints.wait("targets", pause - breath)
                self._leadership.worked(reign, busy=True)
            else:
                await asyncio.sleep(0)

    async def _discover(self) -> None:
        while True:
            try:
                await self._duties.discover()
            except Exception:
                logger.exception("discovery.step_failed")
            every = self._duties.discover_every
            await self._hints.wait("discovery", every * random.uniform(1 - _JITTER, 1 + _JITTER))
