from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from executor.assignment import (
    Effects,
    FailureClass,
    Outcome,
    Result,
    RewriteDataFiles,
    RewriteJobOrder,
    RewriteStrategy,
    Stamp,
)
from executor.engines.base import DeadlinePassed
from executor.engines.spark import progress, rewrite
from executor.engines.spark.engine import SparkEngine
from executor.engines.spark.run import Run
from executor.engines.spark.workers import Workers
from tests.support.iceberg import RestCatalog, messy_rows, messy_table, on_disk
from tests.support.spark import attempt

pytestmark = pytest.mark.spark

SMALL = RewriteDataFiles(min_input_files=2)


@pytest.fixture
def catalog(rest_catalog: RestCatalog) -> Catalog:
    return rest_catalog.open()


def content(table: Table) -> pa.Table:
    return table.refresh().scan().to_arrow().sort_by("id")


def data_files(table: Table) -> int:
    return sum(1 for _ in table.refresh().scan().plan_files())


def snapshot_ids(table: Table) -> list[int]:
    return [snapshot.snapshot_id for snapshot in table.refresh().snapshots()]


def summary(table: Table, snapshot_id: int) -> dict[str, str]:
    snapshot = table.refresh().snapshot_by_id(snapshot_id)
    assert snapshot is not None
    assert snapshot.summary is not None
    return dict(snapshot.summary.additional_properties)


def test_small_files_become_few_and_no_row_changes(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=24, commits=6, partitions=4)
    before = snapshot_ids(table)
    one = attempt(rest_catalog.reference(table), SMALL)

    result = spark_engine.run(one)

    assert (result.outcome, result.effects, result.failure) == (Outcome.COMPLETE, Effects.COMMITTED, None)
    assert data_files(table) == 4
    assert content(table) == messy_rows(0, 240, 4).cast(content(table).schema)
    assert result.metrics["files_rewritten"] == 24
    assert result.metrics["files_added"] == 4
    assert result.metrics["bytes_rewritten"] > result.metrics["bytes_added"] > 0
    assert list(result.snapshots) == [each for each in snapshot_ids(table) if each not in before]


def test_each_commit_carries_the_operation_and_its_epoch(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=8, commits=2, partitions=4)
    one = attempt(rest_catalog.reference(table), replace(SMALL, partial_progress_enabled=True))

    result = spark_engine.run(one)

    assert len(result.snapshots) == 4
    for each in result.snapshots:
        written = summary(table, each)
        assert written["floe.operation-id"] == one.assignment.lease.operation
        assert written["floe.epoch"] == str(one.assignment.lease.epoch)
        assert written["floe.policy"] == "policies/nightly"


def test_the_plan_is_stored_before_anything_is_executed(
    spark_engine: SparkEngine,
    rest_catalog: RestCatalog,
    catalog: Catalog,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=2, commits=2)
    one = attempt(rest_catalog.reference(table), SMALL)
    stored: list[int] = []

    def execute(action: Any) -> Any:
        stored.append(len(one.plans))
        return action.execute()

    monkeypatch.setattr(rewrite, "execute", execute)
    base = snapshot_ids(table)[-1]
    spark_engine.run(one)

    assert stored == [1]
    assert (one.plans[0].base_snapshot, one.plans[0].max_commits) == (base, 1)
    assert one.plans[0].base_metadata_location.endswith(".metadata.json")


def test_nothing_to_rewrite_is_no_change(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=2, commits=2)
    before = snapshot_ids(table)

    result = spark_engine.run(attempt(rest_catalog.reference(table), RewriteDataFiles(min_input_files=5)))

    assert result == Result(Outcome.NO_CHANGE, Effects.NONE)
    assert snapshot_ids(table) == before


