"""The lane itself: deadlines, lost workers, bounds, and that no worker outlives its executor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from executor.assignment import Catalog, OperationId, Stamp, Table
from executor.observation.errors import Invalid, NotFound, ObservationError, Overdue, Unavailable
from executor.observation.lane import ObservationLane
from executor.observation.model import (
    ContentChecksum,
    GatherEvidence,
    Identity,
    InspectTable,
    ListTables,
    LoadTable,
    TableName,
)
from tests.support.iceberg import MESSY_SCHEMA, RestCatalog, messy_rows, messy_table, on_disk

_DEADLINE = timedelta(seconds=30)


@pytest.fixture
async def lane() -> AsyncIterator[ObservationLane]:
    async with ObservationLane(1) as lane:
        yield lane


@pytest.fixture
async def silent_catalog() -> AsyncIterator[Catalog]:
    """A catalog that takes connections and never answers."""
    connections: list[asyncio.StreamWriter] = []

    def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield Catalog(name="silent", type="rest", uri=f"http://127.0.0.1:{port}")
    server.close()
    for writer in connections:
        writer.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(_DEADLINE.total_seconds()):
        while not condition():  # noqa: ASYNC110  # a process that comes or goes has no event to await
            await asyncio.sleep(0.01)
    assert condition(), what


def children(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_tables_are_listed_at_any_depth(rest_catalog: RestCatalog, namespace: str, lane: ObservationLane) -> None:
    catalog = rest_catalog.open()
    catalog.create_namespace((namespace, "inner"))
    catalog.create_namespace((namespace, "inner", "most"))
    wanted = [(namespace, "a"), (namespace, "inner", "b"), (namespace, "inner", "most", "c"), (namespace, "inner", "d")]
    for identifier in wanted:
        catalog.create_table(identifier, MESSY_SCHEMA)

    listed = await lane.run(ListTables(rest_catalog.record))

    assert listed.complete
    assert [each for each in listed.names if each.namespace[0] == namespace] == sorted(
        TableName(identifier[:-1], identifier[-1]) for identifier in wanted
    )


async def test_a_table_is_loaded_with_its_identity(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "t"), files=2, commits=1, properties={"owner": "tests"})

    loaded = await lane.run(LoadTable(rest_catalog.record, (namespace,), "t"))

    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert (loaded.uuid, loaded.location) == (str(table.metadata.table_uuid), table.metadata.location)
    assert (loaded.metadata_location, loaded.format_version) == (table.metadata_location, 2)
    assert loaded.current_snapshot_id == snapshot.snapshot_id
    assert loaded.properties["owner"] == "tests"
    assert loaded.last_updated == datetime.fromtimestamp(table.metadata.last_updated_ms / 1000, UTC)


async def test_a_table_that_is_not_there_is_not_found(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    with pytest.raises(NotFound, match="'lake'"):
        await lane.run(LoadTable(rest_catalog.record, (namespace,), "never"))
    with pytest.raises(NotFound):
        await lane.run(LoadTable(rest_catalog.record, ("never",), "never"))


async def test_a_catalog_that_is_down_is_unavailable(lane: ObservationLane) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    with pytest.raises(Unavailable, match="'down' cannot be asked"):
        await lane.run(ListTables(Catalog(name="down", type="rest", uri=f"http://127.0.0.1:{port}")))


async def test_a_missing_secret_is_invalid_and_named(lane: ObservationLane) -> None:
    record = Catalog(name="lake", type="rest", uri="http://127.0.0.1:1", secrets={"token": "lake-token"})

    with pytest.raises(Invalid, match="FLOE_SECRET_LAKE_TOKEN"):
        await lane.run(ListTables(record))


async def test_a_look_that_overruns_fails_alone_and_its_worker_is_replaced(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane, silent_catalog: Catalog
) -> None:
    before = children(os.getpid())
    await lane.run(ListTables(rest_catalog.record))
    (worker,) = children(os.getpid()) - before

    with pytest.raises(Overdue, match="ListTables"):
        await lane.run(ListTables(silent_catalog), within=timedelta(seconds=1))

    await until(lambda: not Path(f"/proc/{worker}").exists(), "the worker that hung is gone")
    assert (await lane.run(ListTables(rest_catalog.record))).complete


async def test_a_table_that_hangs_or_cannot_be_read_delays_no_other(
    rest_catalog: RestCatalog, namespace: str, silent_catalog: Catalog
) -> None:
    catalog = rest_catalog.open()
    sound = messy_table(catalog, (namespace, "sound"), files=2, commits=1)
    damaged = messy_table(catalog, (namespace, "damaged"), files=2, commits=1)
    snapshot = damaged.current_snapshot()
    assert snapshot is not None
    on_disk(snapshot.manifest_list).write_bytes(b"not a manifest list")
    async with ObservationLane(2) as lane:
        hung = asyncio.ensure_future(lane.run(ListTables(silent_catalog), within=_DEADLINE))
        await asyncio.sleep(0)

        for _ in range(2):
            with pytest.raises(Invalid, match=r"manifest list .* cannot be decoded"):
                await lane.run(InspectTable(rest_catalog.reference(damaged)))
            measured = await lane.run(InspectTable(rest_catalog.reference(sound)))
            assert measured.value("data_file_count") == 2

        assert not hung.done()
        hung.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hung


async def test_waiting_in_line_counts_towards_the_deadline(
    rest_catalog: RestCatalog, lane: ObservationLane, silent_catalog: Catalog
) -> None:
    hung = asyncio.ensure_future(lane.run(ListTables(silent_catalog), within=_DEADLINE))
    await asyncio.sleep(0)

    with pytest.raises(Overdue):
        await lane.run(ListTables(rest_catalog.record), within=timedelta(milliseconds=100))

    assert not hung.done()
    hung.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hung


async def test_a_warmed_lane_looks_without_starting_a_process(rest_catalog: RestCatalog) -> None:
    before = children(os.getpid())
    async with ObservationLane(2) as lane:
        await lane.warm()
        workers = children(os.getpid()) - before
        assert len(workers) == 2
        await lane.run(ListTables(rest_catalog.record), within=_DEADLINE)
        assert children(os.getpid()) - before == workers
        await lane.warm()
        assert children(os.getpid()) - before == workers


async def test_a_killed_worker_costs_its_own_look_only(
    rest_catalog: RestCatalog, lane: ObservationLane, silent_catalog: Catalog
) -> None:
    before = children(os.getpid())
    look = asyncio.ensure_future(lane.run(ListTables(silent_catalog), within=_DEADLINE))
    await until(lambda: bool(children(os.getpid()) - before), "a worker has started")
    (worker,) = children(os.getpid()) - before

    os.kill(worker, signal.SIGKILL)

    with pytest.raises(Unavailable, match="-9"):
        await look
    assert (await lane.run(ListTables(rest_catalog.record))).complete


async def test_a_cancelled_look_leaves_no_answer_for_the_next(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane, silent_catalog: Catalog
) -> None:
    before = children(os.getpid())
    look = asyncio.ensure_future(lane.run(ListTables(silent_catalog), within=_DEADLINE))
    await until(lambda: bool(children(os.getpid()) - before), "a worker has started")

    look.cancel()

    with pytest.raises(asyncio.CancelledError):
        await look
    with pytest.raises(NotFound):
        await lane.run(LoadTable(rest_catalog.record, (namespace,), "never"))


async def test_a_full_lane_refuses_at_once(silent_catalog: Catalog) -> None:
    async with ObservationLane(1, waiting=1) as lane:
        looks = [
            asyncio.ensure_future(lane.run(ListTables(silent_catalog), within=timedelta(seconds=2))) for _ in range(2)
        ]
        await asyncio.sleep(0)

        with pytest.raises(Unavailable, match="full"):
            await lane.run(ListTables(silent_catalog))

        outcomes = await asyncio.gather(*looks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Overdue, Overdue]


async def test_a_closed_lane_keeps_no_process_and_no_file(
    rest_catalog: RestCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children(os.getpid())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with ObservationLane(2) as lane:
        await asyncio.gather(*(lane.run(ListTables(rest_catalog.record)) for _ in range(4)))
        assert len(children(os.getpid()) - before) == 2
        assert len(entries(tmp_path)) == 2

    assert children(os.getpid()) == before
    assert entries(tmp_path) == []
    with pytest.raises(Unavailable, match="closed"):
        await lane.run(ListTables(rest_catalog.record))


async def test_workers_end_with_their_executor_even_when_it_is_killed(silent_catalog: Catalog) -> None:
    program = (
        "import asyncio\n"
        "from executor.assignment import Catalog\n"
        "from executor.observation.lane import ObservationLane\n"
        "from executor.observation.model import ListTables\n"
        f"asyncio.run(ObservationLane(1).run(ListTables(Catalog('silent', 'rest', {silent_catalog.uri!r}))))\n"
    )
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=subprocess.DEVNULL)
    await until(lambda: bool(children(owner.pid)), "the worker of the executor has started")
    (worker,) = children(owner.pid)

    owner.kill()
    await owner.wait()

    await until(lambda: not Path(f"/proc/{worker}").exists(), "the worker is gone")


async def test_evidence_is_found_by_stamp_in_all_snapshots(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "t"), files=2, commits=2)
    stamped = {"floe.operation-id": "op-1", "floe.epoch": "7"}
    table.append(messy_rows(100, 5, 1), snapshot_properties=stamped)
    ours = table.current_snapshot()
    table.append(messy_rows(200, 5, 1), snapshot_properties={**stamped, "floe.epoch": "8"})
    assert ours is not None
    # Our snapshot is no longer in the current one's history, yet in the metadata.
    first = table.metadata.snapshots[0].snapshot_id
    table.manage_snapshots().rollback_to_snapshot(first).commit()
    before = datetime.now(UTC)

    evidence = await lane.run(
        GatherEvidence(
            rest_catalog.reference(table),
            stamps=(Stamp(OperationId("op-1"), 7), Stamp(OperationId("op-2"), 8)),
            expiring_snapshots=(first, 42),
        )
    )

    assert evidence.identity is Identity.SAME
    assert [(each.snapshot_id, each.stamp.epoch) for each in evidence.snapshots] == [(ours.snapshot_id, 7)]
    assert (evidence.present, evidence.gone) == ((first,), (42,))
    assert evidence.started_at >= before
    assert evidence.table is not None
    assert evidence.table.metadata_location == table.metadata_location


async def test_a_table_of_the_same_name_is_not_taken_for_the_one_that_was_meant(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    catalog = rest_catalog.open()
    table = messy_table(catalog, (namespace, "t"), files=1, commits=1)
    meant = rest_catalog.reference(table)
    catalog.drop_table((namespace, "t"))

    gone = await lane.run(GatherEvidence(meant))
    again = messy_table(catalog, (namespace, "t"), files=1, commits=1)
    replaced = await lane.run(GatherEvidence(meant))

    assert gone.identity is Identity.NOT_FOUND
    assert replaced.identity is Identity.REPLACED
    assert replaced.table is not None
    assert replaced.table.uuid == str(again.metadata.table_uuid)


async def test_the_checksum_depends_on_contents_and_not_on_files(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    catalog = rest_catalog.open()
    many = messy_table(catalog, (namespace, "many"), files=12, commits=4, partitions=3)
    one = catalog.create_table((namespace, "one"), MESSY_SCHEMA)
    one.append(messy_rows(0, 120, 3))
    other = catalog.create_table((namespace, "other"), MESSY_SCHEMA)
    other.append(messy_rows(1, 120, 3))

    sums = [await lane.run(ContentChecksum(rest_catalog.reference(table))) for table in (many, one, other)]

    assert [each.rows for each in sums] == [120, 120, 120]
    assert sums[0].checksum == sums[1].checksum
    assert sums[0].checksum != sums[2].checksum


async def test_a_renamed_and_an_added_column_keep_the_rows_that_were_there(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "t"), files=2, commits=1)
    reference = rest_catalog.reference(table)
    before = await lane.run(ContentChecksum(reference))
    with table.update_schema() as update:
        update.rename_column("note", "remark")

    renamed = await lane.run(ContentChecksum(reference))

    assert (renamed.rows, renamed.checksum) == (before.rows, before.checksum)


async def test_an_unknown_request_is_refused_by_name(lane: ObservationLane) -> None:
    table = Table(Catalog("lake", "hive", "thrift://127.0.0.1:1"), ("n",), "t", "", "")

    with pytest.raises(Invalid, match="'hive'"):
        await lane.run(ContentChecksum(table))
    assert issubclass(Invalid, ObservationError)
