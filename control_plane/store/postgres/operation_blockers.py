"""What operations may be waiting for, in one row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import asyncpg

from control_plane.domain.identifiers import OperationId, OperationType, PolicyName, RunId
from control_plane.domain.operation import Operation, OperationState
from control_plane.store.blockers import Step, Surroundings, blockers_of
from control_plane.store.fences import fence_key
from control_plane.store.postgres.executors import ATTACHED, executor_of
from control_plane.store.postgres.pauses import IN_FORCE, pause_of

_LISTS: Final = ("holders", "steps", "pauses", "full", "policies", "executors", "displaced", "unmaintained")


def surroundings(*, fences: str, runs: str, policies: str) -> str:
    """The query, for arrays of fence keys, run ids and policy names. All is read in one snapshot."""
    return f"""
SELECT clock_timestamp() AS now,
       (SELECT json_agg(json_build_array(key, holder)) FROM fences WHERE key = ANY ({fences}) AND holder IS NOT NULL)
           AS holders,
       (SELECT json_agg(json_build_array(run_id, id, type, state, not_before))
        FROM operations WHERE run_id = ANY ({runs})) AS steps,
       (SELECT json_agg(p) FROM ({IN_FORCE}) p) AS pauses,
       (SELECT json_agg(json_build_array(key, maximum)) FROM capacity WHERE maximum > 0 AND in_use >= maximum)
           AS full,
       (SELECT json_agg(json_build_array(name, generation)) FROM policies WHERE name = ANY ({policies}) AND enabled)
           AS policies,
       (SELECT json_agg(id) FROM operations WHERE fence_key = ANY ({fences}) AND state = 'QUEUED' AND displaced)
           AS displaced,
       (SELECT json_agg(json_build_array(catalog, fence_key))
        FROM tables WHERE fence_key = ANY ({fences}) AND NOT maintenance_enabled) AS unmaintained,
       (SELECT json_agg(e) FROM ({ATTACHED}) e) AS executors
"""


def blockers_from(row: asyncpg.Record | None, waiting: Sequence[Operation]) -> Mapping[OperationId, Sequence[str]]:
    """What keeps each of the operations from starting, by the query's one row. Those that it does not know, since they
    are new, are steps of their runs all the same.
    """
    assert row is not None, "a query without a table has one row"
    found = {name: json.loads(row[name] or "[]") for name in _LISTS}
    stored = [_step(*step) for step in found["steps"]]
    known = {step.operation for step in stored}
    around = Surroundings(
        now=row["now"],
        holders={key: OperationId(holder) for key, holder in found["holders"]},
        steps=[*stored, *(Step.of(operation) for operation in waiting if operation.id not in known)],
        pauses=[pause_of(pause) for pause in found["pauses"]],
        full=dict(found["full"]),
        generations={PolicyName(name): generation for name, generation in found["policies"]},
        displaced=set(found["displaced"]),
        unmaintained={o.id for o in waiting if [o.catalog, fence_key(o)] in found["unmaintained"]},
        executors=[executor_of(executor) for executor in found["executors"]],
    )
    return {operation.id: blockers_of(operation, around) for operation in waiting}


def _step(run: str, operation: str, kind: str, state: str, not_before: str | None) -> Step:
    return Step(
        RunId(run),
        OperationId(operation),
        OperationType(kind),
        OperationState(state),
        datetime.fromisoformat(not_before) if not_before is not None else None,
    )
