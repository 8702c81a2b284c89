"""Where the scheduler keeps its term, its targets and its decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from control_plane.domain.catalog import Table
from control_plane.domain.identifiers import CatalogName, OperationType, PolicyName, ReplicaId, TableName
from control_plane.domain.scheduling import (
    Decision,
    DecisionId,
    Outcomes,
    PolicyChange,
    PolicyMode,
    Settled,
    SlotFacts,
    SlotVerdict,
    Spent,
    Target,
    TargetKey,
    Term,
    Wake,
)


class TermOver(Exception):
    """Another replica leads now, or nobody does: nothing of the scheduling transaction was stored."""


class LeadershipStore(Protocol):
    """One row: the current term. An election waits for scheduling transactions of the old term; a renewal does not."""

    async def acquire(self, holder: ReplicaId, *, ttl: timedelta) -> Term | None:
        """A new term, with the next number, if none is in force; else None."""

    async def renew(self, term: Term, *, ttl: timedelta) -> Term | None:
        """None if the term is not in force any more (expired counts as over, even if nobody took it)."""

    async def resign(self, term: Term) -> None:
        """End it now, so that another replica can follow at once. Nothing if it is over already."""

    async def passed(self, term: Term) -> None:
        """A scheduling pass was completed: the proof of life that others can see."""

    async def current(self) -> Term | None:
        """The term in force, if any."""


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """Every set field must match; empty: everything."""

    catalog: CatalogName | None = None
    table: TableName | None = None
    policy: PolicyName | None = None
    types: Sequence[OperationType] = ()
    verdicts: Sequence[SlotVerdict] = ()
    modes: Sequence[PolicyMode] = ()
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class DecisionPage:
    """Newest first by (time, id). `next` is where the next page starts; None on the last."""

    decisions: Sequence[Decision]
    next: tuple[datetime, DecisionId] | None


class SchedulingStore(Protocol):
    """Targets, decisions, outcomes and budgets.

    Outcomes are kept by `OperationStore` in the same step in which an operation ends; that step also makes targets due
    that await it, and gives the slot of one that never ran since its policy had changed back to its target. Saving a
    health report makes the deferred targets of its table due. Marking and resolving:

    - a policy that is created, changed in what it does, or deleted leaves a PolicyChange in the same step;
    - a table that is new, got its UUID, was renamed, came back, or went MISSING or REPLACED is marked unresolved;
    - `spread` marks the tables that a policy change may touch; `resolve`d tables lose the mark.
    """

    def in_term(self, term: Term) -> AbstractAsyncContextManager[datetime]:
        """A scheduling transaction, at the store's time that it yields. Raises TermOver if the term is not in force.

        An election waits for it; it is bounded to a second of idleness and two of a statement by the database.
        """

    async def due(self, *, limit: int) -> Sequence[SlotFacts]:
        """Targets whose `due` has come, the longest due first, locked until the transaction ends. Inside `in_term`."""

    async def next_due(self) -> datetime | None:
        """The earliest `due` of all targets: an index lookup."""

    async def approaching(self, *, after: Target | None, before: datetime, limit: int) -> Sequence[SlotFacts]:
        """Targets that become due before this instant, the soonest first and by their identity, those behind `after`
        as it was read; read without a lock.
        """

    async def settle(self, settled: Sequence[Settled]) -> None:
        """Write targets, decisions, charges and queued operations, in bulk. Inside `in_term`.

        A target that is gone stays gone; one that awaits an operation which has ended by now is due in a second.
        An operation whose (table, type) has a waiting scheduled one already is a defect and raises.
        """

    async def policy_changes(self, *, limit: int) -> Sequence[PolicyChange]:
        """Those not spread to their end, oldest first."""

    async def spread(self, change: PolicyChange, *, marked: Sequence[TableName], after: TableName | None) -> None:
        """Mark these tables unresolved, and remember how far the change got; `after` None: it is done and forgotten.
        Inside `in_term`.
        """

    async def tables_touched(
        self, *, catalog: CatalogName | None, namespace: Sequence[str] | None, after: TableName | None, limit: int
    ) -> Sequence[TableName]:
        """Names of PRESENT tables in their order, those after `after`; within a catalog, and below these leading
        namespace levels, where given.
        """

    async def unresolved(self, *, limit: int) -> Sequence[tuple[Table, Sequence[Target]]]:
        """Tables marked unresolved, with their targets of now, locked until the transaction ends. Inside `in_term`."""

    async def decided_ahead(self, tables: Sequence[Table], *, now: datetime) -> Mapping[TargetKey, datetime]:
        """The last slots of these tables that lie after now and were decided already, under whatever policy: the clock
        was set back since. Targets without any are absent.
        """

    async def resolved(self, tables: Sequence[tuple[Table, Sequence[Target]]]) -> None:
        """Make these the targets of these tables (MISSING and REPLACED tables have none) and take the mark off. Inside
        `in_term`.

        A target under the same generation of the same policy as before stays where its schedule stands. Operations that
        another policy or generation queued for a PRESENT table are due as POLICY_CHANGED.
        """

    async def facts(self, table: TableName) -> Sequence[SlotFacts]:
        """The targets of a table, read without a lock. Raises TableNotFound."""

    async def outcomes(self, table_keys: Sequence[str]) -> Mapping[str, Mapping[OperationType, Outcomes]]:
        """How operations on these tables ended lately, by type; a table or type of which none has ended is absent."""

    async def spent(self, policies: Sequence[PolicyName], *, since: datetime) -> Mapping[PolicyName, Spent]:
        """What the operations of these policies were charged since; policies without any are absent."""

    async def first_waiting(
        self, policies: Sequence[PolicyName], *, besides: Sequence[Target]
    ) -> Mapping[PolicyName, datetime]:
        """The earliest place among the targets that wait for the budgets of these policies, these targets left out;
        policies for which nothing else waits are absent.
        """

    async def wake(self, wakes: Sequence[Wake]) -> None:
        """Have the first in the queues for these policies' budgets due, those that are due later. Inside `in_term`.

        A target that somebody else holds is left out.
        """

    async def decisions(
        self, where: DecisionFilter, *, after: tuple[datetime, DecisionId] | None, limit: int
    ) -> DecisionPage:
        """One keyset page, newest first."""

    async def counts(self) -> Mapping[str, int]:
        """`targets`, `due`, `deferred`, `unresolved`."""
