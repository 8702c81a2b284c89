"""What follows in memory from the end of an operation, in the same step."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from control_plane.domain.catalog import Catalog
from control_plane.domain.operation import Operation
from control_plane.domain.scheduling import NO_OUTCOMES, PolicyMode
from control_plane.store.feedback import charge_after, outcomes_after, slot_comes_again
from control_plane.store.fences import fence_key
from control_plane.store.memory.state import State
from control_plane.store.memory.tables import table_key


def wake_deferred(state: State, catalog: Catalog, *, now: datetime) -> None:
    """What was put off in the catalog is due, for all tables that it has not lost."""
    tables = {table_key(table): table for table in state.tables}
    for identity, target in list(state.targets.items()):
        if target.catalog == catalog.name and target.deferred and not catalog.has_lost(tables[identity[:2]]):
            state.targets[identity] = replace(target, due=now)


def feed_back(state: State, ended: Operation, now: datetime) -> None:
    """Count it, correct its charge, and wake the targets that wait for it."""
    key = fence_key(ended)
    location = next((t.metadata_location for t in state.tables if table_key(t) == (ended.catalog, key)), "")
    before = state.outcomes.get((key, ended.type), NO_OUTCOMES)
    state.outcomes[key, ended.type] = outcomes_after(before, ended, metadata_location=location)
    state.displaced.discard(ended.id)
    if (kept := state.charges.pop(ended.id, None)) is not None:
        charge = charge_after(kept.charge, ended)
        if charge is not None:
            state.charges[ended.id] = replace(kept, charge=charge)
    for identity, target in list(state.targets.items()):
        if target.awaiting == ended.id:
            state.targets[identity] = replace(target, due=now)
    scheduled = (ended.catalog, key, ended.type, PolicyMode.ACTIVE)
    again = state.targets.get(scheduled)
    if slot_comes_again(ended) and again is not None and again.policy == ended.policy:
        state.targets[scheduled] = replace(again, slot=ended.slot, due=now)
