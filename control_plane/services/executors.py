"""Executors as operators see and steer them."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.domain.executor import Executor
from control_plane.domain.identifiers import ExecutorId
from control_plane.ports.records import Store


class ExecutorService:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, executor: ExecutorId) -> Executor:
        return await self._store.executors.get(executor)

    async def list(self, *, after: ExecutorId | None, limit: int, detached: bool) -> Sequence[Executor]:
        return await self._store.executors.list(after=after, limit=limit, detached=detached)

    async def drain(self, executor: ExecutorId) -> Executor:
        """It gets no more work; what runs goes on. Asking again changes nothing."""
        return await self._store.executors.set_drained(executor, True)

    async def undrain(self, executor: ExecutorId) -> Executor:
        """It gets work again. Raises ExecutorLeaving if it drains because it is stopping."""
        return await self._store.executors.set_drained(executor, False)
