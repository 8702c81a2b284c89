"""Finds the partitions that were written lately, so that a rewrite can leave them to their writers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pyspark.sql import DataFrame, Row

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
    return all_of(session.java, [_not_in(session, table, row) for row in rows])


def _written_after(session: Session, table: OpenTable, before: datetime) -> Sequence[Row]:
    java = session.java
    loaded = java.org.apache.iceberg.spark.SparkTableUtil.loadMetadataTable(
        session.java_session, table.java, java.org.apache.iceberg.MetadataTableType.PARTITIONS
    )
    frame = DataFrame(loaded, session.spark)
    cutoff = int(before.timestamp() * 1_000_000)
    frame = frame.where(f"unix_micros(last_updated_at) > {cutoff}")
    if "partition" not in frame.columns:
        if frame.limit(1).count():
            raise WholeTableOpen
        return []
    struct: Any = frame.schema["partition"].dataType
    values = [_as_literal(field.name, field.dataType.typeName()) for field in struct.fields]
    rows = frame.selectExpr("spec_id", f"struct({', '.join(values)}) AS partition").limit(_MOST + 1).collect()
    if len(rows) > _MOST:
        raise Refused(
            f"onlyClosedPartitionsAfter: more than {_MOST} partitions were written after the cut-off; set a filter"
        )
    return rows


def _as_literal(name: str, kind: str) -> str:
    """A Spark expression that gives the value as Iceberg's `Literal` reads it."""
    column = f"`partition`.`{name.replace('`', '``')}`"
    written = {
        "date": f"CAST({column} AS STRING)",
        "timestamp": f"date_format({column}, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS'+00:00'\")",
        "timestamp_ntz": f"date_format({column}, \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS\")",
        "binary": f"hex({column})",
        "decimal": f"CAST({column} AS STRING)",
    }.get(kind, column)
    return f"{written} AS `{name.replace('`', '``')}`"


def _not_in(session: Session, table: OpenTable, row: Row) -> JavaObject:
    """True for every row outside this one partition."""
    fields = [field for field in table.metadata.partition_specs[row["spec_id"]] if field.transform != "void"]
    if not fields:
        raise WholeTableOpen
    names = _partition_names(session, table)
    expressions = session.java.org.apache.iceberg.expressions.Expressions
    either: JavaObject = None
    for field in fields:
        differs = _differs(session, table, field, row["partition"][names[field.field_id]])
        either = differs if either is None else getattr(expressions, "or")(either, differs)
    return either


def _differs(session: Session, table: OpenTable, field: PartitionField, value: object) -> JavaObject:
    java = session.java
    expressions = java.org.apache.iceberg.expressions.Expressions
    schema = table.java.schema()
    term: JavaObject = schema.findColumnName(field.source_id)
    if field.transform != "identity":
        transform = java.org.apache.iceberg.transforms.Transforms.fromString(field.transform)
        term = expressions.transform(term, transform)
    if value is None:
        return expressions.notNull(term)
    if isinstance(value, float) and value != value:
        return expressions.notNaN(term)
    return expressions.notEqual(term, value)


def _partition_names(session: Session, table: OpenTable) -> Mapping[int, str]:
    """Partition field id -> its name in the metadata table, which joins the fields of all specs."""
    joined = session.java.org.apache.iceberg.Partitioning.partitionType(table.java)
    return {field.fieldId(): field.name() for field in joined.fields()}
