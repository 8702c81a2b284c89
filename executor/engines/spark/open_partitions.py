"""Finds the partitions that were written lately, so that a rewrite can leave them to their writers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from executor.actions.errors import Refused
from executor.actions.table_metadata import PartitionField
from executor.engines.spark.catalogs import OpenTable
from executor.engines.spark.expressions import all_of
from executor.engines.spark.jvm import JavaObject
from executor.engines.spark.session import Session

_MOST: Final = 10_000


class WholeTableOpen(Exception):
    """Files outside every partition were written after the cut-off: no part of the table can be told to be closed."""


def closed_partitions(session: Session, table: OpenTable, before: datetime) -> JavaObject | None:
    """An expression that leaves out every partition written after `before`; None if there is none.

    Raises `WholeTableOpen` if nothing can be told apart. A partition whose last writer's snapshot has been expired is
    taken for closed.
    """
    rows = _written_after(session, table, before)
    if not rows:
        return None
    names = _partition_names(session, table)
    return all_of(session.java, [_not_in(session, table, names, row) for row in rows])


def _written_after(session: Session, table: OpenTable, before: datetime) -> Sequence[Mapping[str, Any]]:
    java = session.java
    partitions = java.org.apache.iceberg.spark.SparkTableUtil.loadMetadataTable(
        session.java_session, table.java, java.org.apache.iceberg.MetadataTableType.PARTITIONS
    )
    late = partitions.where(f"unix_micros(last_updated_at) > {int(before.timestamp() * 1_000_000)}")
    columns = {field["name"]: field["type"] for field in json.loads(late.schema().json())["fields"]}
    if "partition" not in columns:
        if late.count():
            raise WholeTableOpen
        return []
    values = ", ".join(_as_literal(field["name"], field["type"]) for field in columns["partition"]["fields"])
    selected = session.strings(["spec_id", f"struct({values}) AS partition"])
    rows = list(session.rows(late.selectExpr(selected).limit(_MOST + 1)))
    if len(rows) > _MOST:
        raise Refused(
            f"onlyClosedPartitionsAfter: more than {_MOST} partitions were written after the cut-off; set a filter"
        )
    return rows


def _as_literal(name: str, kind: str) -> str:
    """A Spark expression that gives the value as Iceberg's `Literal` reads it."""
    quoted = f"`{name.replace('`', '``')}`"
    column = f"`partition`.{quoted}"
    written = {
        "timestamp": f"date_format({column}, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS'+00:00'\")",
        "timestamp_ntz": f"date_format({column}, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS\")",
        "binary": f"hex({column})",
    }.get(kind, f"CAST({column} AS STRING)" if kind.startswith("decimal") else column)
    return f"{written} AS {quoted}"


def _not_in(session: Session, table: OpenTable, names: Mapping[int, str], row: Mapping[str, Any]) -> JavaObject:
    """True for every row outside this one partition."""
    fields = [field for field in table.metadata.partition_specs[row["spec_id"]] if field.transform != "void"]
    if not fields:
        raise WholeTableOpen
    either = getattr(session.java.org.apache.iceberg.expressions.Expressions, "or")
    differs: JavaObject = None
    for field in fields:
        one = _differs(session, table, field, row["partition"].get(names[field.field_id]))
        differs = one if differs is None else either(differs, one)
    return differs


def _differs(session: Session, table: OpenTable, field: PartitionField, value: object) -> JavaObject:
    java = session.java
    expressions = java.org.apache.iceberg.expressions.Expressions
    name: str = table.java.schema().findColumnName(field.source_id)
    term: JavaObject = name
    if field.transform != "identity":
        transform = java.org.apache.iceberg.transforms.Transforms.fromString(field.transform)
        term = expressions.transform(name, transform)
    if value is None:
        return expressions.notNull(term)
    if value == "NaN" and table.metadata.columns.get(name) in ("float", "double"):
        return expressions.notNaN(term)
    return expressions.notEqual(term, value)


def _partition_names(session: Session, table: OpenTable) -> Mapping[int, str]:
    """Partition field id -> its name in the metadata table, which joins the fields of all specs."""
    joined = session.java.org.apache.iceberg.Partitioning.partitionType(table.java)
    return {field.fieldId(): field.name() for field in joined.fields()}
