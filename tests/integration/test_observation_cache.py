"""What a worker learnt from manifests serves the workers after it, and is never trusted blindly."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table

from executor.config import ObservationConfig
from executor.engines.registry import Setup, load_lane
from executor.observation.avro import connect
from executor.observation.errors import Invalid
from executor.observation.lane import ObservationLane
from executor.observation.manifest_cache import ManifestCache
from executor.observation.manifest_entries import Fetched, fetch
from executor.observation.manifests import ManifestFiles
from executor.observation.model import InspectTable, Knowledge, Measurements, ScanMode
from executor.observation.settings import LaneSettings
from tests.support.iceberg import RestCatalog, messy_rows, messy_table, on_disk
from tests.support.iceberg_deletes import delete_by_equality, delete_by_vector, delete_positions


async def inspected(settings: LaneSettings, request: InspectTable, *more: InspectTable) -> Measurements:
    """The answer to the last of the requests, by a worker that has never looked at anything before."""
    async with ObservationLane(1, settings=settings) as lane:
        answers = [await lane.run(each) for each in (request, *more)]
        # Behind the last answer, what it taught is written down before anything else is done.
        await lane.run(request)
    return answers[-1]


def figures(measured: Measurements) -> Mapping[str, float | None]:
    return {metric.name: metric.value for metric in measured.metrics}


def kept_in(directory: Path) -> list[Path]:
    return sorted(directory.glob("*"))


def manifests(table: Table) -> list[Path]:
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    return [on_disk(manifest.manifest_path) for manifest in snapshot.manifests(table.io)]


@pytest.fixture
def settings(tmp_path: Path) -> LaneSettings:
    return LaneSettings(cache_directory=tmp_path / "manifests")


@pytest.fixture
def table(rest_catalog: RestCatalog, namespace: str) -> Table:
    """Data in partitions, and one delete file of each kind."""
    table = messy_table(rest_catalog.open(), (namespace, "t"), files=12, commits=3)
    first, second, *_ = sorted(task.file.file_path for task in table.scan().plan_files())
    delete_positions(table, [(first, 0), (second, 1)])
    delete_by_vector(table, first, rows=9)
    delete_by_equality(table)
    return table


async def test_a_new_worker_knows_every_figure_without_reading_a_manifest(
    rest_catalog: RestCatalog, table: Table, settings: LaneSettings
) -> None:
    request = InspectTable(rest_catalog.reference(table))
    before = await inspected(settings, request)
    for manifest in manifests(table):
        manifest.unlink()

    after = await inspected(settings, request)

    assert after == before
    assert after.scan_mode is ScanMode.SCAN
    assert (after.value("data_file_count"), after.value("delete_file_count")) == (12, 3)


async def test_only_new_manifests_are_read(rest_catalog: RestCatalog, table: Table, settings: LaneSettings) -> None:
    request = InspectTable(rest_catalog.reference(table))
    await inspected(settings, request)
    for manifest in manifests(table):
        manifest.unlink()
    table.append(messy_rows(1_000, 10, 1))

    after = await inspected(settings, request)

    assert after.value("data_file_count") == 13
    assert after.table.metadata_location == table.refresh().metadata_location


async def test_what_is_known_makes_a_look_at_the_metadata_exact(
    rest_catalog: RestCatalog, table: Table, settings: LaneSettings
) -> None:
    reference = rest_catalog.reference(table)
    cheap = InspectTable(reference, scan_mode=ScanMode.METADATA)
    unknown = await inspected(LaneSettings(), cheap)
    await inspected(settings, InspectTable(reference))

    known = await inspected(settings, cheap)

    assert unknown.value("small_file_count") is None
    assert known.value("small_file_count") == 12
    assert next(m.knowledge for m in known.metrics if m.name == "small_file_count") is Knowledge.EXACT


async def test_what_is_known_does_not_count_towards_the_limit_of_a_scan(
    rest_catalog: RestCatalog, table: Table, settings: LaneSettings
) -> None:
    request = InspectTable(rest_catalog.reference(table))
    careful = LaneSettings(max_scan_bytes=1, cache_directory=settings.cache_directory)
    at_first = await inspected(careful, request)
    scanned = await inspected(careful, InspectTable(request.table, scan_mode=ScanMode.SCAN))

    again = await inspected(careful, request)

    assert at_first.scan_mode is ScanMode.SAMPLE
    assert again == scanned


async def test_damaged_entries_cost_a_reading_and_change_no_figure(
    rest_catalog: RestCatalog, table: Table, settings: LaneSettings
) -> None:
    request = InspectTable(rest_catalog.reference(table))
    before = await inspected(settings, request)
    assert settings.cache_directory is not None
    entries = kept_in(settings.cache_directory)
    assert len(entries) == len(manifests(table))
    for number, entry in enumerate(entries):
        content = bytearray(entry.read_bytes())
        content[number % len(content)] ^= 255
        entry.write_bytes(bytes(content))

    after = await inspected(settings, request)

    assert after == before
    # They are written anew.
    for manifest in manifests(table):
        manifest.unlink()
    assert await inspected(settings, request) == before


async def test_a_manifest_that_cannot_be_read_leaves_nothing_half_known(
    rest_catalog: RestCatalog, table: Table, settings: LaneSettings
) -> None:
    request = InspectTable(rest_catalog.reference(table))
    damaged = manifests(table)[1]
    content = damaged.read_bytes()

    async with ObservationLane(1, settings=settings) as lane:
        damaged.write_bytes(content[: len(content) // 2])
        with pytest.raises(Invalid, match=damaged.name):
            await lane.run(request)
        damaged.write_bytes(content)
        after = await lane.run(request)

    assert figures(after) == figures(await inspected(LaneSettings(), request))


@pytest.mark.parametrize(("kept", "entries"), [(2**20, 1), (0, 0)])
async def test_the_settings_of_an_executor_reach_its_workers(
    rest_catalog: RestCatalog, table: Table, tmp_path: Path, kept: int, entries: int
) -> None:
    options = ObservationConfig(max_scan_bytes=1, sample_limit=1, manifest_cache_bytes=kept).model_dump()
    setup = Setup(slots=1, state_directory=tmp_path, secrets_directory=None, options=options)
    request = InspectTable(rest_catalog.reference(table))

    async with load_lane("local", setup) as lane:
        sampled = await lane.run(request)
        # It is asked once more so that what the first look taught is written down by then.
        await lane.run(request)

    assert sampled.scan_mode is ScanMode.SAMPLE
    # One manifest is looked at even if it holds more than the limit.
    assert len(kept_in(tmp_path / "manifests")) == entries


def test_a_long_reading_that_fails_is_not_lost(
    table: Table, settings: LaneSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.observation.manifests._LONG_SECONDS", -1)
    monkeypatch.setattr("executor.observation.manifests._BATCH_FILES", 1)
    assert settings.cache_directory is not None
    read = ManifestFiles(
        connect(temporary=tmp_path), tmp_path, cache=ManifestCache(settings.cache_directory, limit=2**20)
    )
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    wanted = snapshot.manifests(table.io)
    on_disk(wanted[-1].manifest_path).write_bytes(b"damaged")

    with pytest.raises(Invalid, match="cannot be decoded"):
        read.load(table.io, wanted)

    assert read.missing(wanted) == wanted[-1:]
    # Nothing is left of it where rows are counted, either.
    assert read.connection.execute("SELECT count(*) FROM files").fetchall() == [(0,)]
    assert len(read.load(table.io, wanted[:-1])) == len(wanted) - 1


def test_a_manifest_that_cannot_be_read_is_told_though_others_are_still_being_written(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a batch goes once nobody writes into it: else its end would be the error that is told."""
    failed = threading.Event()

    def slow(io: FileIO, manifest: ManifestFile, number: int, folder: Path) -> Fetched:
        if number == 0:
            failed.set()
            raise Invalid("cannot be decoded")
        assert failed.wait(10)
        for part in range(2_000):
            (folder / f"{number}-{part}").touch()
        return fetch(io, manifest, number, folder)

    monkeypatch.setattr("executor.observation.manifests.fetch", slow)
    read = ManifestFiles(connect(temporary=tmp_path), tmp_path)
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None

    with pytest.raises(Invalid, match="cannot be decoded"):
        read.load(table.io, snapshot.manifests(table.io))
