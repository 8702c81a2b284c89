"""Verification of real tables: an honest rewrite passes, and each way to harm a table is told by its own check."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from executor.assignment import OperationId, OperationType, Stamp
from executor.observation.lane import ObservationLane
from executor.observation.model import Judgement, Verification, VerifyOperation
from tests.support.iceberg import RestCatalog, messy_table, on_disk

OPERATION = OperationId("op-1")
STAMP = Stamp(OPERATION, 3)
SUMMARY = {"floe.operation-id": OPERATION, "floe.epoch": "3"}


@pytest.fixture
async def lane() -> AsyncIterator[ObservationLane]:
    async with ObservationLane(1) as lane:
        yield lane


@pytest.fixture
def table(rest_catalog: RestCatalog, namespace: str) -> Table:
    return messy_table(rest_catalog.open(), (namespace, "t"), files=8, commits=4, partitions=2)


def current(table: Table) -> Snapshot:
    snapshot = table.current_snapshot()
    assert snapshot is not None
    return snapshot


def rewrite(table: Table, change: Callable[[pa.Table], pa.Table] = lambda rows: rows) -> Snapshot:
    """Replace every file by one per partition in one stamped commit; an honest rewrite does not change the rows."""
    rows = change(table.scan().to_arrow())
    old = [task.file for task in table.scan().plan_files()]
    with table.transaction() as transaction:
        new = _dataframe_to_data_files(transaction.table_metadata, rows, table.io)
        with transaction.update_snapshot(snapshot_properties=SUMMARY).overwrite() as overwrite:
            for file in old:
                overwrite.delete_data_file(file)
            for file in new:
                overwrite.append_data_file(file)
    return current(table)


def of_rewrite(catalog: RestCatalog, table: Table, base: Snapshot, **changes: Any) -> VerifyOperation:
    given: dict[str, Any] = {
        "stamps": (STAMP,),
        "base_snapshot": base.snapshot_id,
        "base_metadata_location": table.metadata_location,
        **changes,
    }
    return VerifyOperation(catalog.reference(table), OPERATION, OperationType.REWRITE_DATA_FILES, **given)


def judgements(verification: Verification) -> dict[str, Judgement]:
    return {finding.check: finding.judgement for finding in verification.findings}


def failed(verification: Verification) -> Sequence[str]:
    return [finding.check for finding in verification.findings if finding.judgement is not Judgement.PASSED]


async def test_an_honest_rewrite_passes_every_check(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    request = of_rewrite(rest_catalog, table, current(table))
    rewrite(table)

    verification = await lane.run(request)

    assert judgements(verification) == {
        "snapshot_present": Judgement.PASSED,
        "lineage": Judgement.PASSED,
        "definition_unchanged": Judgement.PASSED,
        "rows_unchanged": Judgement.PASSED,
        "files_exist": Judgement.PASSED,
    }
    assert verification.verdict is Judgement.PASSED


async def test_what_writers_do_before_and_after_is_not_held_against_us(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    request = of_rewrite(rest_catalog, table, current(table))
    table.append(table.scan().to_arrow())
    table.manage_snapshots().create_tag(current(table).snapshot_id, "before").commit()
    rewrite(table)
    with table.update_schema() as update:
        update.rename_column("note", "remark")
    with table.transaction() as transaction:
        transaction.set_properties(owner="someone")
    table.append(table.scan().to_arrow())

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.PASSED, [])


async def test_a_rewrite_that_lost_a_row_fails(rest_catalog: RestCatalog, table: Table, lane: ObservationLane) -> None:
    request = of_rewrite(rest_catalog, table, current(table))
    rewrite(table, lambda rows: rows.slice(1))

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.FAILED, ["rows_unchanged"])


async def test_a_commit_that_changed_the_schema_as_well_fails(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    request = of_rewrite(rest_catalog, table, current(table))
    rows = table.scan().to_arrow()
    with table.transaction() as transaction:
        transaction.update_schema().rename_column("note", "remark").commit()
        new = list(
            _dataframe_to_data_files(
                transaction.table_metadata, rows.rename_columns([*rows.column_names[:-1], "remark"]), table.io
            )
        )
        with transaction.update_snapshot(snapshot_properties=SUMMARY).overwrite() as overwrite:
            for task in table.scan().plan_files():
                overwrite.delete_data_file(task.file)
            for file in new:
                overwrite.append_data_file(file)

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.FAILED, ["definition_unchanged"])


async def test_a_file_of_ours_that_is_not_in_the_storage_fails(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    request = of_rewrite(rest_catalog, table, current(table))
    rewrite(table)
    on_disk(next(iter(table.scan().plan_files())).file.file_path).unlink()

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.FAILED, ["files_exist"])


async def test_a_commit_from_another_base_fails(rest_catalog: RestCatalog, table: Table, lane: ObservationLane) -> None:
    first, last = table.metadata.snapshots[0], current(table)
    table.manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    request = of_rewrite(rest_catalog, table, last)
    rewrite(table)

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.FAILED, ["lineage"])


async def test_a_commit_that_never_reached_the_table_fails(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    request = of_rewrite(rest_catalog, table, current(table))
    table.append(table.scan().to_arrow())

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.FAILED, ["snapshot_present"])


async def test_a_snapshot_that_a_later_commit_removed_is_unverified(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    request = of_rewrite(rest_catalog, table, current(table))
    ours = rewrite(table)
    table.append(table.scan().to_arrow())
    table.maintenance.expire_snapshots().by_id(ours.snapshot_id).commit()

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.UNVERIFIED, ["snapshot_present"])


async def test_without_the_predecessors_files_the_rows_are_unverified(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    base = current(table)
    request = of_rewrite(rest_catalog, table, base)
    own = {each.manifest_path for each in rewrite(table).manifests(table.io)}
    for manifest in base.manifests(table.io):
        if manifest.manifest_path not in own:
            on_disk(manifest.manifest_path).unlink()

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.UNVERIFIED, ["rows_unchanged"])


async def test_another_table_under_the_name_is_unverified(
    rest_catalog: RestCatalog, namespace: str, table: Table, lane: ObservationLane
) -> None:
    request = of_rewrite(rest_catalog, table, current(table))
    rest_catalog.open().drop_table((namespace, "t"))
    messy_table(rest_catalog.open(), (namespace, "t"), files=1, commits=1)

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.UNVERIFIED, ["identity"])


def of_expiry(catalog: RestCatalog, table: Table, expiring: Sequence[int], retained: Sequence[int]) -> VerifyOperation:
    return VerifyOperation(
        catalog.reference(table),
        OPERATION,
        OperationType.EXPIRE_SNAPSHOTS,
        base_snapshot=current(table).snapshot_id,
        base_metadata_location=table.metadata_location,
        expiring_snapshots=expiring,
        retained_snapshots=retained,
    )


def ids(table: Table) -> list[int]:
    ordered = sorted(table.metadata.snapshots, key=lambda each: each.sequence_number or 0)
    return [each.snapshot_id for each in ordered]


async def test_an_expiry_as_planned_passes(rest_catalog: RestCatalog, table: Table, lane: ObservationLane) -> None:
    planned, kept = ids(table)[:2], ids(table)[2:]
    request = of_expiry(rest_catalog, table, planned, kept)
    table.maintenance.expire_snapshots().by_ids(planned).commit()
    table.append(table.scan().to_arrow())

    verification = await lane.run(request)

    assert set(judgements(verification)) == {
        "expired_gone",
        "retained_present",
        "only_planned_removed",
        "current_kept",
        "files_exist",
    }
    assert (verification.verdict, failed(verification)) == (Judgement.PASSED, [])


async def test_a_snapshot_that_should_have_gone_and_is_there_fails(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    planned = ids(table)[:2]
    request = of_expiry(rest_catalog, table, planned, ids(table)[2:])
    table.maintenance.expire_snapshots().by_ids(planned[:1]).commit()

    verification = await lane.run(request)

    assert verification.verdict is Judgement.FAILED
    assert judgements(verification)["expired_gone"] is Judgement.FAILED


async def test_an_expiry_that_took_more_than_planned_fails(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    planned = ids(table)[:1]
    request = of_expiry(rest_catalog, table, planned, ids(table)[1:])
    table.maintenance.expire_snapshots().by_ids(ids(table)[:2]).commit()

    verification = await lane.run(request)

    assert verification.verdict is Judgement.FAILED
    assert failed(verification) == ["retained_present", "only_planned_removed"]


async def test_what_a_writer_expires_later_is_not_ours(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    planned = ids(table)[:1]
    request = of_expiry(rest_catalog, table, planned, ids(table)[1:])
    table.maintenance.expire_snapshots().by_ids(planned).commit()
    table.maintenance.expire_snapshots().by_ids(ids(table)[:1]).commit()

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.PASSED, [])


async def test_a_data_file_of_a_retained_snapshot_that_is_gone_fails(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    planned = ids(table)[:2]
    request = of_expiry(rest_catalog, table, planned, ids(table)[2:])
    victim = next(iter(table.scan().plan_files())).file.file_path
    table.maintenance.expire_snapshots().by_ids(planned).commit()
    on_disk(victim).unlink()

    verification = await lane.run(request)

    assert (verification.verdict, failed(verification)) == (Judgement.FAILED, ["files_exist"])
