"""What the domain knows, the public API shows; what callers write, the domain reads."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.domain.catalog import Catalog, CatalogType, Table, TableState
from control_plane.domain.catalog_spec import CatalogSpec
from control_plane.domain.errors import InvalidArgument
from control_plane.domain.executor import Capabilities, Executor
from control_plane.domain.health import HealthMetrics, Metric, assess
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    OperationId,
    OperationType,
    PolicyName,
    RunId,
    SessionId,
    TableName,
    TableUuid,
    TriggerId,
)
from control_plane.domain.operation import (
    Attempt,
    Effects,
    Failure,
    FailureClass,
    Finding,
    Operation,
    OperationState,
    Outcome,
    Progress,
    Verification,
    VerificationVerdict,
)
from control_plane.domain.pause import Pause
from control_plane.domain.thresholds import DEFAULT
from control_plane.ports.operations import Cursor, OperationEvent
from control_plane.rpc.convert import catalogs, executors, operations, system, tables, values
from control_plane.services.operations import OperationView, WatchUpdate
from floe.v1 import catalog_pb2, operation_pb2, system_pb2, table_pb2

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
TABLE = TableName(CatalogName("lake"), ("sales", "e.u"), "orders")
UUID = "11111111-2222-3333-4444-555555555555"


def operation(**changes: Any) -> Operation:
    queued = Operation(
        id=OperationId(UUID),
        type=OperationType.REWRITE_DATA_FILES,
        table=TABLE,
        table_uuid=TableUuid("u"),
        location="s3://b/t",
        policy=PolicyName("nightly"),
        policy_generation=3,
        action={"strategy": "BINPACK"},
        trigger_id=TriggerId("t"),
        run_id=RunId("r"),
        requested_by="local:alice",
        create_time=NOW,
        queue_deadline=NOW + timedelta(days=1),
        timeout=timedelta(hours=6),
        virtual_deadline=NOW,
    )
    return replace(queued, **changes)


def test_a_finished_operation_is_shown_in_full() -> None:
    done = operation(
        state=OperationState.FAILED,
        outcome=Outcome.PARTIAL,
        effects=Effects.COMMITTED,
        failure=Failure(FailureClass.CONFLICT, "a writer won"),
        metrics={"files_rewritten": 10, "from_the_future": 1},
        snapshots=(7, 8),
        verification=Verification(VerificationVerdict.PASSED, [Finding("lineage", True, "ok")], NOW),
        start_time=NOW,
        finish_time=NOW + timedelta(seconds=2),
        engine="spark",
        execution_id="tag",
        revision=9,
    )
    attempt = Attempt(1, 4, ExecutorId("e"), NOW, NOW, Outcome.PARTIAL, Effects.COMMITTED, decided_by="result")

    shown = operations.view_to_proto(OperationView(done, attempts=[attempt]))

    assert shown.state == operation_pb2.OPERATION_STATE_FAILED
    assert (list(shown.namespace), shown.table) == (["sales", "e.u"], "orders")
    assert getattr(shown.failure, "class") == operation_pb2.FAILURE_CLASS_CONFLICT
    assert (shown.metrics.files_rewritten, shown.metrics.duration_ms) == (10, 2_000)
    assert not shown.metrics.HasField("files_added")
    assert list(shown.snapshot_ids) == [7, 8]
    assert shown.verification.findings[0].check == "lineage"
    assert shown.attempts[0].decided_by == "result"
    assert shown.etag == "9"


def test_what_a_queued_operation_does_not_have_is_unset() -> None:
    shown = operations.view_to_proto(OperationView(operation(), blockers=["the table is busy"]))

    assert shown.outcome == operation_pb2.OUTCOME_UNSPECIFIED
    assert shown.effects == operation_pb2.EFFECTS_NONE
    for field in ("failure", "verification", "progress", "start_time", "finish_time", "cancel_request_time"):
        assert not shown.HasField(field)
    assert list(shown.blockers) == ["the table is busy"]


@pytest.mark.parametrize("state", OperationState)
def test_every_state_has_a_word_on_the_wire(state: OperationState) -> None:
    shown = operations.operation_to_proto(operation(state=state)).state

    assert operation_pb2.OperationState.Name(shown) == f"OPERATION_STATE_{state}"


def test_every_value_of_the_domain_has_its_twin_on_the_wire() -> None:
    for kind, prefix, words in (
        (operation_pb2.Outcome, "OUTCOME_", Outcome),
        (operation_pb2.Effects, "EFFECTS_", Effects),
        (operation_pb2.FailureClass, "FAILURE_CLASS_", FailureClass),
        (operation_pb2.VerificationVerdict, "VERIFICATION_VERDICT_", VerificationVerdict),
        (operation_pb2.OperationType, "OPERATION_TYPE_", OperationType),
        (catalog_pb2.CatalogType, "CATALOG_TYPE_", CatalogType),
        (table_pb2.TableState, "TABLE_STATE_", TableState),
    ):
        assert {f"{prefix}{word}" for word in words} == set(kind.keys()) - {f"{prefix}UNSPECIFIED"}


def test_an_update_of_a_watch_is_an_event_a_progress_or_a_heartbeat() -> None:
    cursor = Cursor("db", 5, 2)
    event = OperationEvent(2, "claimed", NOW, OperationState.QUEUED, OperationState.LEASED, operation())

    shown = [
        operations.update_to_proto(update)
        for update in (
            WatchUpdate(cursor=cursor, event=event),
            WatchUpdate(progress=(OperationId("o"), Progress("rewriting", 1, 2))),
            WatchUpdate(cursor=cursor),
        )
    ]

    assert [message.WhichOneof("update") for message in shown] == ["event", "progress", "heartbeat"]
    assert [bool(message.cursor) for message in shown] == [True, False, True]
    assert shown[0].event.from_state == operation_pb2.OPERATION_STATE_QUEUED


def test_a_filter_by_table_needs_catalog_and_namespace() -> None:
    where = operations.filter_from_proto(
        operation_pb2.OperationFilter(catalog="lake", namespace=["sales", "e.u"], table="orders")
    )

    assert where.table == TABLE
    for wrong in (
        operation_pb2.OperationFilter(table="orders"),
        operation_pb2.OperationFilter(catalog="lake", namespace=["sales"]),
        operation_pb2.OperationFilter(run_id="no-uuid"),
        operation_pb2.OperationFilter(operation_ids=["no-uuid"]),
        operation_pb2.OperationFilter(states=[operation_pb2.OPERATION_STATE_UNSPECIFIED]),
        operation_pb2.OperationFilter(types=[99]),  # type: ignore[list-item]  # what a newer client may send
    ):
        with pytest.raises(InvalidArgument):
            operations.filter_from_proto(wrong)


def test_a_catalog_survives_the_wire() -> None:
    catalog = Catalog(
        CatalogName("lake"),
        CatalogType.JDBC,
        "jdbc:postgresql://db/c",
        create_time=NOW,
        update_time=NOW,
        warehouse="s3://b/w",
        properties={"jdbc.user": "floe"},
        secrets={"jdbc.password": "lake"},
        description="d",
        max_concurrent_operations=4,
    )

    shown = catalogs.catalog_to_proto(catalog)

    assert catalogs.spec_from_proto(shown) == CatalogSpec.of(catalog)
    assert {field.name for field in fields(CatalogSpec)} <= set(catalogs.set_fields(shown))


def test_a_table_is_shown_with_its_report() -> None:
    report = assess(
        HealthMetrics(data_file_count=Metric.exact(10), small_file_count=Metric.exact(9), metadata_location="m"),
        DEFAULT,
        now=NOW,
    )
    table = Table(TABLE, TableUuid(UUID), "s3://b/t", NOW, NOW, format_version=2, health=report)

    shown = tables.table_to_proto(table)

    assert (shown.catalog, list(shown.namespace), shown.name) == ("lake", ["sales", "e.u"], "orders")
    assert shown.health.score == report.score
    assert {metric.name: metric.value for metric in shown.health.metrics}["data_file_count"] == 10
    unknown = next(metric for metric in shown.health.metrics if metric.name == "snapshot_count")
    assert unknown.knowledge == table_pb2.KNOWLEDGE_UNKNOWN
    assert not unknown.HasField("value")
    assert shown.health.issues[0].points == report.issues[0].points


def test_an_executor_is_shown_with_what_it_holds() -> None:
    executor = Executor(
        ExecutorId(UUID),
        "host",
        "0.1",
        Capabilities("spark", "4.1", [OperationType.EXPIRE_SNAPSHOTS], 4, 2, [], labels={"zone": "a"}),
        NOW,
        NOW,
        SessionId("s"),
        None,
        clock_skew=timedelta(milliseconds=-250),
        operations=[OperationId("o")],
    )

    shown = executors.executor_to_proto(executor)

    assert (shown.slots, shown.slots_in_use, shown.clock_skew_ms) == (4, 1, -250)
    assert list(shown.operation_types) == [operation_pb2.OPERATION_TYPE_EXPIRE_SNAPSHOTS]


def test_a_pause_is_shown_as_it_was_asked_for() -> None:
    request = system_pb2.PauseRequest(catalog="lake", namespace='sales."e.u"', table="orders")
    scope = system.scope_from_proto(request)

    shown = system.pause_to_proto(Pause("why", "local:alice", NOW, catalog=scope.catalog, table=scope.table))

    assert scope.table == TABLE
    assert (shown.catalog, shown.namespace, shown.table) == (request.catalog, request.namespace, request.table)


@pytest.mark.parametrize(
    ("catalog", "namespace", "table"),
    [("", "n", "t"), ("c", "", "t"), ("c", "n", ""), ("c", "n..m", "t"), ("c", '"n', "t"), ("c", "n", "t" * 300)],
)
def test_a_table_that_cannot_be_named_so_is_refused(catalog: str, namespace: str, table: str) -> None:
    with pytest.raises(InvalidArgument):
        values.table_name(catalog, namespace, table)
