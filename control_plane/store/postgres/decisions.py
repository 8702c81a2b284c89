"""What was decided about slots, and why."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import asyncpg
from pydantic_core import to_json

from control_plane.domain.identifiers import CatalogName, OperationId, OperationType, PolicyName, TableName
from control_plane.domain.scheduling import Decision, DecisionId, DecisionReason, PolicyMode, SlotVerdict, Step
from control_plane.ports.scheduling import DecisionFilter, DecisionPage
from control_plane.store.postgres.database import Database
from control_plane.store.postgres.operation_filters import Conditions

_IDENTITY: Final = ("catalog", "fence_key", "type", "mode", "policy", "slot")
_COLUMNS: Final = (
    "id",
    "catalog",
    "table_key",
    "fence_key",
    "type",
    "mode",
    "policy",
    "policy_generation",
    "slot",
    "last_slot",
    "slots",
    "verdict",
    "reason",
    "time",
    "term",
    "operation",
    "next_eligible",
    "document",
)
_ANEW: Final = ", ".join(f"{column} = EXCLUDED.{column}" for column in _COLUMNS if column not in _IDENTITY)
_WRITE: Final = f"""
INSERT INTO decisions ({", ".join(_COLUMNS)})
SELECT {", ".join(_COLUMNS)} FROM json_populate_recordset(NULL::decisions, $1::json)
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
            await self._database.execute(_WRITE, to_json(list(rows.values())).decode())

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


def _row(decision: Decision) -> dict[str, object]:
    return {
        "id": decision.id,
        "catalog": decision.catalog,
        "table_key": str(decision.table),
        "fence_key": decision.table_key,
        "type": decision.type,
        "mode": decision.mode,
        "policy": decision.policy,
        "policy_generation": decision.policy_generation,
        "slot": decision.slot,
        "last_slot": decision.last_slot,
        "slots": decision.slots,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "time": decision.time,
        "term": decision.term,
        "operation": decision.operation,
        "next_eligible": decision.next_eligible,
        "document": {
            "slot_text": decision.slot_text,
            "text": decision.text,
            "steps": [{"name": step.name, "text": step.text, "passed": step.passed} for step in decision.steps],
        },
    }


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
