"""TableService."""

from __future__ import annotations

from datetime import datetime

from control_plane.domain.errors import FieldViolation, InvalidArgument
from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.pattern import Pattern
from control_plane.domain.scheduling import DecisionId
from control_plane.rpc.convert.decisions import decision_filter_from_proto, decision_to_proto
from control_plane.rpc.convert.tables import ranked_to_proto, report_to_proto, table_to_proto
from control_plane.rpc.convert.values import table_name
from control_plane.rpc.pagination import Key, Paging
from control_plane.rpc.types import Context
from control_plane.services.explaining import ExplainingService
from control_plane.services.ranking import RankingService
from control_plane.services.tables import TableService
from floe.v1 import table_pb2 as pb
from floe.v1 import table_pb2_grpc as pb_grpc
from shared.telemetry.traces import current_traceparent


class TableServicer(pb_grpc.TableServiceServicer):
    def __init__(self, tables: TableService, ranking: RankingService, explaining: ExplainingService) -> None:
        self._ranking = ranking
        self._tables = tables
        self._explaining = explaining

    async def ListTables(self, request: pb.ListTablesRequest, context: Context) -> pb.ListTablesResponse:
        paging = Paging.of(request)
        rows = await self._tables.list(
            catalog=CatalogName(request.catalog) if request.catalog else None,
            pattern=Pattern.parse(request.pattern, field="pattern") if request.pattern else None,
            after=TableName.parse(paging.after[0], field="pageToken") if paging.after else None,
            limit=paging.limit,
        )
        tables, token = paging.cut(rows, table_to_proto, lambda table: (str(table.name),))
        return pb.ListTablesResponse(tables=tables, next_page_token=token)

    async def GetTable(self, request: pb.GetTableRequest, context: Context) -> pb.GetTableResponse:
        table = await self._tables.get(table_name(request.catalog, request.namespace, request.table))
        return pb.GetTableResponse(table=table_to_proto(table))

    async def InspectTable(self, request: pb.InspectTableRequest, context: Context) -> pb.InspectTableResponse:
        name = table_name(request.catalog, request.namespace, request.table)
        table = await self._tables.inspect(name, traceparent=current_traceparent())
        return pb.InspectTableResponse(table=table_to_proto(table))

    async def ListHealthReports(
        self, request: pb.ListHealthReportsRequest, context: Context
    ) -> pb.ListHealthReportsResponse:
        paging = Paging.of(request)
        page = await self._tables.reports(
            table_name(request.catalog, request.namespace, request.table),
            after=_position(paging.after),
            limit=paging.size,
        )
        token = paging.token((str(page.next),)) if page.next is not None else ""
        return pb.ListHealthReportsResponse(
            reports=[report_to_proto(report) for report in page.reports], next_page_token=token
        )

    async def ListTableRanking(
        self, request: pb.ListTableRankingRequest, context: Context
    ) -> pb.ListTableRankingResponse:
        paging = Paging.of(request, parts=2)
        rows = await self._ranking.list(
            catalog=CatalogName(request.catalog) if request.catalog else None,
            after=_rank_after(paging.after),
            limit=paging.limit,
        )
        tables, token = paging.cut(rows, ranked_to_proto, lambda row: (row.score.hex(), str(row.table.name)))
        return pb.ListTableRankingResponse(tables=tables, next_page_token=token)

    async def ListDecisions(self, request: pb.ListDecisionsRequest, context: Context) -> pb.ListDecisionsResponse:
        paging = Paging.of(request, parts=2)
        page = await self._explaining.decisions(
            decision_filter_from_proto(request), after=_decision_after(paging.after), limit=paging.limit
        )
        decisions, token = paging.cut(
            page.decisions, decision_to_proto, lambda decision: (decision.time.isoformat(), decision.id)
        )
        return pb.ListDecisionsResponse(decisions=decisions, next_page_token=token)


def _position(key: Key | None) -> int | None:
    if key is None:
        return None
    if not key[0].isdecimal():
        raise _no_token()
    return int(key[0])


def _decision_after(key: Key | None) -> tuple[datetime, DecisionId] | None:
    if key is None:
        return None
    try:
        return datetime.fromisoformat(key[0]), DecisionId(key[1])
    except ValueError:
        raise _no_token() from None


def _rank_after(key: Key | None) -> tuple[float, TableName] | None:
    if key is None:
        return None
    try:
        return float.fromhex(key[0]), TableName.parse(key[1], field="pageToken")
    except (ValueError, OverflowError):
        raise _no_token() from None


def _no_token() -> InvalidArgument:
    return InvalidArgument([FieldViolation("pageToken", "is no page token; take it from the answer before")])
