"""Tables: their qualified names, and how they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from floe.v1 import table_pb2 as pb
from floe_client.errors import FieldViolation, InvalidArgument
from floe_client.paging import AsyncPager, Page
from floe_client.transport import Transport

INSPECT_TIMEOUT = 150.0
"""An executor reads the table's manifests meanwhile."""


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """`catalog.namespace.table`, the namespace of one or more levels. A part that holds a dot or a double quote stands
    in double quotes, a quote inside it doubled: `lake."a.b".t`."""

    catalog: str
    namespace: tuple[str, ...]
    table: str

    @classmethod
    def parse(cls, text: str) -> Self:
        parts = _split(text)
        if len(parts) < 3:
            raise _no_name(text, "write catalog.namespace.table")
        return cls(parts[0], tuple(parts[1:-1]), parts[-1])

    @classmethod
    def of(cls, name: TableName | str) -> TableName:
        return name if isinstance(name, TableName) else cls.parse(name)

    @property
    def dotted_namespace(self) -> str:
        """The namespace as the API takes it."""
        return ".".join(_quoted(part) for part in self.namespace)

    def __str__(self) -> str:
        return ".".join((_quoted(self.catalog), self.dotted_namespace, _quoted(self.table)))


class AsyncTables:
    """The tables that are known, and how they are."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, table: TableName | str, *, timeout: float | None = None) -> pb.Table:
        """The table as it was last seen."""
        name = TableName.of(table)
        request = pb.GetTableRequest(catalog=name.catalog, namespace=name.dotted_namespace, table=name.table)
        answer = await self._transport.unary("TableService/GetTable", request, pb.GetTableResponse, timeout=timeout)
        return answer.table

    async def inspect(self, table: TableName | str, *, timeout: float | None = None) -> pb.Table:
        """Have the table measured now."""
        name = TableName.of(table)
        request = pb.InspectTableRequest(catalog=name.catalog, namespace=name.dotted_namespace, table=name.table)
        answer = await self._transport.unary(
            "TableService/InspectTable",
            request,
            pb.InspectTableResponse,
            timeout=max(INSPECT_TIMEOUT, self._transport.timeout) if timeout is None else timeout,
        )
        return answer.table

    def reports(self, table: TableName | str, *, page_size: int = 0) -> AsyncPager[pb.HealthReport]:
        """The kept health reports, newest first."""
        name = TableName.of(table)

        async def fetch(token: str) -> Page[pb.HealthReport]:
            request = pb.ListHealthReportsRequest(
                catalog=name.catalog,
                namespace=name.dotted_namespace,
                table=name.table,
                page_size=page_size,
                page_token=token,
            )
            answer = await self._transport.unary(
                "TableService/ListHealthReports", request, pb.ListHealthReportsResponse
            )
            return Page(answer.reports, answer.next_page_token)

        return AsyncPager(fetch)

    def list(self, *, catalog: str = "", pattern: str = "", page_size: int = 0) -> AsyncPager[pb.Table]:
        """The known tables by name, of one catalog or of a pattern if given."""

        async def fetch(token: str) -> Page[pb.Table]:
            request = pb.ListTablesRequest(catalog=catalog, pattern=pattern, page_size=page_size, page_token=token)
            answer = await self._transport.unary("TableService/ListTables", request, pb.ListTablesResponse)
            return Page(answer.tables, answer.next_page_token)

        return AsyncPager(fetch)

    def ranking(self, *, catalog: str = "", page_size: int = 0) -> AsyncPager[pb.RankedTable]:
        """Tables by how much maintenance they are owed, the most first; of one catalog if given."""

        async def fetch(token: str) -> Page[pb.RankedTable]:
            request = pb.ListTableRankingRequest(catalog=catalog, page_size=page_size, page_token=token)
            answer = await self._transport.unary("TableService/ListTableRanking", request, pb.ListTableRankingResponse)
            return Page(answer.tables, answer.next_page_token)

        return AsyncPager(fetch)


def _quoted(part: str) -> str:
    if part and not any(sign in part for sign in '."') and part == part.strip():
        return part
    return '"' + part.replace('"', '""') + '"'


def _split(text: str) -> list[str]:
    """The parts of a dotted name, quotes resolved."""
    parts: list[str] = []
    position = 0
    while True:
        part, position = (
            _quoted_at(text, position) if text[position : position + 1] == '"' else _bare_at(text, position)
        )
        if not part:
            raise _no_name(text, "it has an empty part")
        parts.append(part)
        if position == len(text):
            return parts
        if text[position] != ".":
            raise _no_name(text, f"a dot has to follow the closing quote at character {position}")
        position += 1


def _bare_at(text: str, start: int) -> tuple[str, int]:
    end = text.find(".", start)
    end = len(text) if end < 0 else end
    part = text[start:end]
    if '"' in part or part != part.strip():
        raise _no_name(text, f"put {part.strip()!r} in double quotes, quotes inside doubled")
    return part, end


def _quoted_at(text: str, start: int) -> tuple[str, int]:
    pieces: list[str] = []
    position = start + 1
    while True:
        end = text.find('"', position)
        if end < 0:
            raise _no_name(text, f"the quote at character {start + 1} is not closed")
        pieces.append(text[position:end])
        if text[end + 1 : end + 2] != '"':
            return "".join(pieces), end + 1
        pieces.append('"')
        position = end + 2


def _no_name(text: str, advice: str) -> InvalidArgument:
    message = f"{text[:200]!r} is no table name: {advice}"
    return InvalidArgument(message, reason="INVALID_ARGUMENT", violations=[FieldViolation("table", message)])
