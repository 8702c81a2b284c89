"""An engine for tests of everything around engines: real threads, a real process that can be killed, fake tables.

`FLOE_ENGINE_TYPE=tests.support.fake_engine:create` and `FLOE_EXECUTOR__OBSERVATION_LANE=tests.support.fake_engine:lane`
load it into a real executor; `FLOE_TEST_ENGINE_DIRECTORY` names its directory (tests/support/fake_tables.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from executor.assignment import (
    Assignment,
    Catalog,
    Effects,
    Failure,
    FailureClass,
    OperationType,
    Outcome,
    Plan,
    Progress,
    Result,
)
from executor.engines.base import Attempt, EngineInfo
from executor.engines.registry import Setup
from executor.observation import model
from executor.observation.errors import Invalid
from tests.support.fake_tables import VARIABLE, Behaviours, EffectLog, table_uuid

_ROOT = Path(__file__).parents[2]


class FakeEngine:
    """Commits in a process of its own, as Spark does in its JVM; the watchdog kills that one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = EffectLog(directory)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[threading.Event, dict[str, Any]]] = {}

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("spark", "fake", tuple(OperationType))

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        paths = [str(_ROOT), str(_ROOT / "shared" / "gen"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fake_engine_process", str(self._directory), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def run(self, attempt: Attempt) -> Result:
        assignment = attempt.assignment
        attempt.check()
        if found := self._earlier(assignment):
            return Result(Outcome.COMPLETE, Effects.COMMITTED, snapshots=found)
        attempt.report(Progress("planning"))
        attempt.store_plan(Plan(base_snapshot=None, base_metadata_location="fake://base"))
        attempt.report(Progress("rewriting", groups_done=0, groups_total=1))
        answer = self._ask(assignment)
        attempt.report(Progress("committed", groups_done=1, groups_total=1))
        failure = Failure(FailureClass(answer["fails"]), "as the test wanted it") if answer["fails"] else None
        return Result(
            outcome=Outcome.COMPLETE if answer["snapshots"] else Outcome.NO_CHANGE,
            effects=Effects(answer["effects"]),
            failure=failure,
            cancelled=answer["cancelled"],
            snapshots=answer["snapshots"],
            metrics={"files_rewritten": 10} if answer["snapshots"] else {},
        )

    def cancel(self, attempt: Attempt) -> None:
        self._tell({"cancel": attempt.assignment.lease.operation})

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if self._reader is not None:
            self._reader.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _earlier(self, assignment: Assignment) -> list[int]:
        wanted = {(stamp.operation, stamp.epoch) for stamp in assignment.earlier}
        commits = self._log.commits(assignment.table.uuid)
        return [commit.snapshot for commit in commits if (commit.operation, commit.epoch) in wanted]

    def _ask(self, assignment: Assignment) -> dict[str, Any]:
        lease, done, answer = assignment.lease, threading.Event(), dict[str, Any]()
        with self._lock:
            self._waiting[lease.operation] = (done, answer)
        self._tell({"run": lease.operation, "epoch": lease.epoch, "table": assignment.table.uuid})
        done.wait()
        if not answer:
            raise ConnectionError("the engine's process ended")
        return answer

    def _tell(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise ConnectionError("the engine is not started")
        with self._lock:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            with self._lock:
                done, answer = self._waiting.pop(message["run"])
            answer.update(message)
            done.set()
        with self._lock:
            lost, self._waiting = self._waiting, {}
        for done, _ in lost.values():
            done.set()


class FakeLane:
    """Answers from the effect log; every table exists."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._log = EffectLog(directory)

    async def run(self, request: model.Request[Any], *, within: timedelta) -> Any:
        match request:
            case model.ListTables():
                return model.TableNames([], complete=True)
            case model.LoadTable(catalog, namespace, name):
                return self._table(catalog, namespace, name)
            case model.CheckCatalog():
                return model.CatalogChecks([model.Check("reachable", passed=True, detail="it is fake")])
            case model.InspectTable(table):
                metrics = [model.Metric("file_count", model.Knowledge.EXACT, 10.0)]
                loaded = self._table(table.catalog, table.namespace, table.name, uuid=table.uuid)
                return model.Measurements(loaded, model.ScanMode.SCAN, metrics)
            case model.GatherEvidence():
                return self._evidence(request)
            case model.VerifyOperation():
                return self._verdict(request)
            case model.PlanExpiry(table):
                # As in its engine, nothing is ever too old.
                return model.ExpiryPlan(self._table(table.catalog, table.namespace, table.name, uuid=table.uuid))
            case model.ListOrphans(table):
                return model.OrphanPlan(self._table(table.catalog, table.namespace, table.name, uuid=table.uuid))
        raise Invalid(f"the fake lane does not know {type(request).__name__}")

    async def warm(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _evidence(self, request: model.GatherEvidence) -> model.Evidence:
        started, table = datetime.now(UTC), request.table
        found = [
            model.StampedSnapshot(commit.snapshot, stamp)
            for commit in self._log.commits(table.uuid)
            for stamp in request.stamps
            if (commit.operation, commit.epoch) == (stamp.operation, stamp.epoch)
        ]
        loaded = self._table(table.catalog, table.namespace, table.name, uuid=table.uuid)
        # Expiring is fake too: a commit of one of the stamps is what removed the snapshots.
        present = () if found else request.expiring_snapshots
        gone = request.expiring_snapshots if found else ()
        return model.Evidence(model.Identity.SAME, started, loaded, found, present, gone)

    def _verdict(self, request: model.VerifyOperation) -> model.Verification:
        stamps = {(stamp.operation, stamp.epoch) for stamp in request.stamps}
        is_there = any((each.operation, each.epoch) in stamps for each in self._log.commits(request.table.uuid))
        judgement = model.Judgement.PASSED if is_there else model.Judgement.FAILED
        table = request.table
        loaded = self._table(table.catalog, table.namespace, table.name, uuid=table.uuid)
        return model.Verification(judgement, [model.Finding("snapshot_present", judgement, "by the log")], loaded)

    def _table(self, catalog: Catalog, namespace: tuple[str, ...], name: str, *, uuid: str = "") -> model.LoadedTable:
        identity = uuid or table_uuid(catalog.name, namespace, name)
        commits = self._log.commits(identity)
        return model.LoadedTable(
            namespace=namespace,
            name=name,
            uuid=identity,
            location=f"fake://{identity}",
            metadata_location=f"fake://{identity}/metadata/{len(commits)}",
            format_version=2,
            current_snapshot_id=commits[-1].snapshot if commits else None,
            properties={},
            last_updated=datetime.now(UTC),
        )


def create(setup: Setup) -> FakeEngine:
    return FakeEngine(_directory())


def lane(setup: Setup) -> FakeLane:
    return FakeLane(_directory())


def _directory() -> Path:
    return Path(os.environ[VARIABLE])


def behaviours() -> Behaviours:
    return Behaviours(_directory())
