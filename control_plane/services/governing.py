"""The enabled policies as this replica last read them, and which of them governs a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from control_plane.domain.identifiers import OperationType, PolicyName, TableName
from control_plane.domain.policy import Policy
from control_plane.domain.policy_index import PolicyIndex
from control_plane.domain.scheduling import PolicyMode, Target
from control_plane.domain.thresholds import DEFAULT, Thresholds
from control_plane.ports.records import Clock, Store

_MAX_AGE: Final = timedelta(seconds=30)
_SHARE: Final = 10
"""Whoever may wait reads all policies in one part of the time out of so many."""


@dataclass(frozen=True, slots=True)
class Governance:
    """Policies that may govern tables, as they were at one moment."""

    policies: Sequence[Policy]
    index: PolicyIndex
    by_name: Mapping[PolicyName, Policy] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {policy.name: policy for policy in self.policies})

    def of(self, target: Target) -> Policy | None:
        """The policy of a target at the target's generation. None: it has changed, and the target will."""
        policy = self.by_name.get(target.policy)
        if policy is None or (policy.generation, policy.create_time) != (
            target.policy_generation,
            target.policy_create_time,
        ):
            return None
        return policy

    def governing(self, table: TableName, mode: PolicyMode) -> Mapping[OperationType, Policy]:
        """The policies that govern the table, by operation type in the order of a run."""
        resolved = self.index.resolve_all(table, mode)
        return {kind: resolution.winner for kind, resolution in resolved.items() if resolution.winner is not None}


class GoverningPolicies:
    """Reads the policies again when told that they changed, and when what it has is old."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: Governance | None = None
        self._read_at = 0.0
        self._read_for = 0.0
        self._version = ""

    async def current(self) -> Governance:
        """At most half a minute old."""
        known = self._known
        if known is None or self._clock.monotonic() - self._read_at > _MAX_AGE.total_seconds():
            return await self.latest()
        return known

    async def latest(self) -> Governance:
        """As they are now, read again only if one of them has changed."""
        asked = self._clock.monotonic()
        # Taken before they are read: what changes in between is noticed by the next call.
        version = await self._store.policies.version()
        known = self._known
        if known is None or version != self._version:
            policies = (await self._store.policies.enabled()).policies
            known = Governance(policies, PolicyIndex(policies))
            self._read_for = self._clock.monotonic() - asked
        self._known, self._version, self._read_at = known, version, asked
        return known

    @property
    def rest(self) -> timedelta:
        """How long whoever may wait leaves the time to others before all policies are read again."""
        if self._known is None:
            return timedelta()
        return max(timedelta(seconds=self._read_at + _SHARE * self._read_for - self._clock.monotonic()), timedelta())

    async def thresholds(self, table: TableName) -> Thresholds:
        """Those of the policy that governs the first operation of a run on the table."""
        governing = (await self.current()).governing(table, PolicyMode.ACTIVE)
        return next((policy.spec.thresholds for policy in governing.values()), DEFAULT)