def test_every_option_reaches_icebergs_action(
    spark_engine: SparkEngine,
    rest_catalog: RestCatalog,
    catalog: Catalog,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=8, commits=2, partitions=4)
    seen: dict[str, str] = {}

    def execute(action: Any) -> Any:
        field = action.getClass().getSuperclass().getSuperclass().getDeclaredField("options")
        field.setAccessible(True)
        seen.update(dict(field.get(action)))
        return action.execute()

    monkeypatch.setattr(rewrite, "execute", execute)
    action = RewriteDataFiles(
        target_file_size_bytes=1_000_000,
        min_file_size_bytes=500_000,
        max_file_size_bytes=2_000_000,
        min_input_files=2,
        max_file_group_size_bytes=10_000_000,
        max_concurrent_file_group_rewrites=2,
        partial_progress_enabled=True,
        partial_progress_max_commits=3,
        partial_progress_max_failed_commits=0,
        rewrite_job_order=RewriteJobOrder.BYTES_DESC,
        delete_file_threshold=7,
        delete_ratio_threshold=0.5,
        use_starting_sequence_number=False,
        output_spec_id=0,
        max_files_to_rewrite=6,
        remove_dangling_deletes=True,
    )

    result = spark_engine.run(attempt(rest_catalog.reference(table), action))

    assert result.failure is None
    assert result.metrics["files_rewritten"] == 6
    assert seen == {
        "target-file-size-bytes": "1000000",
        "min-file-size-bytes": "500000",
        "max-file-size-bytes": "2000000",
        "min-input-files": "2",
        "max-file-group-size-bytes": "10000000",
        "max-concurrent-file-group-rewrites": "2",
        "partial-progress.enabled": "true",
        "partial-progress.max-commits": "3",
        "partial-progress.max-failed-commits": "3",
        "rewrite-job-order": "bytes-desc",
        "delete-file-threshold": "7",
        "delete-ratio-threshold": "0.5",
        "use-starting-sequence-number": "false",
        "output-spec-id": "0",
        "max-files-to-rewrite": "6",
    }


def test_sorting_orders_the_rows_of_each_file(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2)
    action = replace(SMALL, strategy=RewriteStrategy.SORT, sort_order=["amount desc nulls last", "ID"])

    result = spark_engine.run(attempt(rest_catalog.reference(table), action))

    assert result.failure is None
    assert data_files(table) == 1
    assert table.scan().to_arrow()["amount"].to_pylist() == [each * 0.5 for each in reversed(range(40))]


def test_sorting_without_any_order_is_refused(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=2, commits=1)

    result = spark_engine.run(attempt(rest_catalog.reference(table), replace(SMALL, strategy=RewriteStrategy.SORT)))

    assert result.failure is not None
    assert result.failure.kind is FailureClass.INVALID
    assert "sort order" in result.failure.message


def test_z_ordering_keeps_every_row(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2)
    before = content(table)
    action = replace(SMALL, strategy=RewriteStrategy.ZORDER, z_order_columns=["id", "amount"])

    result = spark_engine.run(attempt(rest_catalog.reference(table), action))

    assert result.outcome is Outcome.COMPLETE
    assert data_files(table) == 1
    assert content(table) == before


def test_a_branch_is_rewritten_and_main_is_not(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2)
    head = snapshot_ids(table)[-1]
    table.manage_snapshots().create_branch(head, "audit").commit()

    result = spark_engine.run(attempt(rest_catalog.reference(table), replace(SMALL, branch="audit")))

    assert data_files(table) == 4
    assert [table.refs()["audit"].snapshot_id] == list(result.snapshots)


