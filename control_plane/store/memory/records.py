"""Policies, catalogs, pauses and answered requests in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from control_plane.domain.catalog import Catalog
from control_plane.domain.errors import (
    CatalogExists,
    CatalogInUse,
    CatalogNotFound,
    EtagMismatch,
    PolicyExists,
    PolicyNotFound,
    RequestIdReused,
)
from control_plane.domain.identifiers import CatalogName, PolicyName
from control_plane.domain.pause import Pause
from control_plane.domain.policy import Policy
from control_plane.domain.scheduling import PolicyChange
from control_plane.ports.records import Enabled, RequestKey
from control_plane.store.fences import catalog_capacity
from control_plane.store.memory.feedback import wake_deferred
from control_plane.store.memory.observations import end_looks
from control_plane.store.memory.state import KeptRequest, Memory, State, request_name

_KEEP_ANSWERS: Final = timedelta(hours=24)


class MemoryPolicies:
    """The whole of `ports.records.PolicyStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def create(self, policy: Policy) -> Policy:
        async with self._memory.step() as state:
            if policy.name in state.policies:
                raise PolicyExists(policy.name)
            state.policies[policy.name] = policy
            for kept in [kept for kept in state.policy_generations if kept[0] == policy.name]:
                del state.policy_generations[kept]
            state.policy_generations[policy.name, policy.generation] = policy
            self._note(state, policy)
            return policy

    async def get(self, name: PolicyName) -> Policy:
        async with self._memory.step() as state:
            if name not in state.policies:
                raise PolicyNotFound(name)
            return state.policies[name]

    async def generation(self, name: PolicyName, generation: int) -> Policy:
        async with self._memory.step() as state:
            current = state.policies.get(name)
            if current is not None and current.generation == generation:
                return current
            if (name, generation) not in state.policy_generations:
                raise PolicyNotFound(name, generation=generation)
            return replace(state.policy_generations[name, generation], etag="")

    async def list(self, *, after: PolicyName | None, limit: int) -> Sequence[Policy]:
        async with self._memory.step() as state:
            names = sorted(name for name in state.policies if after is None or name > after)
            return [state.policies[name] for name in names[:limit]]

    async def enabled(self) -> Enabled:
        async with self._memory.step() as state:
            policies = [policy for _, policy in sorted(state.policies.items()) if policy.spec.is_enabled]
            return Enabled(policies, self._memory.now())

    async def version(self) -> str:
        async with self._memory.step() as state:
            return " ".join(f"{name}={policy.etag}" for name, policy in sorted(state.policies.items()))

    async def update(self, policy: Policy, *, etag: str | None) -> Policy:
        async with self._memory.step() as state:
            await self._check(policy.name, etag)
            before = state.policies[policy.name]
            state.policies[policy.name] = policy
            state.policy_generations.setdefault((policy.name, policy.generation), policy)
            if policy.generation > before.generation:
                self._note(state, before, policy)
            return policy

    async def delete(self, name: PolicyName, *, etag: str | None) -> None:
        async with self._memory.step() as state:
            await self._check(name, etag)
            self._note(state, state.policies.pop(name))

    def _note(self, state: State, *versions: Policy) -> None:
        state.policy_change_id += 1
        patterns = tuple(dict.fromkeys(version.spec.table_pattern for version in versions))
        state.policy_changes[state.policy_change_id] = PolicyChange(
            state.policy_change_id, versions[0].name, patterns, self._memory.now()
        )

    async def _check(self, name: PolicyName, etag: str | None) -> None:
        current = await self.get(name)
        if etag is not None and etag != current.etag:
            raise EtagMismatch(f'policy "{name}"', sent=etag, current=current.etag)


class MemoryCatalogs:
    """The whole of `ports.records.CatalogStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def create(self, catalog: Catalog) -> Catalog:
        async with self._memory.step() as state:
            if catalog.name in state.catalogs:
                raise CatalogExists(catalog.name)
            self._keep(state, catalog)
            return catalog

    async def get(self, name: CatalogName) -> Catalog:
        async with self._memory.step() as state:
            if name not in state.catalogs:
                raise CatalogNotFound(name)
            return state.catalogs[name]

    async def list(self, *, after: CatalogName | None, limit: int) -> Sequence[Catalog]:
        async with self._memory.step() as state:
            names = sorted(name for name in state.catalogs if after is None or name > after)
            return [state.catalogs[name] for name in names[:limit]]

    async def update(self, catalog: Catalog, *, revision: int | None, unused: bool) -> Catalog:
        async with self._memory.step() as state:
            current = await self._check(state, catalog.name, revision, unused=unused)
            moved = catalog.generation != current.generation
            updated = replace(
                catalog,
                type=current.type,
                create_time=current.create_time,
                revision=current.revision + 1,
                last_list_time=None if moved else current.last_list_time,
                last_list_error="" if moved else current.last_list_error,
                list_begin_time=None if moved else current.list_begin_time,
                earlier_list_begin_time=None if moved else current.earlier_list_begin_time,
                move_time=self._memory.now() if moved else current.move_time,
            )
            if moved:
                end_looks(state, catalog.name, now=self._memory.now())
            self._keep(state, updated)
            return updated

    async def delete(self, name: CatalogName, *, revision: int | None) -> None:
        async with self._memory.step() as state:
            await self._check(state, name, revision, unused=True)
            del state.catalogs[name]
            state.limits.pop(catalog_capacity(name), None)
            state.tables = [table for table in state.tables if table.name.catalog != name]
            state.reports = {key: reports for key, reports in state.reports.items() if key[0] != name}
            state.targets = {key: target for key, target in state.targets.items() if key[0] != name}
            state.unresolved = {key for key in state.unresolved if key[0] != name}

    async def record_listing(self, name: CatalogName, *, error: str, began: datetime | None = None) -> Catalog | None:
        async with self._memory.step() as state:
            catalog = state.catalogs.get(name)
            if catalog is None:
                return None
            if not error:
                catalog = replace(catalog, last_list_time=self._memory.now())
            before = catalog
            if began is not None:
                catalog = replace(catalog, list_begin_time=began, earlier_list_begin_time=catalog.list_begin_time)
            if before.is_moving:
                wake_deferred(state, catalog, now=self._memory.now())
            state.catalogs[name] = replace(catalog, last_list_error=error)
            return state.catalogs[name]

    async def _check(self, state: State, name: CatalogName, revision: int | None, *, unused: bool) -> Catalog:
        current = await self.get(name)
        if revision is not None and revision != current.revision:
            raise EtagMismatch(f'catalog "{name}"', sent=str(revision), current=str(current.revision))
        unfinished = sum(operation.catalog == name for operation in state.operations.values())
        if unused and unfinished:
            raise CatalogInUse(name, operations=unfinished)
        return current

    def _keep(self, state: State, catalog: Catalog) -> None:
        state.catalogs[catalog.name] = catalog
        state.limits[catalog_capacity(catalog.name)] = catalog.max_concurrent_operations


