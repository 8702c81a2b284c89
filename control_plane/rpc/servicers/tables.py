"""TableService."""

from __future__ import annotations

from control_plane.domain.identifiers import CatalogName, TableName
from control_plane.domain.pattern import Pattern
from control_plane.rpc.convert.tables import table_to_proto
from control_plane.rpc.convert.values import table_name
from control_plane.rpc.pagination import Paging
from control_plane.rpc.types import Context
from control_plane.services.tables import TableService
from floe.v1 import table_pb2 as pb
from floe.v1 import table_pb2_grpc as pb_grpc
from shared.telemetry.traces import current_traceparent


class TableServicer(pb_grpc.TableServiceServicer):
    def __init__(self, tables: TableService) -> None:
        self._tables = tables

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
