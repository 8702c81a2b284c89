"""What was decided about slots, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import asyncpg

from control_plane.domain.identifiers import CatalogName, OperationId, OperationType, PolicyName, TableName
from control_plane.domain.scheduling import Decision, DecisionId, DecisionReason, PolicyMode, SlotVerdict, Step
from control_plane.ports.scheduling import DecisionFilter, DecisionPage
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_filters import Conditions

_IDENTITY: Final = ("catalog", "fence_key", "type", "mode", "policy", "slot")
_TYPES: Final = {
    "id": "text",
    "catalog": "text",
    "table_key": "text",
    "fence_key": "text",
    "type": "text",
    "mode": "text",
    "policy": "text",
    "policy_generation": "bigint",
    "slot": "timestamptz",
    "last_slot": "timestamptz",
    "slots": "integer",
    "verdict": "text",
    "reason": "text",
    "time": "timestamptz",
    "term": "bigint",
    "operation": "text",
    "next_eligible": "timestamptz",
    "document": "jsonb",
}
_COLUMNS: Final = ", ".join(_TYPES)
_ARRAYS: Final = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(_TYPES.values(), start=1))
_ANEW: Final = ", ".join(f"{column} = EXCLUDED.{column}" for column in _TYPES if column not in _IDENTITY)
_WRITE: Final = f"""
INSERT INTO decisions ({_COLUMNS}) SELECT * FROM unnest({_ARRAYS})
ON CONFLICT ({", ".join(_IDENTITY)}) DO UPDATE SET {_ANEW}
"""
_PAGE: Final = "SELECT * FROM decisions WHERE {where} ORDER BY time DESC, id DESC LIMIT $1"


class Decisions:
    """One row a slot; deciding it again replaces it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, decisions: Iterable[Decision]) -> None:
        # A statement may touch a row once: the last word about a slot counts.
        rows = {(d.catalog, d.table_key, d.type, d.mode, d.policy, d.slot): _row(d) for d in decisions}
        if rows:
            await self._database.execute(_WRITE, *(list(column) for column in zip(*rows.values(), strict=True)))

    async def page(
        self, where: DecisionFilter, *, after: tuple[datetime, DecisionId] | None, limit: int
    ) -> DecisionPage:
        conditions = Conditions(limit + 1)
        if where.catalog is not None:
            conditions.add("catalog = {}", where.catalog)
        if where.table is not None:
            conditions.add("catalog = {} AND table_key = {}", where.table.catalog, str(where.table))
        if where.policy is not None:
            conditions.add("policy = {}", where.policy)
        for column, values in (("type", where.types), ("verdict", where.verdicts), ("mode", where.modes)):
            if values:
                conditions.add(column + " = ANY ({}::text[])", list(values))
        if where.since is not None:
            conditions.add("time >= {}", where.since)
        if after is not None:
            conditions.add("(time, id) < ({}, {})", *after)
        rows = await self._database.fetch(_PAGE.format(where=conditions.sql), *conditions.values)
        found = [_decision(row) for row in rows]
        page = found[:limit]
        more = len(found) > limit and bool(page)
        return DecisionPage(page, (page[-1].time, page[-1].id) if more else None)


def _row(decision: Decision) -> tuple[object, ...]:
    """The values of the columns, in their order."""
    document = {
        "slot_text": decision.slot_text,
        "text": decision.text,
        "steps": [{"name": step.name, "text": step.text, "passed": step.passed} for step in decision.steps],
    }
    return (
        decision.id,
        decision.catalog,
        str(decision.table),
        decision.table_key,
        decision.type,
        decision.mode,
        decision.policy,
        decision.policy_generation,
        decision.slot,
        decision.last_slot,
        decision.slots,
        decision.verdict,
        decision.reason,
        decision.time,
        decision.term,
        decision.operation,
        decision.next_eligible,
        json.dumps(document),
    )


def _decision(row: asyncpg.Record) -> Decision:
    document = json.loads(row["document"])
    return Decision(
        id=DecisionId(row["id"]),
        catalog=CatalogName(row["catalog"]),
        table_key=row["fence_key"],
        table=TableName.parse(row["table_key"]),
        type=OperationType(row["type"]),
        mode=PolicyMode(row["mode"]),
        policy=PolicyName(row["policy"]),
        policy_generation=row["policy_generation"],
        slot=row["slot"],
        slot_text=document["slot_text"],
        verdict=SlotVerdict(row["verdict"]),
        reason=DecisionReason(row["reason"]),
        text=document["text"],
        steps=tuple(Step(**step) for step in document["steps"]),
        time=row["time"],
        term=row["term"],
        last_slot=row["last_slot"],
        slots=row["slots"],
        operation=OperationId(row["operation"]) if row["operation"] is not None else None,
        next_eligible=row["next_eligible"],
    )
