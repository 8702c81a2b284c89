"""Domain objects for tests: whole, valid, and changed only in what the test is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from control_plane.domain.catalog import Catalog, CatalogType, Table
from control_plane.domain.executor import Capabilities, Executor
from control_plane.domain.health import HealthReport
from control_plane.domain.identifiers import (
    CatalogName,
    ExecutorId,
    OperationId,
    OperationType,
    PolicyName,
    ReplicaId,
    RunId,
    SessionId,
    TableName,
    TableUuid,
    TriggerId,
)
from control_plane.domain.observation import ObservationKind, ObservationRequest
from control_plane.domain.operation import Effects, Operation, Outcome, Result
from control_plane.domain.pause import Pause
from control_plane.domain.policy import Policy, PolicySpec
from control_plane.ports.operations import ClaimRequest
from control_plane.ports.records import ObservationClaim

LAKE = CatalogName("lake")
EVENTS = TableName(LAKE, ("sales",), "events")


def now() -> datetime:
    return datetime.now(UTC)


def operation(**changes: Any) -> Operation:
    """A QUEUED compaction of lake.sales.events under the policy `nightly`."""
    time = changes.get("create_time") or now()
    made = Operation(
        id=OperationId(str(uuid4())),
        type=OperationType.REWRITE_DATA_FILES,
        table=EVENTS,
        table_uuid=TableUuid("9d1f8a3e-3c0e-4c5e-9a43-0a3f4c2f9b11"),
        location="file:///lake/sales/events",
        policy=PolicyName("nightly"),
        policy_generation=1,
        action={"strategy": "BINPACK", "use_starting_sequence_number": True},
        trigger_id=TriggerId(str(uuid4())),
        run_id=RunId(str(uuid4())),
        requested_by="local:test",
        create_time=time,
        update_time=time,
        queue_deadline=time + timedelta(days=1),
        timeout=timedelta(hours=6),
        virtual_deadline=time,
    )
    return replace(made, **changes)


def separate(**changes: Any) -> Operation:
    """An operation on a table of its own."""
    uuid = str(uuid4())
    own = {"table": TableName(LAKE, ("sales",), f"t_{uuid[:8]}"), "table_uuid": TableUuid(uuid)}
    return operation(**{**own, **changes})


def policy(name: str = "nightly", **document: Any) -> Policy:
    """A policy that compacts every table of lake, unless the document says otherwise."""
    spec = PolicySpec.stored({"name": name, "tablePattern": "lake.**", "rewriteDataFiles": {}, **document})
    return Policy(spec, generation=1, etag=uuid4().hex, create_time=now(), update_time=now())


def catalog(name: str = "lake", **changes: Any) -> Catalog:
    made = Catalog(CatalogName(name), CatalogType.REST, "http://127.0.0.1:8181", create_time=now(), update_time=now())
    return replace(made, **changes)


def executor(identity: str = "e1", **changes: Any) -> Executor:
    """An executor with a session of its own that can do everything."""
    made = Executor(
        ExecutorId(identity),
        "test",
        "1.0",
        Capabilities(
            engine="spark",
            engine_version="4.1",
            operation_types=tuple(OperationType),
            slots=2,
            observation_slots=2,
            observation_kinds=tuple(ObservationKind),
        ),
        attach_time=now(),
        last_heartbeat_time=now(),
        session=SessionId(str(uuid4())),
        replica=ReplicaId("r1"),
    )
    return replace(made, **changes)


def claim_by(holder: Executor, **changes: Any) -> ClaimRequest:
    """A claim of an executor that works on nothing, for all that it can do."""
    assert holder.session is not None
    can = holder.capabilities
    made = ClaimRequest(
        holder.session,
        holder.id,
        can.engine,
        operation_types=can.operation_types,
        catalogs=can.catalogs,
        labels=can.labels,
        slots=can.slots,
        alone=True,
    )
    return replace(made, **changes)


def looks_by(holder: Executor, **changes: Any) -> ObservationClaim:
    """The same for observations."""
    assert holder.session is not None
    can = holder.capabilities
    kinds = tuple(ObservationKind(kind) for kind in can.observation_kinds)
    return replace(ObservationClaim(holder.session, holder.id, kinds, can.catalogs, can.observation_slots), **changes)


def look(kind: ObservationKind = ObservationKind.INSPECT_TABLE, **changes: Any) -> ObservationRequest:
    """A request to look at lake.sales.events."""
    return replace(ObservationRequest(kind, LAKE, table=EVENTS), **changes)


def table(name: TableName = EVENTS, **changes: Any) -> Table:
    """A loaded table with a UUID of its own."""
    made = Table(
        name,
        TableUuid(str(uuid4())),
        f"file:///lake/{name.name}",
        first_seen_time=now(),
        last_seen_time=now(),
        metadata_location=f"file:///lake/{name.name}/metadata/v1.json",
        format_version=2,
    )
    return replace(made, **changes)


def result(**changes: Any) -> Result:
    """Nothing had to be done."""
    return replace(Result(Outcome.NO_CHANGE, Effects.NONE), **changes)


def committed(snapshot: int = 7, **changes: Any) -> Result:
    return replace(Result(Outcome.COMPLETE, Effects.COMMITTED, snapshots=(snapshot,)), **changes)


def pause(**changes: Any) -> Pause:
    """The whole deployment is paused, unless the changes say otherwise."""
    return replace(Pause("maintenance", "local:test", now()), **changes)


def health_report(error: str = "not readable") -> HealthReport:
    return HealthReport.unreadable(error, now=now())
