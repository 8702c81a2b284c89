from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from executor.assignment import Effects, ExpireSnapshots, FailureClass, Outcome, Result, RewriteDataFiles
from executor.catalogs.locations import local_path
from executor.engines.base import Cancelled
from executor.engines.spark import expire
from executor.engines.spark.engine import SparkEngine
from executor.engines.spark.expire import commit
from tests.support.iceberg import RestCatalog, messy_rows, messy_table, on_disk
from tests.support.spark import attempt

pytestmark = pytest.mark.spark


@pytest.fixture
def table(spark_engine: SparkEngine, rest_catalog: RestCatalog, namespace: str) -> Table:
    """Four appends and a compaction: 24 files that only old snapshots reach."""
    table = messy_table(rest_catalog.open(), (namespace, "t"), files=24, commits=4, partitions=4)
    spark_engine.run(attempt(rest_catalog.reference(table), RewriteDataFiles(min_input_files=2)))
    return table.refresh()


def everything(*, retain_last: int = 1) -> ExpireSnapshots:
    """As old as can be is now, and so is the floor."""
    now = datetime.now(UTC) + timedelta(seconds=1)
    return ExpireSnapshots(older_than=now, retain_last=retain_last, floor=now)


def snapshot_ids(table: Table) -> list[int]:
    return [snapshot.snapshot_id for snapshot in table.refresh().snapshots()]


def files_on_disk(table: Table) -> set[Path]:
    """All files but the metadata files, which an expiry leaves to the catalog."""
    return {
        path
        for path in on_disk(table.location()).rglob("*")
        if path.is_file() and not path.name.endswith(".metadata.json") and not path.name.startswith(".")
    }


def reachable(table: Table) -> set[Path]:
    found: set[str] = set()
    for snapshot in table.refresh().snapshots():
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            found.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io))
    return {Path(path) for path in map(local_path, found) if path is not None}


def refused(result: Result) -> str:
    assert result.failure is not None
    assert result.failure.kind is FailureClass.INVALID
    assert result.effects is Effects.NONE
    return result.failure.message


