"""`floe table`: the tables that are known, and how they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from floe_client.cli.groups import group
from floe_client.cli.shell import Shell, command

if TYPE_CHECKING:
    from floe_client.types import HealthMetric, HealthReport, RankedTable, Table

app = group("The tables that are known, and how they are.")

Name = Annotated[str, typer.Argument(metavar="TABLE", help="catalog.namespace.table", show_default=False)]


@command(app, "list", example="floe table list --pattern 'lake.sales.*'")
def list_all(
    shell: Shell,
    catalog: Annotated[str, typer.Option(help="Only tables of this catalog.")] = "",
    pattern: Annotated[str, typer.Option(help="Only tables whose name the pattern matches.")] = "",
) -> None:
    """List the known tables."""
    from floe_client.cli.render import age, as_json, print_json, print_table

    with shell.connect() as client:
        tables = list(client.tables.list(catalog=catalog, pattern=pattern))
    if shell.as_json:
        print_json({"tables": [as_json(each) for each in tables]})
        return
    print_table(
        ("TABLE", "STATE", "HEALTH", "SCORE", "MEASURED", "ACTIVE OPERATION"),
        (
            (
                _name(each),
                _state(each),
                _status(each),
                str(each.health.score) if each.HasField("health") else "",
                age(each.health.measure_time),
                each.active_operation_id,
            )
            for each in tables
        ),
        empty="no tables; `floe catalog check NAME --refresh` lists a catalog's",
    )


@command(app, "get", example="floe table get lake.sales.orders")
def get(shell: Shell, table: Name) -> None:
    """Show one table as it was last seen."""
    with shell.connect() as client:
        seen = client.tables.get(table)
    _show(shell, seen)


@command(app, "inspect", example="floe table inspect lake.sales.orders -o json")
def inspect(shell: Shell, table: Name) -> None:
    """Have an executor measure the table now, and show its health."""
    with shell.connect() as client:
        measured = client.tables.inspect(table)
    _show(shell, measured)


@command(app, "health", example="floe table health lake.sales.orders")
def health(shell: Shell, table: Name) -> None:
    """Show the newest health report of a table; nothing is measured."""
    with shell.connect() as client:
        seen = client.tables.get(table)
    _show(shell, seen)


@command(app, "ranking", example="floe table ranking --catalog lake --limit 20")
def ranking(
    shell: Shell,
    catalog: Annotated[str, typer.Option(help="Only tables of this catalog.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the most indebted.")] = 50,
) -> None:
    """List the tables that are owed most maintenance, with what makes up their debt."""
    from itertools import islice

    from floe_client.cli.render import age, as_json, number, print_json, print_table, short
    from floe_client.types import HealthStatus

    with shell.connect() as client:
        found = list(islice(client.tables.ranking(catalog=catalog, page_size=min(limit, 1_000)), limit))
    if shell.as_json:
        print_json({"tables": [as_json(each) for each in found]})
        return
    print_table(
        ("TABLE", "DEBT", "REDUCIBLE", "HEALTH", "MEASURED", "PARTS"),
        (
            (
                _name(each),
                number(each.debt),
                number(each.rank),
                short(HealthStatus.Name(each.status), "HEALTH_STATUS_"),
                age(each.measure_time),
                ", ".join(f"{part.name} {number(part.points)}" for part in each.parts),
            )
            for each in found
        ),
        empty="no table was measured yet: `floe table inspect`",
    )


@command(app, "history", example="floe table history lake.sales.orders")
def history(shell: Shell, table: Name) -> None:
    """List the health reports that are kept of a table, newest first."""
    from floe_client.cli.render import as_json, print_json, print_table, short, when
    from floe_client.types import HealthStatus

    with shell.connect() as client:
        reports = list(client.tables.reports(table))
    if shell.as_json:
        print_json({"reports": [as_json(each) for each in reports]})
        return
    print_table(
        ("MEASURED", "HEALTH", "SCORE", "DATA FILES", "SMALL", "SNAPSHOTS", "DELETE FILES", "ISSUES"),
        (
            (
                when(each.measure_time),
                short(HealthStatus.Name(each.status), "HEALTH_STATUS_"),
                str(each.score),
                *(_figure(each, name) for name in _TREND),
                ", ".join(issue.type for issue in each.issues) or each.error,
            )
            for each in reports
        ),
        empty="it was not measured yet: `floe table inspect`",
    )


_TREND = ("data_file_count", "small_file_count", "snapshot_count", "delete_file_count")


def _figure(report: HealthReport, name: str) -> str:
    return next((_value(metric) for metric in report.metrics if metric.name == name), "-")


def _show(shell: Shell, table: Table) -> None:
    from floe_client.cli.render import as_json, print_fields, print_json, print_table, short, when
    from floe_client.types import IssueSeverity, OperationType

    if shell.as_json:
        print_json(as_json(table))
        return
    health = table.health
    print_fields(
        [
            ("table", _name(table)),
            ("uuid", table.uuid),
            ("location", table.location),
            ("format", f"v{table.format_version}" if table.format_version else ""),
            ("state", _state(table)),
            ("active operation", table.active_operation_id),
            ("health", _status(table) or "not measured yet: `floe table inspect`"),
            ("score", f"{health.score} of 100" if table.HasField("health") else ""),
            ("measured", f"{when(health.measure_time)} ({health.scan_mode})" if health.measure_time.seconds else ""),
            ("error", health.error),
        ]
    )
    if health.issues:
        print()
        print_table(
            ("SEVERITY", "ISSUE", "POINTS", "WHAT"),
            (
                (
                    short(IssueSeverity.Name(each.severity), "ISSUE_SEVERITY_"),
                    each.type,
                    f"-{each.points}" if each.points else "",
                    each.message,
                )
                for each in health.issues
            ),
            empty="",
        )
    if health.recommendations:
        print()
        print_table(
            ("RECOMMENDED", "WHY"),
            (
                (short(OperationType.Name(each.operation_type), "OPERATION_TYPE_"), each.reason)
                for each in health.recommendations
            ),
            empty="",
        )
    if health.metrics:
        print()
        print_table(
            ("METRIC", "VALUE", "KNOWN"), ((each.name, _value(each), _known(each)) for each in health.metrics), empty=""
        )


def _name(table: Table | RankedTable) -> str:
    from floe_client.tables import TableName

    return str(TableName(table.catalog, tuple(table.namespace), table.name))


def _state(table: Table) -> str:
    from floe_client.cli.render import short
    from floe_client.types import TableState

    return short(TableState.Name(table.state), "TABLE_STATE_")


def _status(table: Table) -> str:
    from floe_client.cli.render import short
    from floe_client.types import HealthStatus

    return short(HealthStatus.Name(table.health.status), "HEALTH_STATUS_")


def _known(metric: HealthMetric) -> str:
    from floe_client.cli.render import short
    from floe_client.types import Knowledge

    return short(Knowledge.Name(metric.knowledge), "KNOWLEDGE_").lower()


def _value(metric: HealthMetric) -> str:
    from floe_client.cli.render import moment, number, size

    if not metric.HasField("value"):
        return "-"
    if metric.name.endswith("_time_ms"):
        return moment(metric.value / 1_000)
    return size(metric.value) if metric.name.endswith("_bytes") else number(metric.value)
