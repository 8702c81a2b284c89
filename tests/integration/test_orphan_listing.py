"""Orphan files of real tables: nothing that is referenced is ever listed, and what is not is found."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.table import Table

from executor import assignment
from executor.assignment import OrphanCleanup
from executor.observation.errors import NotFound
from executor.observation.model import ListOrphans, OrphanPlan
from executor.observation.orphans import list_orphans
from tests.support.iceberg import messy_table, on_disk

NOW = datetime.now(UTC)
ACTION = OrphanCleanup(
    older_than=NOW - timedelta(days=3), floor=NOW - timedelta(days=1), max_files=100, max_share_of_table=1.0
)
OLD = NOW - timedelta(days=30)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = InMemoryCatalog("lake", warehouse=f"file://{tmp_path}/warehouse")
    made.create_namespace("n")
    return made


@pytest.fixture
def table(catalog: Catalog) -> Table:
    """Four snapshots, one of them held by a tag alone, all files old."""
    made = messy_table(catalog, ("n", "t"), files=4, commits=4)
    first = made.metadata.snapshots[0].snapshot_id
    made.manage_snapshots().create_tag(first, "audit").commit()
    made.delete()
    age(made)
    return made


def age(table: Table, when: datetime = OLD) -> None:
    for path in on_disk(table.metadata.location).rglob("*"):
        os.utime(path, (when.timestamp(), when.timestamp()))


def put(table: Table, name: str, *, when: datetime = OLD, content: str = "x") -> str:
    path = on_disk(table.metadata.location) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (when.timestamp(), when.timestamp()))
    return str(path)


def look(table: Table, scratch: Path, action: OrphanCleanup = ACTION) -> OrphanPlan:
    *namespace, name = table.name()
    metadata = table.metadata
    meant = assignment.Table(
        assignment.Catalog("lake", "rest", ""), tuple(namespace), name, str(metadata.table_uuid), metadata.location
    )
    return list_orphans(ListOrphans(meant, action), table, scratch)


def referenced(table: Table) -> set[str]:
    """By pyiceberg's own readers alone."""
    found = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    for snapshot in table.metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
            found.update(entry.data_file.file_path for entry in entries)
    return {str(on_disk(location)) for location in found}


def test_of_a_table_alone_in_its_folder_nothing_is_an_orphan(table: Table, tmp_path: Path) -> None:
    plan = look(table, tmp_path)

    assert (plan.refusal, plan.files, plan.digest) == ("", 0, "")
    assert plan.listed_files >= len(referenced(table)) > 8


def test_exactly_what_is_old_and_unreferenced_is_listed(table: Table, tmp_path: Path) -> None:
    orphans = {put(table, "data/lost one.parquet"), put(table, "metadata/lost-m0.avro")}
    put(table, "data/young.parquet", when=NOW)
    put(table, "data/_temporary/x.parquet")
    put(table, "data/.x.crc")
    put(table, "../t2/data/siblings.parquet")
    link = on_disk(table.metadata.location) / "data" / "link.parquet"
    link.symlink_to(tmp_path / "elsewhere")

    plan = look(table, tmp_path)

    assert plan.refusal == ""
    assert set(plan.sample) == orphans
    assert not orphans & referenced(table)
    assert (plan.files, plan.size, plan.young, plan.exceeded) == (2, 2, 1, ())
    assert plan.digest == look(table, tmp_path).digest != ""


def test_between_the_floor_and_the_retention_the_older_instant_decides(table: Table, tmp_path: Path) -> None:
    put(table, "data/lost.parquet", when=NOW - timedelta(days=2))

    for older_than, floor in ((3, 1), (1, 3)):
        instants = replace(ACTION, older_than=NOW - timedelta(days=older_than), floor=NOW - timedelta(days=floor))
        assert look(table, tmp_path, instants).files == 0


def test_the_caps_are_told_with_the_figures(table: Table, tmp_path: Path) -> None:
    for number in range(5):
        put(table, f"data/lost{number}.parquet")

    plan = look(table, tmp_path, replace(ACTION, max_files=4, max_bytes=4, max_share_of_table=0.01))

    assert plan.files == 5
    assert [cap.split()[0] for cap in plan.exceeded] == ["maxFiles", "maxBytes", "maxShareOfTable"]


UUID = '{"format-version": 2, "table-uuid": "11111111-2222-3333-4444-555555555555"}'


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("metadata/00009-x.metadata.json", UUID, "metadata of another table"),
        ("metadata/v9.metadata.json", '{"format-version": 1}', "no UUID"),
        ("nested/metadata/00000-x.metadata.json", UUID, "another table's metadata"),
        ("_delta_log/00000.json", "{}", "another format"),
    ],
)
def test_a_folder_that_is_not_the_tables_alone_is_refused(
    table: Table, tmp_path: Path, name: str, content: str, why: str
) -> None:
    put(table, "data/lost.parquet")
    put(table, name, content=content)

    plan = look(table, tmp_path)

    assert why in plan.refusal
    assert (plan.files, plan.sample) == (0, ())


def test_an_owner_who_shares_the_files_is_heeded(table: Table, tmp_path: Path) -> None:
    put(table, "data/lost.parquet")
    with table.transaction() as transaction:
        transaction.set_properties({"gc.enabled": "false"})

    assert "gc.enabled" in look(table, tmp_path).refusal


@pytest.mark.parametrize("location", ["/elsewhere", "{table}2", "{table}/../t2", "relative"])
def test_only_folders_of_the_table_may_be_asked_for(table: Table, tmp_path: Path, location: str) -> None:
    asked = replace(ACTION, location=location.format(table=table.metadata.location))

    assert "table's own location" in look(table, tmp_path, asked).refusal


def test_a_cut_off_in_the_future_is_refused(table: Table, tmp_path: Path) -> None:
    later = NOW + timedelta(days=1)

    assert "not past yet" in look(table, tmp_path, replace(ACTION, older_than=later, floor=later)).refusal


def test_another_table_of_the_name_is_not_listed(catalog: Catalog, table: Table, tmp_path: Path) -> None:
    catalog.drop_table(("n", "t"))
    messy_table(catalog, ("n", "t"), files=1, commits=1)

    with pytest.raises(NotFound):
        look(table, tmp_path)


def test_a_manifest_that_cannot_be_read_ends_the_listing(table: Table, tmp_path: Path) -> None:
    snapshot = table.metadata.snapshots[0]
    on_disk(snapshot.manifests(table.io)[0].manifest_path).unlink()

    with pytest.raises(FileNotFoundError):
        look(table, tmp_path)
