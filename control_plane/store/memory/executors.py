"""Executors and their sessions in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from control_plane.domain.errors import ExecutorLeaving, ExecutorNotFound
from control_plane.domain.executor import Executor
from control_plane.domain.identifiers import ExecutorId, Lane, SessionId
from control_plane.store.memory.state import Memory, State

_HEARD_WITHIN: Final = timedelta(minutes=2)
_DETACHED_AFTER: Final = timedelta(hours=1)


class MemoryExecutors:
    """The whole of `ports.records.ExecutorStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def attach(self, executor: Executor) -> Executor:
        async with self._memory.step() as state:
            now = self._memory.now()
            earlier = state.executors.get(executor.id)
            drained = executor.drained or (earlier is not None and earlier.drained)
            attached = replace(executor, attach_time=now, last_heartbeat_time=now, drained=drained, operations=())
            state.executors[executor.id] = attached
            return await self.get(executor.id)

    async def touch(self, sessions: Sequence[SessionId]) -> None:
        async with self._memory.step() as state:
            for executor in list(state.executors.values()):
                if executor.session in sessions:
                    state.executors[executor.id] = replace(executor, last_heartbeat_time=self._memory.now())

    async def detach(self, session: SessionId) -> None:
        async with self._memory.step() as state:
            if (executor := _of(state, session)) is not None:
                state.executors[executor.id] = replace(executor, session=None)

    async def leave(self, session: SessionId) -> None:
        async with self._memory.step() as state:
            if (executor := _of(state, session)) is not None:
                state.executors[executor.id] = replace(executor, leaving=True)

    async def set_drained(self, executor: ExecutorId, drained: bool) -> Executor:
        async with self._memory.step() as state:
            current = await self.get(executor)
            if current.leaving and not drained:
                raise ExecutorLeaving(executor)
            state.executors[executor] = replace(state.executors[executor], drained=drained)
            return await self.get(executor)

    async def get(self, executor: ExecutorId) -> Executor:
        async with self._memory.step() as state:
            if executor not in state.executors:
                raise ExecutorNotFound(executor)
            return self._whole(state, state.executors[executor])

    async def list(self, *, after: ExecutorId | None, limit: int, detached: bool) -> Sequence[Executor]:
        async with self._memory.step() as state:
            ids = sorted(id_ for id_ in state.executors if after is None or id_ > after)
            found = [self._whole(state, state.executors[id_]) for id_ in ids]
            return [executor for executor in found if detached or executor.session is not None][:limit]

    async def attached(self) -> int:
        async with self._memory.step() as state:
            heard_since = self._memory.now() - _HEARD_WITHIN
            return sum(
                executor.session is not None and executor.last_heartbeat_time > heard_since
                for executor in state.executors.values()
            )

    def _whole(self, state: State, executor: Executor) -> Executor:
        silent = executor.last_heartbeat_time <= self._memory.now() - _DETACHED_AFTER
        return replace(
            executor,
            session=None if silent else executor.session,
            operations=tuple(operation.id for operation in state.leased_by(executor.id)),
            metadata_slots_in_use=sum(
                executor.capabilities.lane(operation.type) is Lane.METADATA
                for operation in state.leased_by(executor.id)
            ),
        )


def _of(state: State, session: SessionId) -> Executor | None:
    return next((executor for executor in state.executors.values() if executor.session == session), None)