TYPED = pa.schema(
    [
        ("id", pa.int64()),
        ("small", pa.int32()),
        ("price", pa.decimal128(9, 2)),
        ("ratio", pa.float32()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("local", pa.timestamp("us")),
        ("kind", pa.string()),
        ("good", pa.bool_()),
    ]
)


@pytest.fixture(scope="module")
def typed_table(rest_catalog: RestCatalog) -> Table:
    """Two files of low values and two of high ones."""
    catalog = rest_catalog.open()
    catalog.create_namespace("typed")
    table = catalog.create_table("typed.t", schema=TYPED)
    for low in (True, True, False, False):
        day = date(2026, 1, 1) if low else date(2026, 6, 1)
        instant = datetime(day.year, day.month, day.day, 12)
        row = {
            "id": 1 if low else 9_000_000_000,
            "small": 1 if low else 100,
            "price": Decimal("1.50") if low else Decimal("99.00"),
            "ratio": 0.5 if low else 8.5,
            "day": day,
            "at": instant.replace(tzinfo=UTC),
            "local": instant,
            "kind": "alpha" if low else None,
            "good": low,
        }
        table.append(pa.Table.from_pylist([row], schema=TYPED))
    return table


@pytest.mark.parametrize(
    "condition",
    [
        "id < 5",
        "9000000000 > id",
        "small IN (1, 2)",
        "price <= 1.50",
        "price = '1.50'",
        "ratio BETWEEN 0 AND 1.5",
        "day = DATE '2026-01-01'",
        "day < '2026-02-01'",
        "at < TIMESTAMP '2026-02-01 00:00:00'",
        "at <= '2026-01-01T13:00:00+01:00'",
        "local = TIMESTAMP '2026-01-01 12:00:00'",
        "kind = 'alpha'",
        "KIND IS NOT NULL",
        "kind LIKE 'al%'",
        "good = true",
        "NOT (small > 50) AND (id = 1 OR id = 2)",
    ],
)
def test_a_filter_selects_files_by_literals_of_the_columns_type(
    spark_engine: SparkEngine,
    rest_catalog: RestCatalog,
    typed_table: Table,
    monkeypatch: pytest.MonkeyPatch,
    condition: str,
) -> None:
    # Planned only, never executed, so that one table serves all conditions.
    planned: list[int] = []
    prepare = rewrite.prepare

    def plan(run: Run, table: Any, action: RewriteDataFiles) -> Any:
        prepared = prepare(run, table, action)
        field = prepared.getClass().getDeclaredField("filter")
        field.setAccessible(True)
        tasks = table.java.newScan().caseSensitive(False).filter(field.get(prepared)).planFiles()
        planned.append(run.session.java.org.apache.iceberg.relocated.com.google.common.collect.Iterables.size(tasks))
        raise DeadlinePassed

    monkeypatch.setattr(rewrite, "prepare", plan)

    spark_engine.run(attempt(rest_catalog.reference(typed_table), replace(SMALL, filter=condition)))

    assert planned == [2]


def test_an_unknown_column_in_a_filter_is_refused_by_name(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, typed_table: Table
) -> None:
    one = attempt(rest_catalog.reference(typed_table), replace(SMALL, filter="nope = 1"))

    result = spark_engine.run(one)

    assert result.failure is not None
    assert result.failure.kind is FailureClass.INVALID
    assert "'nope'" in result.failure.message
    assert one.plans == []


def test_partitions_written_after_the_cut_off_are_left_alone(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=8, commits=2, partitions=4)
    closed = table.refresh().snapshots()[-1].timestamp_ms
    # The next commit must lie in a later millisecond than the cut-off.
    while datetime.now(UTC).timestamp() * 1000 <= closed + 1:
        pass
    late = messy_rows(1000, 4, 4)
    table.append(late.filter(pa.compute.equal(late["day"], "2026-01-02")))
    action = replace(SMALL, only_closed_partitions_before=datetime.fromtimestamp(closed / 1000, UTC))

    result = spark_engine.run(attempt(rest_catalog.reference(table), action))

    left = [file.file.partition[0] for file in table.refresh().scan().plan_files()]
    assert sorted(left) == ["2026-01-01", "2026-01-02", "2026-01-02", "2026-01-02", "2026-01-03", "2026-01-04"]
    assert result.metrics["files_rewritten"] == 6


def test_an_unpartitioned_table_written_after_the_cut_off_is_left_alone(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2)
    action = replace(SMALL, only_closed_partitions_before=datetime.now(UTC) - timedelta(hours=1))

    assert spark_engine.run(attempt(rest_catalog.reference(table), action)).outcome is Outcome.NO_CHANGE


def test_a_group_that_fails_makes_the_rest_partial(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=8, commits=2, partitions=4)
    lost = next(iter(table.scan().plan_files())).file.file_path
    on_disk(lost).unlink()
    action = replace(SMALL, partial_progress_enabled=True, partial_progress_max_commits=4)

    result = spark_engine.run(attempt(rest_catalog.reference(table), action))

    assert (result.outcome, result.effects) == (Outcome.PARTIAL, Effects.PARTIAL)
    assert result.failure is not None
    assert result.failure.kind is FailureClass.ENGINE
    assert result.metrics["files_rewritten"] == 6
    assert len(result.snapshots) == 3


def test_a_failed_group_is_not_forgotten_when_there_are_as_many_commits_as_there_may_be(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=16, commits=2, partitions=8)
    on_disk(next(iter(table.scan().plan_files())).file.file_path).unlink()
    action = replace(SMALL, partial_progress_enabled=True, partial_progress_max_commits=4)

    result = spark_engine.run(attempt(rest_catalog.reference(table), action))

    assert (result.outcome, result.effects, len(result.snapshots)) == (Outcome.PARTIAL, Effects.PARTIAL, 4)
    assert result.failure is not None
    # The group never came to a commit: that is known.
    assert result.commits_answered


def test_a_commit_that_iceberg_lost_sight_of_is_left_to_evidence(
    spark_engine: SparkEngine,
    rest_catalog: RestCatalog,
    catalog: Catalog,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=8, commits=2, partitions=4)
    action = replace(SMALL, partial_progress_enabled=True, partial_progress_max_commits=4)

    def execute(action: Any) -> Any:
        table.delete("id = 3")
        return action.execute()

    monkeypatch.setattr(rewrite, "execute", execute)
    result = spark_engine.run(attempt(rest_catalog.reference(table), action))

    assert result.failure is not None
    assert (result.failure.kind, result.effects) == (FailureClass.CONFLICT, Effects.UNKNOWN)
    assert (result.outcome, len(result.snapshots), result.commits_answered) == (Outcome.PARTIAL, 3, False)


def test_a_failing_group_without_partial_progress_changes_nothing(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=8, commits=2, partitions=4)
    before = snapshot_ids(table)
    on_disk(next(iter(table.scan().plan_files())).file.file_path).unlink()

    result = spark_engine.run(attempt(rest_catalog.reference(table), SMALL))

    assert (result.outcome, result.effects, result.commits_answered) == (Outcome.NO_CHANGE, Effects.NONE, True)
    assert result.failure is not None
    assert result.failure.kind is FailureClass.ENGINE
    assert "\n" not in result.failure.message
    assert snapshot_ids(table) == before


def test_groups_that_do_not_divide_evenly_into_commits_are_no_failure(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=8, commits=2, partitions=4)
    # Two groups a commit: two commits, where Iceberg itself expects three.
    action = replace(
        SMALL,
        partial_progress_enabled=True,
        partial_progress_max_commits=3,
        partial_progress_max_failed_commits=0,
    )

    result = spark_engine.run(attempt(rest_catalog.reference(table), action))

    assert (result.outcome, result.failure) == (Outcome.COMPLETE, None)
    assert len(result.snapshots) == 2


def test_a_rivals_commit_is_a_conflict_with_no_effect(
    spark_engine: SparkEngine,
    rest_catalog: RestCatalog,
    catalog: Catalog,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2)

    def execute(action: Any) -> Any:
        table.delete("id = 3")
        return action.execute()

    monkeypatch.setattr(rewrite, "execute", execute)
    result = spark_engine.run(attempt(rest_catalog.reference(table), SMALL))

    assert result.failure is not None
    assert result.failure.kind is FailureClass.CONFLICT
    assert (result.effects, result.commits_answered) == (Effects.NONE, True)
    assert content(table).num_rows == 39


def test_a_later_attempt_that_finds_the_earlier_ones_commit_does_nothing_again(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2)
    first = attempt(rest_catalog.reference(table), SMALL)
    done = spark_engine.run(first)
    table.append(messy_rows(1000, 10, 1))
    lease = first.assignment.lease
    again = attempt(
        rest_catalog.reference(table),
        SMALL,
        number=2,
        operation=lease.operation,
        earlier=[Stamp(lease.operation, lease.epoch)],
    )

    result = spark_engine.run(again)

    assert (result.outcome, result.effects) == (Outcome.COMPLETE, Effects.COMMITTED)
    assert (result.snapshots, result.metrics) == (done.snapshots, {})
    assert again.plans == []
    assert data_files(table) == 2


def test_a_later_attempt_of_a_partial_rewrite_does_the_rest_and_counts_only_that(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=8, commits=2, partitions=4)
    # As many commits as one attempt may make do not say that all was done.
    action = replace(SMALL, partial_progress_enabled=True, partial_progress_max_commits=1)
    first = attempt(rest_catalog.reference(table), replace(action, filter="day = '2026-01-01'"))
    assert len(spark_engine.run(first).snapshots) == 1
    earlier = [Stamp(first.assignment.lease.operation, first.assignment.lease.epoch)]
    second, third = (
        attempt(
            rest_catalog.reference(table),
            action,
            number=number,
            operation=first.assignment.lease.operation,
            earlier=earlier,
        )
        for number in (2, 3)
    )

    result = spark_engine.run(second)

    assert (result.outcome, result.metrics["files_rewritten"]) == (Outcome.COMPLETE, 6)
    assert data_files(table) == 4
    assert spark_engine.run(third) == Result(Outcome.NO_CHANGE, Effects.NONE)


@pytest.mark.parametrize("partial", [False, True])
def test_a_cancelled_compaction_leaves_no_job_and_no_snapshot_that_it_does_not_name(
    spark_engine: SparkEngine,
    rest_catalog: RestCatalog,
    catalog: Catalog,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    partial: bool,
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=56, commits=2, partitions=28)
    before = snapshot_ids(table)
    action = replace(
        SMALL,
        max_concurrent_file_group_rewrites=1,
        partial_progress_enabled=partial,
        partial_progress_max_commits=28 if partial else None,
    )
    one = attempt(rest_catalog.reference(table), action)

    workers: list[int] = []

    def cancel(run: Run) -> None:
        workers.append(len(Workers(run.session, run.tag).find()))
        spark_engine.cancel(run.attempt)

    monkeypatch.setattr(progress, "first_task_started", cancel)
    result = spark_engine.run(one)

    # One rewrites, and one commits what was rewritten so far.
    assert workers == [2 if partial else 1]
    assert result.cancelled
    assert result.failure is None
    assert result.commits_answered
    new = [each for each in snapshot_ids(table) if each not in before]
    assert sorted(result.snapshots) == sorted(new)
    assert len(new) < 28
    if not partial:
        assert (new, result.effects) == ([], Effects.NONE)
    assert list(spark_engine._started().java_context.statusTracker().getActiveJobIds()) == []


def test_the_thread_of_a_cancelled_operation_carries_the_next_one(
    spark_engine: SparkEngine,
    rest_catalog: RestCatalog,
    catalog: Catalog,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2)
    one = attempt(rest_catalog.reference(table), SMALL)
    one.before_check = lambda: spark_engine.cancel(one)
    assert spark_engine.run(one).cancelled

    assert spark_engine.run(attempt(rest_catalog.reference(table), SMALL)).outcome is Outcome.COMPLETE


def test_progress_names_the_phase_and_counts_the_groups(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=40, commits=2, partitions=20)
    one = attempt(rest_catalog.reference(table), replace(SMALL, max_concurrent_file_group_rewrites=1))

    spark_engine.run(one)

    counted = [report for report in one.reports if report.groups_total is not None]
    assert counted
    assert {report.groups_total for report in counted} == {20}
    done = [report.groups_done or 0 for report in counted]
    assert done == sorted(done)
    assert {report.phase for report in counted} <= {"rewriting", "committing"}


def test_a_lost_lease_stops_before_the_engine_starts(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2)
    before = snapshot_ids(table)
    one = attempt(rest_catalog.reference(table), SMALL)
    one.before_check = lost_at_check(2)

    result = spark_engine.run(one)

    assert (result.outcome, result.effects) == (Outcome.NO_CHANGE, Effects.NONE)
    assert result.failure is not None
    assert result.failure.kind is FailureClass.TIMEOUT
    assert snapshot_ids(table) == before


def lost_at_check(number: int) -> Callable[[], None]:
    calls = itertools.count(1)

    def check() -> None:
        if next(calls) >= number:
            raise DeadlinePassed

    return check


def test_another_table_under_the_same_name_is_not_touched(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    old = messy_table(catalog, (namespace, "t"), files=4, commits=2)
    reference = rest_catalog.reference(old)
    catalog.drop_table((namespace, "t"))
    messy_table(catalog, (namespace, "t"), files=4, commits=2)

    result = spark_engine.run(attempt(reference, SMALL))

    assert (result.skipped, result.effects) == ("table_replaced", Effects.NONE)


def test_a_dropped_table_is_skipped(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2)
    reference = rest_catalog.reference(table)
    catalog.drop_table((namespace, "t"))

    assert spark_engine.run(attempt(reference, SMALL)).skipped == "table_gone"


def test_a_catalog_that_is_down_is_unavailable(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    reference = rest_catalog.reference(messy_table(catalog, (namespace, "t"), files=2, commits=1))
    nowhere = replace(reference.catalog, name="nowhere", uri="http://127.0.0.1:9")

    result = spark_engine.run(attempt(replace(reference, catalog=nowhere), SMALL))

    assert result.failure is not None
    assert result.failure.kind is FailureClass.UNAVAILABLE
    assert (result.effects, result.commits_answered) == (Effects.NONE, True)


def test_a_changed_catalog_record_opens_the_catalog_anew(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    reference = rest_catalog.reference(messy_table(catalog, (namespace, "t"), files=4, commits=2))
    wrong = replace(reference.catalog, name="moved", uri="http://127.0.0.1:9")
    right = replace(reference.catalog, name="moved", generation=2)

    assert spark_engine.run(attempt(replace(reference, catalog=wrong), SMALL)).failure is not None
    assert spark_engine.run(attempt(replace(reference, catalog=right), SMALL)).outcome is Outcome.COMPLETE


def test_dangling_deletes_are_removed_by_a_stamped_commit_of_its_own(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog: Catalog, namespace: str
) -> None:
    merge_on_read = {"format-version": "2", "write.delete.mode": "merge-on-read"}
    table = messy_table(catalog, (namespace, "t"), files=4, commits=2, properties=merge_on_read)
    delete_rows(spark_engine, rest_catalog, f"{namespace}.t", "id IN (3, 13, 23)")
    # With a new sequence number the rewritten files are younger than the deletes, which then delete nothing.
    action = replace(SMALL, remove_dangling_deletes=True, use_starting_sequence_number=False)
    one = attempt(rest_catalog.reference(table), action)

    result = spark_engine.run(one)

    assert (result.outcome, len(result.snapshots), one.plans[0].max_commits) == (Outcome.COMPLETE, 2, 2)
    assert result.metrics["delete_files_removed"] > 0
    assert summary(table, result.snapshots[-1])["total-delete-files"] == "0"
    assert content(table).num_rows == 37


def delete_rows(engine: SparkEngine, rest: RestCatalog, name: str, condition: str) -> None:
    """What a writer with merge-on-read does: pyiceberg cannot."""
    session = engine._started()
    session.enter_thread()
    catalog = "spark.sql.catalog.writer"
    session.spark.conf.set(catalog, "org.apache.iceberg.spark.SparkCatalog")
    session.spark.conf.set(f"{catalog}.type", "rest")
    session.spark.conf.set(f"{catalog}.uri", rest.uri)
    session.spark.sql(f"DELETE FROM writer.{name} WHERE {condition}")
