"""Tables and their health between the public API and the domain."""

from __future__ import annotations

from typing import Final

from control_plane.domain.catalog import Table
from control_plane.domain.health import HealthIssue, HealthReport, Metric
from control_plane.domain.recommendations import Recommendation, recommend
from control_plane.rpc.convert.values import to_enum, to_timestamp
from control_plane.services.ranking import Ranked
from floe.v1 import operation_pb2
from floe.v1 import table_pb2 as pb

_STATE: Final = "TABLE_STATE_"
_KNOWLEDGE: Final = "KNOWLEDGE_"
_STATUS: Final = "HEALTH_STATUS_"
_SEVERITY: Final = "ISSUE_SEVERITY_"


def table_to_proto(table: Table) -> pb.Table:
    return pb.Table(
        catalog=table.name.catalog,
        namespace=table.name.namespace,
        name=table.name.name,
        uuid=table.uuid,
        location=table.location,
        metadata_location=table.metadata_location,
        format_version=table.format_version,
        state=to_enum(pb.TableState, _STATE, table.state),
        first_seen_time=to_timestamp(table.first_seen_time),
        last_seen_time=to_timestamp(table.last_seen_time),
        health=report_to_proto(table.health) if table.health is not None else None,
        active_operation_id=table.active_operation or "",
    )


def report_to_proto(report: HealthReport) -> pb.HealthReport:
    return pb.HealthReport(
        status=to_enum(pb.HealthStatus, _STATUS, report.status),
        score=report.score or 0,
        issues=[_issue(issue) for issue in report.issues],
        metrics=[_metric(name, metric) for name, metric in report.metrics.named()],
        metadata_location=report.metrics.metadata_location,
        measure_time=to_timestamp(report.measure_time),
        error=report.error,
        scan_mode=report.metrics.scan_mode,
        recommendations=[_recommendation(each) for each in recommend(report)],
    )


def ranked_to_proto(ranked: Ranked) -> pb.RankedTable:
    table, debt = ranked.table, ranked.debt
    report = table.health
    return pb.RankedTable(
        catalog=table.name.catalog,
        namespace=table.name.namespace,
        name=table.name.name,
        debt=debt.score or 0.0,
        rank=debt.rank,
        parts=[pb.DebtPart(name=part.name, points=part.points, reducible=part.reducible) for part in debt.parts],
        status=to_enum(pb.HealthStatus, _STATUS, report.status if report is not None else None),
        measure_time=to_timestamp(report.measure_time if report is not None else None),
    )


def _recommendation(each: Recommendation) -> pb.Recommendation:
    return pb.Recommendation(
        operation_type=to_enum(operation_pb2.OperationType, "OPERATION_TYPE_", each.operation),
        severity=to_enum(pb.IssueSeverity, _SEVERITY, each.severity),
        reason=each.reason,
        issues=each.issues,
        reducible_file_count=None if each.reducible_file_count is None else int(each.reducible_file_count),
        reducible_bytes=None if each.reducible_bytes is None else int(each.reducible_bytes),
    )


def _issue(issue: HealthIssue) -> pb.HealthIssue:
    return pb.HealthIssue(
        type=issue.type,
        severity=to_enum(pb.IssueSeverity, _SEVERITY, issue.severity),
        metric=issue.metric,
        actual=issue.actual,
        limit=issue.limit,
        message=issue.message,
        points=issue.points,
    )


def _metric(name: str, metric: Metric) -> pb.HealthMetric:
    return pb.HealthMetric(name=name, knowledge=to_enum(pb.Knowledge, _KNOWLEDGE, metric.knowledge), value=metric.value)
