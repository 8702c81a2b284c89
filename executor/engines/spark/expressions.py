"""Builds Iceberg expressions and sort orders in the driver's JVM."""

from __future__ import annotations

from collections.abc import Sequence

from executor.actions.filters import And, Compare, Condition, In, IsNull, Not, Or
from executor.actions.rewrite_data_files import SortField
from executor.engines.spark.jvm import JavaObject


def expression(java: JavaObject, condition: Condition) -> JavaObject:
    """The condition as an `org.apache.iceberg.expressions.Expression`."""
    expressions = java.org.apache.iceberg.expressions.Expressions
    match condition:
        case Compare(column, comparison, value):
            return getattr(expressions, comparison.value)(column, value)
        case In(column, values):
            return getattr(expressions, "in")(column, java.java.util.ArrayList(list(values)))
        case IsNull(column):
            return expressions.isNull(column)
        case Not(inner):
            return getattr(expressions, "not")(expression(java, inner))
        case And(left, right):
            return getattr(expressions, "and")(expression(java, left), expression(java, right))
        case Or(left, right):
            return getattr(expressions, "or")(expression(java, left), expression(java, right))


def all_of(java: JavaObject, parts: Sequence[JavaObject]) -> JavaObject:
    """All of the expressions, as a tree whose depth is the logarithm of their number: Iceberg walks it by recursion."""
    joined = list(parts)
    join = getattr(java.org.apache.iceberg.expressions.Expressions, "and")
    while len(joined) > 1:
        odd = joined[-1:] if len(joined) % 2 else []
        joined = [join(left, right) for left, right in zip(joined[::2], joined[1::2], strict=False)] + odd
    return joined[0]


def sort_order(java: JavaObject, schema: JavaObject, fields: Sequence[SortField]) -> JavaObject:
    builder = java.org.apache.iceberg.SortOrder.builderFor(schema).caseSensitive(False)
    nulls = java.org.apache.iceberg.NullOrder
    for field in fields:
        add = builder.desc if field.descending else builder.asc
        builder = add(field.column, nulls.NULLS_FIRST if field.nulls_first else nulls.NULLS_LAST)
    return builder.build()
