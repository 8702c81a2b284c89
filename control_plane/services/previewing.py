"""What a policy would do if it were stored: where it applies, who governs there, what nobody could execute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from control_plane.domain.errors import PolicyNotFound
from control_plane.domain.executor import Executor, ExecutorState
from control_plane.domain.floors import Floors
from control_plane.domain.identifiers import ExecutorId, OperationType, PolicyName, TableName
from control_plane.domain.policy import Policy, validate_policy
from control_plane.domain.policy_index import PolicyIndex
from control_plane.domain.resolution import Loser
from control_plane.ports.records import Store
from control_plane.services.reaching import tables_within

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Governed:
    """Who governs one operation type of a table. `lost` says why the policy that is previewed does not."""

    type: OperationType
    governing: PolicyName | None
    lost: Loser | None


@dataclass(frozen=True, slots=True)
class PreviewedTable:
    table: TableName
    operations: Sequence[Governed]


class PreviewingService:
    """Reads only."""

    def __init__(self, store: Store, *, floors: Floors) -> None:
        self._store = store
        self._floors = floors

    async def stored(self, name: PolicyName) -> Policy:
        """Raises PolicyNotFound."""
        return await self._store.policies.get(name)

    async def as_if_stored(self, document: Mapping[str, Any]) -> Policy:
        """The policy that would be stored. Raises InvalidArgument with every field that is wrong."""
        spec = validate_policy(document, floors=self._floors)
        now = await self._store.now()
        try:
            before = await self._store.policies.get(spec.name)
        except PolicyNotFound:
            return Policy(spec, 1, "", create_time=now, update_time=now)
        return Policy(spec, before.generation, "", create_time=before.create_time, update_time=now)

    async def tables(self, policy: Policy, *, after: TableName | None, limit: int) -> Sequence[PreviewedTable]:
        """Tables that the policy matches, by name, those after `after`."""
        enabled = (await self._store.policies.enabled()).policies
        index = PolicyIndex([policy, *(other for other in enabled if other.name != policy.name)])
        found: list[PreviewedTable] = []
        async for table in tables_within(self._store, [policy.spec.pattern], after=after):
            if policy.spec.pattern.matches(table):
                found.append(PreviewedTable(table, _governed(policy, table, index)))
                if len(found) == limit:
                    break
        return found

    async def impossible_types(self, policy: Policy) -> Sequence[OperationType]:
        """What the policy sets and no attached executor that takes work can do."""
        possible: set[OperationType] = set()
        last: ExecutorId | None = None
        while page := await self._store.executors.list(after=last, limit=_PAGE, detached=False):
            possible.update(kind for each in page if _takes_work(each) for kind in each.capabilities.operation_types)
            last = page[-1].id
        return [kind for kind in policy.spec.operation_types if kind not in possible]


def _governed(policy: Policy, table: TableName, index: PolicyIndex) -> Sequence[Governed]:
    resolved = index.resolve_all(table, policy.spec.effective_mode)
    return [
        Governed(
            kind,
            winner.name if (winner := resolved[kind].winner) is not None else None,
            next((loser for loser in resolved[kind].losers if loser.policy == policy.name), None),
        )
        for kind in policy.spec.operation_types
    ]


def _takes_work(executor: Executor) -> bool:
    return executor.state is ExecutorState.ATTACHED and executor.capabilities.slots > 0
