"""The local REST catalog as a process: what it serves, where it listens, and that nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from executor.catalogs.rest_server import RestCatalogSettings
from executor.errors import ConfigurationError
from tests.support.iceberg import MESSY_SCHEMA, RestCatalog, messy_rows, messy_table, running_rest_catalog

_DEADLINE_SECONDS = 30


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {_DEADLINE_SECONDS} s"
        os.sched_yield()


def ended(pid: int) -> bool:
    """No such process, or one that only waits to be reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def listening_addresses(pid: int) -> set[str]:
    """The local addresses, in the kernel's hexadecimal, of the sockets on which a process listens."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                found.add(columns[1].partition(":")[0])
    return found


def test_a_table_is_written_and_read_through_it(rest_catalog: RestCatalog, namespace: str) -> None:
    table = messy_table(rest_catalog.open(), (namespace, "t"), files=6, commits=3, partitions=2)

    read = rest_catalog.open().load_table((namespace, "t"))

    assert read.metadata.table_uuid == table.metadata.table_uuid
    assert len(read.metadata.snapshots) == 3
    assert len(list(read.scan().plan_files())) == 6
    assert read.scan().to_arrow().sort_by("id").equals(messy_rows(0, 60, 2))


def test_rival_writers_of_many_tables_all_succeed(rest_catalog: RestCatalog, namespace: str) -> None:
    def write(number: int) -> int:
        table = rest_catalog.open().create_table((namespace, f"t{number}"), MESSY_SCHEMA)
        for start in range(3):
            table.append(messy_rows(start, 1, 1))
        return len(table.metadata.snapshots)

    with ThreadPoolExecutor(6) as writers:
        assert list(writers.map(write, range(6))) == [3] * 6


def test_it_listens_on_loopback_only(rest_catalog: RestCatalog) -> None:
    addresses = listening_addresses(rest_catalog.jvm_process_id)

    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert addresses
    assert addresses <= loopback


@pytest.mark.parametrize("end", ["kill", "terminate", "close its input"])
def test_the_jvm_ends_with_its_owner(tmp_path: Path, end: str) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "executor.catalogs.rest_server"),
            *("--warehouse", str(tmp_path / "warehouse"), "--database", str(tmp_path / "catalog.db")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        jvm = json.loads(process.stdout.readline())["jvm"]
        assert not ended(jvm)

        match end:
            case "kill":
                process.kill()
            case "terminate":
                process.terminate()
            case _:
                process.stdin.close()

        status = process.wait(_DEADLINE_SECONDS)
        until(lambda: ended(jvm), "the JVM is gone")
        assert status == (-signal.SIGKILL if end == "kill" else 0)


def test_it_ends_when_its_jvm_does(tmp_path: Path) -> None:
    with running_rest_catalog(tmp_path) as catalog:
        os.kill(catalog.jvm_process_id, signal.SIGKILL)

        until(lambda: ended(catalog.process_id), "the server's process is gone")


def test_the_catalog_is_the_same_after_a_restart(tmp_path: Path) -> None:
    with running_rest_catalog(tmp_path) as first:
        first.open().create_namespace("n")
        written = messy_table(first.open(), ("n", "t"), files=2, commits=1)

    with running_rest_catalog(tmp_path) as second:
        read = second.open().load_table(("n", "t"))

    assert read.metadata.table_uuid == written.metadata.table_uuid


def test_an_address_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="loopback"):
        RestCatalogSettings(tmp_path, tmp_path / "catalog.db", host="0.0.0.0")


def test_it_wants_exactly_one_place_for_its_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="either"):
        RestCatalogSettings(tmp_path)
    with pytest.raises(ConfigurationError, match="either"):
        RestCatalogSettings(tmp_path, tmp_path / "catalog.db", jdbc_uri="jdbc:postgresql://127.0.0.1/c")


def test_a_database_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "executor.catalogs.rest_server", "--warehouse", str(tmp_path)),
            *("--jdbc-uri", "jdbc:postgresql://127.0.0.1:1/none"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_SECONDS * 2,
        check=False,
    )

    assert finished.returncode == 2
    assert "the development catalog did not start" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr
