"""Tables with row-level deletes: each delete file is counted once and by its kind, and rows are counted with deletes
applied."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table

from executor.assignment import OperationId, OperationType, Stamp
from executor.observation.lane import ObservationLane
from executor.observation.model import ContentChecksum, FileSizeRules, InspectTable, Judgement, VerifyOperation
from tests.support.iceberg import RestCatalog, messy_rows, messy_table
from tests.support.iceberg_deletes import delete_by_equality, delete_by_vector, delete_positions


@pytest.fixture
async def lane() -> AsyncIterator[ObservationLane]:
    async with ObservationLane(1) as lane:
        yield lane


@pytest.fixture
def table(rest_catalog: RestCatalog, namespace: str) -> Table:
    """Four files of ten rows."""
    return messy_table(rest_catalog.open(), (namespace, "t"), files=4, commits=2)


def data_files(table: Table) -> Sequence[str]:
    return sorted(task.file.file_path for task in table.scan().plan_files())


def rewrite(catalog: RestCatalog, table: Table, rows: int) -> VerifyOperation:
    """Replace all data files by one of so many rows, as an operation of ours; what a verification of it is asked."""
    base = table.current_snapshot()
    assert base is not None
    request = VerifyOperation(
        catalog.reference(table),
        OperationId("op"),
        OperationType.REWRITE_DATA_FILES,
        stamps=(Stamp(OperationId("op"), 1),),
        base_snapshot=base.snapshot_id,
        base_metadata_location=table.metadata_location,
    )
    entries = [entry for manifest in base.manifests(table.io) for entry in manifest.fetch_manifest_entry(table.io)]
    # The delete files stay, and take nothing any more: they speak of older files.
    old = [entry.data_file for entry in entries if entry.data_file.content is DataFileContent.DATA]
    with table.transaction() as transaction:
        new = list(_dataframe_to_data_files(transaction.table_metadata, messy_rows(0, rows, 1), table.io))
        summary = {"floe.operation-id": "op", "floe.epoch": "1"}
        with transaction.update_snapshot(snapshot_properties=summary).overwrite() as overwrite:
            for file in old:
                overwrite.delete_data_file(file)
            for file in new:
                overwrite.append_data_file(file)
    return request


async def judgement(lane: ObservationLane, request: VerifyOperation) -> tuple[Judgement, str]:
    findings = (await lane.run(request)).findings
    return next((each.judgement, each.detail) for each in findings if each.check == "rows_unchanged")


async def test_delete_files_are_counted_once_and_by_kind(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    first, second, third, _ = data_files(table)
    delete_positions(table, [(first, 0), (second, 1), (third, 2)])
    delete_by_vector(table, third, rows=1)
    delete_by_equality(table)

    measured = await lane.run(InspectTable(rest_catalog.reference(table)))

    names = ("delete_file_count", "position_delete_file_count", "deletion_vector_count", "equality_delete_file_count")
    assert [measured.value(name) for name in names] == [3, 1, 1, 1]
    assert measured.value("data_file_count") == 4


async def test_a_file_full_of_deletes_is_reducible_whatever_its_size(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    # Every file has just the right size.
    sizes = [task.file.file_size_in_bytes for task in table.scan().plan_files()]
    rules = FileSizeRules(target=max(sizes), minimum=min(sizes), maximum=max(sizes) + 1)
    first, second, *_ = data_files(table)
    delete_positions(table, [(first, position) for position in range(2)])
    few = await lane.run(InspectTable(rest_catalog.reference(table), rules=rules))

    delete_positions(table, [(second, position) for position in range(3)])
    many = await lane.run(InspectTable(rest_catalog.reference(table), rules=rules))

    assert few.value("reducible_bytes") == 0
    assert many.value("reducible_bytes") == next(
        task.file.file_size_in_bytes for task in table.scan().plan_files() if task.file.file_path == second
    )


async def test_a_rewrite_that_applied_the_deletes_kept_its_rows(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    first, second, *_ = data_files(table)
    # The same row twice, and a row of a file that is not there: 3 of 40 rows go.
    delete_positions(table, [(first, 0), (first, 1), ("file:///gone.parquet", 0)])
    delete_positions(table, [(first, 1), (second, 9)])

    right = await judgement(lane, rewrite(rest_catalog, table, rows=37))

    assert right[0] is Judgement.PASSED, right[1]


async def test_a_rewrite_that_brought_deleted_rows_back_fails(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    delete_positions(table, [(data_files(table)[0], 0)])

    wrong, detail = await judgement(lane, rewrite(rest_catalog, table, rows=40))

    assert wrong is Judgement.FAILED
    assert detail.startswith("39 live rows")


async def test_deletion_vectors_take_their_rows(rest_catalog: RestCatalog, table: Table, lane: ObservationLane) -> None:
    delete_by_vector(table, data_files(table)[0], rows=4)

    right = await judgement(lane, rewrite(rest_catalog, table, rows=36))

    assert right[0] is Judgement.PASSED, right[1]


async def test_a_vector_replaces_the_position_deletes_of_its_file(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    first, second, *_ = data_files(table)
    delete_positions(table, [(first, 0), (first, 1), (second, 0)])
    delete_by_vector(table, first, rows=5)

    right = await judgement(lane, rewrite(rest_catalog, table, rows=34))

    assert right[0] is Judgement.PASSED, right[1]


async def test_a_delete_takes_no_row_of_a_file_written_after_it(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    delete_positions(table, [(data_files(table)[0], 0)])
    request = rewrite(rest_catalog, table, rows=39)
    delete_by_vector(table, data_files(table)[0], rows=3)

    assert (await judgement(lane, request))[0] is Judgement.PASSED


async def test_equality_deletes_leave_the_rows_unverified(
    rest_catalog: RestCatalog, table: Table, lane: ObservationLane
) -> None:
    delete_by_equality(table)

    verdict, detail = await judgement(lane, rewrite(rest_catalog, table, rows=40))

    assert verdict is Judgement.UNVERIFIED
    assert "equality" in detail


async def test_the_checksum_leaves_deleted_rows_out(
    rest_catalog: RestCatalog, namespace: str, table: Table, lane: ObservationLane
) -> None:
    first = next(task.file for task in table.scan().plan_files())
    lower = first.lower_bounds
    assert lower is not None
    # The row at position 0 of a file is the one with its lowest id.
    gone = int.from_bytes(lower[1], "little")
    delete_positions(table, [(first.file_path, 0)])
    plain = messy_table(rest_catalog.open(), (namespace, "plain"), files=4, commits=1)
    plain.delete(f"id = {gone}")

    with_deletes = await lane.run(ContentChecksum(rest_catalog.reference(table)))
    without = await lane.run(ContentChecksum(rest_catalog.reference(plain)))

    assert (with_deletes.rows, with_deletes.checksum) == (39, without.checksum)
