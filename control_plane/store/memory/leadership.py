"""The scheduler's term in memory: a process of its own leads, and still no term is given twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from control_plane.domain.identifiers import ReplicaId
from control_plane.domain.scheduling import Term
from control_plane.store.memory.state import Memory, State


class MemoryLeadership:
    """The whole of `ports.scheduling.LeadershipStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def acquire(self, holder: ReplicaId, *, ttl: timedelta) -> Term | None:
        async with self._memory.step() as state:
            now = self._memory.now()
            last = state.term
            # A term that ends later than one that began now was given by a clock that has been set back since.
            if last is not None and now < last.expire_time <= now + ttl:
                return None
            state.term = Term((last.number if last is not None else 0) + 1, holder, now + ttl, now)
            return state.term

    async def renew(self, term: Term, *, ttl: timedelta) -> Term | None:
        async with self._memory.step() as state:
            current = in_force(state, term, self._memory)
            if current is not None:
                state.term = replace(current, expire_time=self._memory.now() + ttl)
            return state.term if current is not None else None

    async def resign(self, term: Term) -> None:
        async with self._memory.step() as state:
            if (current := in_force(state, term, self._memory)) is not None:
                state.term = replace(current, expire_time=self._memory.now())

    async def passed(self, term: Term) -> None:
        async with self._memory.step() as state:
            if (current := in_force(state, term, self._memory)) is not None:
                state.term = replace(current, last_pass_time=self._memory.now())

    async def current(self) -> Term | None:
        async with self._memory.step() as state:
            return in_force(state, state.term, self._memory)


def in_force(state: State, term: Term | None, memory: Memory) -> Term | None:
    """The stored term, if it is this one and not over."""
    current = state.term
    if term is None or current is None or current.number != term.number or current.expire_time <= memory.now():
        return None
    return current
