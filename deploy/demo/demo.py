"""Floe in two minutes: a real Iceberg table of many small files becomes healthy, by one policy and one trigger; then
another one by its schedule, without anybody asking.

Starts `floe dev` in a directory of its own, writes the table through the catalog, and uses the `floe` command as a user
would. What is claimed at the end is measured: file counts, row count and a checksum of the contents are read from the
table itself, and no process is left. The last line begins with `DEMO OK`; if it does not, the exit code is not zero.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, LongType, NestedField, StringType

HERE = Path(__file__).resolve().parent
FLOE = Path(sys.executable).with_name("floe")
MARKER = "FLOE_DEMO_RUN"
TABLE = "local.sales.orders"
SCHEDULED = "local.sales.clicks"
REGIONS = ("africa", "americas", "asia", "europe")
COMMITS = 55
SCHEDULED_COMMITS = 12
FIRES_WITHIN = 60.0
ROWS_PER_FILE = 250
READY_WITHIN = 120.0
STOP_WITHIN = 60.0

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "region", StringType(), required=False),
    NestedField(3, "customer", StringType(), required=False),
    NestedField(4, "amount", DoubleType(), required=False),
)
SPEC = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "region"))


class Failed(Exception):
    """The demonstration did not show what it has to show."""


@dataclass(frozen=True)
class Contents:
    """What is in a table, whatever the order of its rows and however many files they lie in."""

    rows: int
    checksum: int

    @classmethod
    def of(cls, table: pa.Table) -> Contents:
        with duckdb.connect() as connection:
            connection.register("contents", table)
            found = connection.execute(
                "SELECT count(*), sum(hash(id, region, customer, amount)::HUGEINT) FROM contents"
            ).fetchone()
        if found is None:
            raise Failed("the contents could not be read")
        return cls(int(found[0]), int(found[1]))


def main() -> int:
    os.environ[MARKER] = marker = str(uuid.uuid4())
    # Only this run's server is meant, whatever the caller's shell is set to.
    os.environ.pop("FLOE_OUTPUT", None)
    started = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="floe-demo-"))
    try:
        with running(directory) as ready:
            os.environ["FLOE_SERVER"] = ready["server"]
            result = demonstrate(ready)
        require_nothing_left(marker)
    except KeyboardInterrupt:
        print(f"\nDEMO FAILED: interrupted\nlogs are kept in {directory / 'logs'}", file=sys.stderr)
        return 130
    except Exception as failure:
        why = str(failure) if isinstance(failure, Failed) else f"{type(failure).__name__}: {failure}"
        print(f"\nDEMO FAILED: {why}\nlogs are kept in {directory / 'logs'}", file=sys.stderr)
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    print(f"\nDEMO OK {result}, {time.monotonic() - started:.1f} s (set-up not included)")
    return 0


def demonstrate(ready: dict[str, Any]) -> str:
    """From a table that nobody looked after to one that is well. Returns what changed, in a few words."""
    catalog = load_catalog("local", type="rest", uri=ready["catalog"]["uri"])
    headline(f"Writing {TABLE}: {COMMITS} commits into {len(REGIONS)} partitions")
    table, written = write_table(catalog)
    before, on_disk = data_files(table), files_on_disk(table)
    print(f"{before} Parquet files, {len(table.metadata.snapshots)} snapshots, {written.rows:,} rows")
    if before < 200:
        raise Failed(f"the table should have at least 200 files, it has {before}")

    headline("Its health before")
    floe("catalog", "check", "local", "--refresh")
    floe("table", "inspect", TABLE)

    headline(f"One policy, {HERE.name}/policy.yaml")
    print((HERE / "policy.yaml").read_text())
    floe("policy", "apply", "-f", str(HERE / "policy.yaml"))

    headline("One trigger, followed live")
    floe("trigger", TABLE, "--wait")

    headline("Its health after")
    floe("table", "inspect", TABLE)

    headline("What Floe did, read from the table itself")
    table.refresh()
    operations = floe_json("op", "list", "--table", TABLE)["operations"]
    after = data_files(table)
    show_snapshots(table, operations)
    print(f"data files {before} -> {after}, Parquet files on disk {on_disk} -> {files_on_disk(table)}")
    require_unchanged(written, Contents.of(table.scan().to_arrow()))
    if not 0 < after < before:
        raise Failed(f"the table had {before} files and has {after}")
    for operation in operations:
        if operation["state"] != "OPERATION_STATE_SUCCEEDED":
            raise Failed(f"operation {operation['id']} ended {operation['state']}")
    operations += by_schedule(catalog)
    return f"files {before} -> {after}, operations {len(operations)}"


def by_schedule(catalog: Catalog) -> list[dict[str, Any]]:
    """A table that its schedule makes healthy, and then leaves alone, with the reason. Returns its operations."""
    headline(f"Nobody triggers this one: {HERE.name}/schedule.yaml")
    print((HERE / "schedule.yaml").read_text())
    table = catalog.create_table("sales.clicks", schema=SCHEMA)
    for commit in range(SCHEDULED_COMMITS):
        table.append(pa.table({"id": [commit], "region": ["asia"], "customer": ["nobody"], "amount": [0.5]}))
    written, before = Contents.of(table.scan().to_arrow()), data_files(table)
    floe("policy", "apply", "-f", str(HERE / "schedule.yaml"))
    floe("catalog", "check", "local", "--refresh")

    fired = decision_about(SCHEDULED, "FIRED")
    operation = ended(fired["operationId"])
    deferred = decision_about(SCHEDULED, "DEFERRED")
    floe("decisions", "--table", SCHEDULED, "--limit", "5")
    floe("explain", SCHEDULED)
    table.refresh()
    print(f"data files {before} -> {data_files(table)}: fired at {fired['slotText']}, then {deferred['text']}")
    require_unchanged(written, Contents.of(table.scan().to_arrow()))
    if operation["state"] != "OPERATION_STATE_SUCCEEDED" or data_files(table) >= before:
        raise Failed(f"the scheduled operation ended {operation['state']}, {before} files are {data_files(table)}")
    return [operation]


def decision_about(table: str, verdict: str) -> dict[str, Any]:
    """The newest decision of this verdict, waited for."""
    deadline = time.monotonic() + FIRES_WITHIN
    while not (found := floe_json("decisions", "--table", table, "--verdict", verdict)["decisions"]):
        if time.monotonic() > deadline:
            raise Failed(f"no slot of {table} was {verdict} within {FIRES_WITHIN:.0f} s")
        time.sleep(0.5)
    newest: dict[str, Any] = found[0]
    return newest


def ended(operation: str) -> dict[str, Any]:
    """The operation, once it has ended."""
    floe("op", "watch", operation)
    return floe_json("op", "get", operation)


def write_table(catalog: Catalog) -> tuple[Table, Contents]:
    """A table as a streaming writer leaves it: one small file a partition with every commit."""
    catalog.create_namespace("sales")
    table = catalog.create_table("sales.orders", schema=SCHEMA, partition_spec=SPEC)
    batches = []
    for commit in range(COMMITS):
        first = commit * len(REGIONS) * ROWS_PER_FILE
        ids = range(first, first + len(REGIONS) * ROWS_PER_FILE)
        batch = pa.table(
            {
                "id": pa.array(ids, pa.int64()),
                "region": [REGIONS[id % len(REGIONS)] for id in ids],
                "customer": [f"customer-{id * 7919 % 1_000}" for id in ids],
                "amount": [id % 10_007 / 100 for id in ids],
            }
        )
        table.append(batch)
        batches.append(batch)
        progress(commit + 1, COMMITS)
    return table, Contents.of(pa.concat_tables(batches))


def show_snapshots(table: Table, operations: Sequence[dict[str, Any]]) -> None:
    """The snapshots that carry the id of one of our operations; there has to be one."""
    ours = {operation["id"] for operation in operations}
    stamped = 0
    for snapshot in table.metadata.snapshots:
        properties = snapshot.summary.additional_properties if snapshot.summary is not None else {}
        stamp = properties.get("floe.operation-id", "")
        stamped += stamp in ours
        kind = snapshot.summary.operation.value if snapshot.summary is not None else ""
        print(f"snapshot {snapshot.snapshot_id:<20} {kind:<9} {f'floe.operation-id {stamp}' if stamp else ''}".rstrip())
    if not stamped:
        raise Failed("no snapshot carries the id of an operation of ours")


def require_unchanged(written: Contents, read: Contents) -> None:
    print(f"rows {written.rows:,} -> {read.rows:,}, checksum {written.checksum:x} -> {read.checksum:x}")
    if read != written:
        raise Failed("the contents are not what was written")


def data_files(table: Table) -> int:
    return len(list(table.scan().plan_files()))


def files_on_disk(table: Table) -> int:
    """The Parquet files below the table's location, whoever still needs them."""
    return len(list(Path(urlsplit(table.location()).path).rglob("*.parquet")))