def test_exactly_the_files_that_nothing_reaches_are_deleted(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    head = snapshot_ids(table)[-1]
    one = attempt(rest_catalog.reference(table), everything())

    result = spark_engine.run(one)

    assert (result.outcome, result.effects, result.failure) == (Outcome.COMPLETE, Effects.COMMITTED, None)
    assert snapshot_ids(table) == [head]
    assert result.metrics == {"snapshots_expired": 4, "data_files_removed": 24, "delete_files_removed": 0}
    assert files_on_disk(table) == reachable(table)
    assert table.scan().to_arrow().sort_by("id") == messy_rows(0, 240, 4).cast(table.scan().to_arrow().schema)


def test_the_ids_that_go_and_stay_are_stored_before_the_commit(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    before = snapshot_ids(table)
    one = attempt(rest_catalog.reference(table), everything(retain_last=2))

    spark_engine.run(one)

    assert list(one.plans[0].expiring_snapshots) == before[:3]
    assert list(one.plans[0].retained_snapshots) == before[3:]
    assert snapshot_ids(table) == before[3:]


def test_tagged_and_branched_snapshots_stay_with_their_files(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    before = snapshot_ids(table)
    table.manage_snapshots().create_tag(before[1], "audit").create_branch(before[2], "try").commit()

    spark_engine.run(attempt(rest_catalog.reference(table), everything()))

    assert snapshot_ids(table) == [before[1], before[2], before[4]]
    assert set(table.refs()) == {"main", "audit", "try"}
    assert table.scan(snapshot_id=before[1]).to_arrow().num_rows == 120
    assert files_on_disk(table) == reachable(table)


def test_only_the_named_snapshots_go(spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table) -> None:
    before = snapshot_ids(table)

    spark_engine.run(attempt(rest_catalog.reference(table), replace(everything(), snapshot_ids=[before[1]])))

    assert snapshot_ids(table) == [before[0], *before[2:]]


def test_an_expiry_that_would_drop_an_aged_ref_is_refused(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    before = snapshot_ids(table)
    table.manage_snapshots().create_tag(before[1], "short", max_ref_age_ms=1).commit()
    one = attempt(rest_catalog.reference(table), everything())

    assert "tag 'short' is past its max-ref-age" in refused(spark_engine.run(one))
    assert (snapshot_ids(table), one.plans) == (before, [])


def test_no_snapshot_younger_than_the_floor_goes(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    before = snapshot_ids(table)
    action = replace(everything(), floor=datetime.now(UTC) - timedelta(hours=1))

    assert "floor" in refused(spark_engine.run(attempt(rest_catalog.reference(table), action)))
    assert snapshot_ids(table) == before


def test_a_table_without_garbage_collection_is_refused(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    with table.transaction() as transaction:
        transaction.set_properties({"gc.enabled": "false"})

    assert "gc.enabled" in refused(spark_engine.run(attempt(rest_catalog.reference(table), everything())))


def test_nothing_old_enough_is_no_change(spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table) -> None:
    one = attempt(rest_catalog.reference(table), everything(retain_last=5))

    assert spark_engine.run(one) == Result(Outcome.NO_CHANGE, Effects.NONE)
    assert one.plans == []


def test_a_later_attempt_deletes_what_an_interrupted_one_left(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    reference = rest_catalog.reference(table)
    first = attempt(reference, everything())
    # Before the commit, then before each batch of ten files.
    first.before_check = cancelled_at_check(4)
    cut = spark_engine.run(first)
    assert (cut.outcome, cut.effects, cut.cancelled) == (Outcome.PARTIAL, Effects.PARTIAL, True)
    assert files_on_disk(table) > reachable(table)

    second = attempt(
        reference,
        everything(),
        number=2,
        operation=first.assignment.lease.operation,
        earlier_snapshots=first.plans[0].expiring_snapshots,
    )
    result = spark_engine.run(second)

    assert (result.outcome, result.effects) == (Outcome.COMPLETE, Effects.COMMITTED)
    assert "snapshots_expired" not in result.metrics
    assert cut.metrics["data_files_removed"] + result.metrics["data_files_removed"] == 24
    assert files_on_disk(table) == reachable(table)
    assert second.plans == []


def test_an_expiry_without_its_list_is_still_found_to_be_committed(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    reference = rest_catalog.reference(table)
    first = attempt(reference, everything())
    spark_engine.run(first)
    again = attempt(reference, everything(), number=2, earlier_snapshots=first.plans[0].expiring_snapshots)

    result = spark_engine.run(again)

    assert (result.outcome, result.effects) == (Outcome.COMPLETE, Effects.COMMITTED)
    assert result.metrics == {}
    assert again.plans == []


def test_a_later_attempt_deletes_what_was_left_and_expires_what_is_old_by_now(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    reference = rest_catalog.reference(table)
    first = attempt(reference, everything())
    first.before_check = cancelled_at_check(3)
    assert spark_engine.run(first).metrics["snapshots_expired"] == 4
    table.append(messy_rows(1000, 10, 1))
    kept = snapshot_ids(table)[-1]

    # Another plan, of one that was retried, named a snapshot that is still there.
    planned = [*first.plans[0].expiring_snapshots, kept]
    operation = first.assignment.lease.operation
    second = attempt(reference, everything(), number=2, operation=operation, earlier_snapshots=planned)
    result = spark_engine.run(second)

    assert (result.outcome, result.effects) == (Outcome.COMPLETE, Effects.COMMITTED)
    assert result.metrics == {"snapshots_expired": 1, "data_files_removed": 24, "delete_files_removed": 0}
    assert snapshot_ids(table) == [kept]
    assert files_on_disk(table) == reachable(table)


def test_gone_snapshots_without_a_list_do_not_keep_others_from_being_expired(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    reference = rest_catalog.reference(table)
    first = attempt(reference, everything())
    spark_engine.run(first)
    table.append(messy_rows(1000, 10, 1))
    again = attempt(reference, everything(), number=2, earlier_snapshots=first.plans[0].expiring_snapshots)

    result = spark_engine.run(again)

    assert (result.outcome, result.effects) == (Outcome.COMPLETE, Effects.COMMITTED)
    assert (result.metrics["snapshots_expired"], len(snapshot_ids(table))) == (1, 1)


def test_named_snapshots_that_an_earlier_attempt_expired_are_done(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table
) -> None:
    reference, action = rest_catalog.reference(table), replace(everything(), snapshot_ids=snapshot_ids(table)[1:2])
    first = attempt(reference, action)
    spark_engine.run(first)
    again = attempt(reference, action, number=2, earlier_snapshots=first.plans[0].expiring_snapshots)

    assert spark_engine.run(again) == Result(Outcome.COMPLETE, Effects.COMMITTED)


def test_a_ref_put_on_an_expiring_snapshot_at_the_last_moment_wins(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot_ids(table)

    def commit_late(*arguments: object) -> object:
        table.manage_snapshots().create_tag(before[0], "late").commit()
        return commit(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(expire, "commit", commit_late)
    result = spark_engine.run(attempt(rest_catalog.reference(table), everything()))

    assert result.failure is not None
    assert (result.failure.kind, result.effects) == (FailureClass.CONFLICT, Effects.NONE)
    assert snapshot_ids(table) == before


def test_files_that_are_gone_already_are_no_failure(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[int] = []
    delete_batch = expire.delete_batch

    def twice(*arguments: object) -> int:
        delete_batch(*arguments)  # type: ignore[arg-type]  # passed on as they came
        deleted.append(delete_batch(*arguments))  # type: ignore[arg-type]
        return deleted[-1]

    monkeypatch.setattr(expire, "delete_batch", twice)
    result = spark_engine.run(attempt(rest_catalog.reference(table), everything()))

    assert result.outcome is Outcome.COMPLETE
    assert set(deleted) == {0}


@pytest.fixture(autouse=True)
def no_lists_left(spark_engine: SparkEngine) -> None:
    for path in (spark_engine._settings.state_directory / "deletions").iterdir():
        path.unlink()


def cancelled_at_check(number: int) -> Callable[[], None]:
    calls = itertools.count(1)

    def check() -> None:
        if next(calls) >= number:
            raise Cancelled

    return check


def test_a_finished_expiry_leaves_no_list_behind(
    spark_engine: SparkEngine, rest_catalog: RestCatalog, catalog_table: Table
) -> None:
    spark_engine.run(attempt(rest_catalog.reference(catalog_table), everything()))

    assert list((spark_engine._settings.state_directory / "deletions").iterdir()) == []


@pytest.fixture
def catalog_table(rest_catalog: RestCatalog, namespace: str) -> Table:
    catalog: Catalog = rest_catalog.open()
    return messy_table(catalog, (namespace, "small"), files=2, commits=2)