class MemoryPauses:
    """The whole of `ports.records.PauseStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def set(self, pause: Pause) -> Pause:
        async with self._memory.step() as state:
            state.pauses[pause.scope] = pause
            return pause

    async def clear(self, scope: str) -> bool:
        async with self._memory.step() as state:
            pause = state.pauses.pop(scope, None)
            return pause is not None and self._in_force(pause)

    async def list(self) -> Sequence[Pause]:
        async with self._memory.step() as state:
            return [pause for _, pause in sorted(state.pauses.items()) if self._in_force(pause)]

    def _in_force(self, pause: Pause) -> bool:
        return pause.until is None or pause.until > self._memory.now()


class MemoryRequests:
    """The whole of `ports.records.RequestStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def begin(self, key: RequestKey) -> bytes | None:
        self._require_transaction()
        async with self._memory.step() as state:
            now = self._memory.now()
            kept = state.requests.get(request_name(key))
            if kept is None or kept.time < now - _KEEP_ANSWERS:
                state.requests[request_name(key)] = KeptRequest(key.digest, None, now)
                return None
            if kept.digest != key.digest:
                raise RequestIdReused(key.request_id)
            return kept.response

    async def answer(self, key: RequestKey, response: bytes) -> None:
        self._require_transaction()
        async with self._memory.step() as state:
            kept = state.requests[request_name(key)]
            state.requests[request_name(key)] = replace(kept, response=response)

    def _require_transaction(self) -> None:
        if not self._memory.in_step:
            raise RuntimeError(
                "a request is kept in the transaction of its mutation; open one with store.transaction()"
            )