def headline(text: str) -> None:
    print(f"\n== {text}", flush=True)


def progress(done: int, total: int) -> None:
    if sys.stdout.isatty():
        print(f"\r{done} of {total} commits", end="\n" if done == total else "", flush=True)
    elif done % 20 == 0 or done == total:
        print(f"{done} of {total} commits", flush=True)


def floe(*arguments: str) -> None:
    """Run the installed command, as a user would, and show what it says."""
    print(f"$ floe {' '.join(argument.replace(str(HERE), 'deploy/demo') for argument in arguments)}", flush=True)
    ended = subprocess.run([FLOE, *arguments], timeout=300, check=False)
    if ended.returncode != 0:
        raise Failed(f"`floe {' '.join(arguments)}` ended with {ended.returncode}")


def floe_json(*arguments: str) -> dict[str, Any]:
    ended = subprocess.run([FLOE, *arguments, "-o", "json"], timeout=60, check=True, stdout=subprocess.PIPE)
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


@contextmanager
def running(directory: Path) -> Iterator[dict[str, Any]]:
    """`floe dev` on free ports, and where it answers. It is stopped as ^C would, whatever happens meanwhile."""
    headline("Starting everything with `floe dev`")
    grpc, executor, catalog = free_ports(3)
    ready_file = directory / "ready.json"
    tree = subprocess.Popen(
        [
            *(FLOE, "dev", "--directory", directory, "--ready-file", ready_file),
            *("--grpc-port", str(grpc), "--executor-port", str(executor), "--catalog-port", str(catalog)),
        ],
        # In a session of its own: ^C at the terminal is ours, and we pass it on once.
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + READY_WITHIN
        while not ready_file.exists():
            if tree.poll() is not None:
                raise Failed(f"floe dev ended with {tree.returncode} before it was ready")
            if time.monotonic() > deadline:
                raise Failed(f"floe dev was not ready within {READY_WITHIN:.0f} s")
            time.sleep(0.1)
        yield json.loads(ready_file.read_text())
    finally:
        headline("Stopping everything")
        if tree.poll() is None:
            tree.send_signal(signal.SIGINT)
        try:
            tree.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            tree.kill()
            tree.wait()
    if tree.returncode != 0:
        raise Failed(f"floe dev ended with {tree.returncode}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def require_nothing_left(marker: str) -> None:
    """No process that this run started is left: each of them has the marker in its environment."""
    if not sys.platform.startswith("linux"):
        return
    deadline = time.monotonic() + 10
    while left := list(processes_with(marker)):
        if time.monotonic() > deadline:
            raise Failed(f"processes are left: {', '.join(left)}")
        time.sleep(0.1)
    print("no process is left")


def processes_with(marker: str) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            if marker.encode() in (process / "environ").read_bytes():
                yield f"{process.name} {(process / 'comm').read_text().strip()}"
        except OSError:
            continue


if __name__ == "__main__":
    sys.exit(main())
