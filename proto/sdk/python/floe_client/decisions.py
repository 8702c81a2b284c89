"""Why operations run, wait, or do not run: explanations of now, and the decisions about every slot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from floe.v1 import decision_pb2, table_pb2, trigger_pb2
from floe.v1.operation_pb2 import OperationType
from floe_client.errors import FieldViolation, InvalidArgument
from floe_client.operations import operation_type
from floe_client.paging import AsyncPager, Page
from floe_client.tables import TableName
from floe_client.transport import Transport

_VERDICT_PREFIX: Final = "SLOT_VERDICT_"


class AsyncDecisions:
    """The answers to every why."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def explain(
        self, table: TableName | str, *, operations: Sequence[str | OperationType.ValueType] = ()
    ) -> Sequence[trigger_pb2.TriggerExplanation]:
        """Whether each operation type would run on the table now, and why."""
        name = TableName.of(table)
        request = trigger_pb2.ExplainTriggerRequest(
            catalog=name.catalog,
            namespace=name.dotted_namespace,
            table=name.table,
            operation_types=[operation_type(kind) for kind in operations],
        )
        answer = await self._transport.unary(
            "TriggerService/ExplainTrigger", request, trigger_pb2.ExplainTriggerResponse
        )
        return answer.explanations

    async def plan(
        self,
        table: TableName | str,
        *,
        policy: str = "",
        operations: Sequence[str | OperationType.ValueType] = (),
    ) -> trigger_pb2.PlanMaintenanceResponse:
        """What a trigger would do to the table, without doing it; `plan_hash` is for `trigger`."""
        name = TableName.of(table)
        request = trigger_pb2.PlanMaintenanceRequest(
            catalog=name.catalog,
            namespace=name.dotted_namespace,
            table=name.table,
            policy_name=policy,
            operation_types=[operation_type(kind) for kind in operations],
        )
        return await self._transport.unary(
            "TriggerService/PlanMaintenance", request, trigger_pb2.PlanMaintenanceResponse
        )

    def list(
        self,
        *,
        table: TableName | str | None = None,
        catalog: str = "",
        policy: str = "",
        operations: Sequence[str | OperationType.ValueType] = (),
        verdicts: Sequence[str] = (),
        since: datetime | None = None,
        page_size: int = 0,
    ) -> AsyncPager[decision_pb2.Decision]:
        """The stored decisions, newest first; of one table, catalog or policy if given."""
        wanted = table_pb2.ListDecisionsRequest(
            catalog=catalog,
            policy_name=policy,
            operation_types=[operation_type(kind) for kind in operations],
            verdicts=[_verdict(word) for word in verdicts],
            page_size=page_size,
        )
        if table is not None:
            name = TableName.of(table)
            wanted.catalog, wanted.namespace, wanted.table = name.catalog, name.dotted_namespace, name.table
        if since is not None:
            wanted.since.FromDatetime(since)

        async def fetch(token: str) -> Page[decision_pb2.Decision]:
            request = table_pb2.ListDecisionsRequest()
            request.CopyFrom(wanted)
            request.page_token = token
            answer = await self._transport.unary("TableService/ListDecisions", request, table_pb2.ListDecisionsResponse)
            return Page(answer.decisions, answer.next_page_token)

        return AsyncPager(fetch)


def _verdict(word: str) -> decision_pb2.SlotVerdict.ValueType:
    known = [name.removeprefix(_VERDICT_PREFIX) for name in decision_pb2.SlotVerdict.keys()[1:]]
    if word.upper() not in known:
        message = f"{word!r} is no verdict; known are {', '.join(known)}"
        raise InvalidArgument(message, reason="INVALID_ARGUMENT", violations=[FieldViolation("verdicts", message)])
    return decision_pb2.SlotVerdict.Value(_VERDICT_PREFIX + word.upper())
