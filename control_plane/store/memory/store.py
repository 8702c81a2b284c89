"""The whole store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from control_plane.domain.rules import Rules
from control_plane.ports.operations import Retention
from control_plane.ports.records import Clock
from control_plane.store.feedback import CHARGES_KEPT
from control_plane.store.hints import LocalHints
from control_plane.store.memory.debts import MemoryDebts
from control_plane.store.memory.executors import MemoryExecutors
from control_plane.store.memory.leadership import MemoryLeadership
from control_plane.store.memory.observations import MemoryObservations
from control_plane.store.memory.operations import MemoryOperations
from control_plane.store.memory.records import MemoryCatalogs, MemoryPauses, MemoryPolicies, MemoryRequests
from control_plane.store.memory.scheduling import MemoryScheduling
from control_plane.store.memory.state import Memory, State
from control_plane.store.memory.tables import MemoryTables, table_key


class MemoryStore:
    """The whole of `ports.records.Store`, by the clock that it is given."""

    def __init__(self, clock: Clock, *, rules: Rules) -> None:
        memory = Memory(clock)
        self.policies = MemoryPolicies(memory)
        self.catalogs = MemoryCatalogs(memory)
        self.tables = MemoryTables(memory)
        self.debts = MemoryDebts(memory)
        self.executors = MemoryExecutors(memory)
        self.operations = MemoryOperations(memory, rules)
        self.observations = MemoryObservations(memory)
        self.pauses = MemoryPauses(memory)
        self.requests = MemoryRequests(memory)
        self.leadership = MemoryLeadership(memory)
        self.scheduling = MemoryScheduling(memory)
        self.hints = LocalHints()
        self.memory = memory

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit at the end, undo on an error. Inside an open one of the same task it joins it."""
        async with self.memory.step():
            yield

    async def now(self) -> datetime:
        return self.memory.now()

    async def schema_version(self) -> int:
        return 0

    async def set_capacity(self, limits: Mapping[str, int]) -> None:
        async with self.memory.step() as state:
            state.limits.update(limits)

    async def clean(self, retention: Retention) -> int:
        async with self.memory.step() as state:
            return _clean(state, retention, self.memory.now())


def _clean(state: State, retention: Retention, now: datetime) -> int:
    def old(time: datetime | None, days: int) -> bool:
        return time is not None and time < now - timedelta(days=days)

    finished = [o.id for o in state.history.values() if old(o.finish_time, retention.operations)]
    for operation in finished:
        del state.history[operation]
        state.attempts.pop(operation, None)
    gone = set(finished)
    state.results = {lease: kept for lease, kept in state.results.items() if lease.operation not in gone}
    events = [row for row in state.events if old(row[1].time, retention.events)]
    if events:
        state.events_from = max(transaction for transaction, _ in events) + 1
        state.events = [row for row in state.events if not old(row[1].time, retention.events)]
    looks = [v.id for v in state.observations.values() if old(v.finish_time, retention.observations)]
    for look in looks:
        del state.observations[look]
        state.used.pop(look, None)
    requests = [name for name, kept in state.requests.items() if old(kept.time, retention.requests)]
    for name in requests:
        del state.requests[name]
    judged = [key for key, decision in state.decisions.items() if old(decision.time, retention.decisions)]
    for key in judged:
        del state.decisions[key]
    charged = [id_ for id_, kept in state.charges.items() if kept.time < now - CHARGES_KEPT]
    for id_ in charged:
        del state.charges[id_]
    measured = 0
    for table, reports in state.reports.items():
        kept_reports = tuple(
            r for r in reports if r is reports[-1] or not old(r.report.measure_time, retention.reports)
        )
        measured += len(reports) - len(kept_reports)
        state.reports[table] = kept_reports
    known = {table_key(table)[1] for table in state.tables}
    ended = [
        key
        for key, outcomes in state.outcomes.items()
        if key[0] not in known and old(outcomes.last_finish_time, retention.operations)
    ]
    for forgotten in ended:
        del state.outcomes[forgotten]
    dropped = (finished, events, looks, requests, judged, charged, ended)
    return sum(len(rows) for rows in dropped) + measured
