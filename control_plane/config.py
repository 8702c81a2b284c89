"""Every setting of the control plane: the environment (`FLOE_...`), then a file (`FLOE_CONFIG`), then the defaults."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from control_plane.domain.debt_weights import MAX_SCORE, DebtWeights
from control_plane.domain.discovery_rules import DiscoveryRules
from control_plane.domain.floors import DEFAULT_ORPHAN_AGE_FLOOR, DEFAULT_SNAPSHOT_AGE_FLOOR, Floors
from control_plane.domain.rules import Rules
from control_plane.domain.scheduling_rules import SchedulingRules
from control_plane.ports.operations import Retention
from shared.runtime.settings import DELIMITER, PREFIX, ProcessSettings
from shared.telemetry.config import TelemetryConfig
from shared.vocabulary.values import IsoTimedelta, loopback_address
from shared.wire.transport import MAX_EXECUTION_MESSAGE_BYTES

MIB: Final = 1024 * 1024

Address = Annotated[str, AfterValidator(loopback_address)]


class StoreType(StrEnum):
    """`postgres` needs a DSN, `embedded` runs a PostgreSQL of its own, `memory` forgets everything at the end."""

    EMBEDDED = "embedded"
    POSTGRES = "postgres"
    MEMORY = "memory"


class Section(BaseModel):
    """One part of the settings. What it does not know, it refuses."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class GrpcConfig(Section):
    """The public API."""

    address: Address = Field(
        default="127.0.0.1:9090",
        description="host:port to listen on. Loopback only, until callers can be identified.",
    )
    reflection: bool = Field(
        default=True,
        description="Whether tools may list services and messages. On while the API is open to this machine alone.",
    )
    max_message_bytes: int = Field(
        default=MIB,
        ge=64 * 1024,
        le=64 * MIB,
        description="The largest request. Answers may be up to 4 MiB, what clients accept by default.",
    )
    max_concurrent_rpcs: int = Field(
        default=256, ge=1, description="Calls at a time; more are answered RESOURCE_EXHAUSTED. Streams count apart."
    )
    max_watches: int = Field(default=256, ge=1, description="Streams (watches) at a time.")
    max_concurrent_streams: int = Field(default=100, ge=1, description="Calls at a time on one connection.")
    default_deadline: IsoTimedelta = Field(
        default=timedelta(minutes=3), description="How long a call may take if its client sets no deadline."
    )


class ExecutorApiConfig(Section):
    """Where executors attach: a server of its own."""

    address: Address = Field(
        default="127.0.0.1:9092",
        description="host:port to listen on. Loopback only, until executors can be identified.",
    )
    max_message_bytes: int = Field(
        default=MAX_EXECUTION_MESSAGE_BYTES,
        ge=256 * 1024,
        description="The largest message: a catalog's listing and a large table's evidence come in one.",
    )
    max_executors: int = Field(default=1_000, ge=1, description="Executors attached to this replica at a time.")


class StoreConfig(Section):
    """Where everything is kept."""

    type: Annotated[StoreType, BeforeValidator(lambda v: v.lower() if isinstance(v, str) else v)] = Field(
        default=StoreType.EMBEDDED, description="embedded, postgres or memory. FLOE_STORE_TYPE does the same."
    )
    dsn: SecretStr | None = Field(
        default=None, description="postgresql://user:password@host:port/database, for the type postgres."
    )
    directory: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default=Path("~/.local/share/floe/postgres"),
        description="The data directory of the embedded PostgreSQL.",
    )
    connect_within: IsoTimedelta = Field(
        default=timedelta(seconds=60), description="How long a start waits for a database that does not answer yet."
    )
    max_connections: int = Field(default=16, ge=2, le=500, description="Connections of this replica to the database.")

    @model_validator(mode="after")
    def _names_a_database(self) -> Self:
        if self.type is StoreType.POSTGRES and self.dsn is None:
            raise ValueError("the store type postgres needs a dsn; set FLOE_STORE__DSN, or the type embedded")
        if self.type is not StoreType.POSTGRES and self.dsn is not None:
            raise ValueError(
                f"a dsn is set, and the store type is {self.type}; set FLOE_STORE__TYPE=postgres to use it"
            )
        return self


class LeaseConfig(Section):
    """How long an executor may be silent before its work is looked after by others."""

    ttl: IsoTimedelta = Field(
        default=timedelta(seconds=60),
        ge=timedelta(seconds=3),
        le=timedelta(minutes=10),
        description="How long a lease lasts.",
    )
    heartbeat: IsoTimedelta = Field(
        default=timedelta(seconds=5), description="How often an executor renews its leases; at most a third of `ttl`."
    )
    ack_within: IsoTimedelta = Field(
        default=timedelta(seconds=5), description="How soon an executor must acknowledge an assignment."
    )
    lock_delay: IsoTimedelta = Field(
        default=timedelta(seconds=30),
        description="How long after a lapse evidence is read: what the lost executor had sent may still arrive.",
    )
    reconcile_within: IsoTimedelta = Field(
        default=timedelta(hours=6), description="How long evidence is asked for before an operation ends as LOST."
    )
    verify_within: IsoTimedelta = Field(
        default=timedelta(minutes=15), description="How long a verdict is waited for before it is UNVERIFIED."
    )

    @model_validator(mode="after")
    def _survives_missed_heartbeats(self) -> Self:
        if self.heartbeat * 3 > self.ttl:
            raise ValueError(
                f"heartbeat ({self.heartbeat.total_seconds():g} s) must be at most a third of ttl "
                f"({self.ttl.total_seconds():g} s)"
            )
        return self

    def rules(self) -> Rules:
        """These numbers as the rules of an operation's life."""
        return Rules(
            ack_within=self.ack_within,
            lease_ttl=self.ttl,
            lock_delay=self.lock_delay,
            reconcile_within=self.reconcile_within,
            verify_within=self.verify_within,
        )


class GuardsConfig(Section):
    """What no policy and no caller can go below."""

    snapshot_age_floor: IsoTimedelta = Field(
        default=DEFAULT_SNAPSHOT_AGE_FLOOR,
        ge=timedelta(0),
        description="No younger snapshot is ever expired. Lower it only where no reader or writer runs that long.",
    )
    orphan_age_floor: IsoTimedelta = Field(
        default=DEFAULT_ORPHAN_AGE_FLOOR,
        ge=timedelta(0),
        description="No younger file is ever taken for an orphan. Lower it only where no writer takes that long from "
        "its first file to its commit.",
    )

    def floors(self) -> Floors:
        return Floors(snapshot_age=self.snapshot_age_floor, orphan_age=self.orphan_age_floor)


class CapacityConfig(Section):
    """Hard limits on operations at a time, over all executors."""

    limits: dict[str, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict,
        description='Operations at a time by `engine:NAME` or `label:KEY=VALUE`, as JSON: {"engine:spark": 4}. '
        "0: no limit. A catalog has its own in its record.",
    )

    @model_validator(mode="after")
    def _keys_name_engines_and_labels(self) -> Self:
        for key in self.limits:
            kind, _, rest = key.partition(":")
            if not rest or kind not in ("engine", "label") or (kind == "label" and "=" not in rest):
                raise ValueError(f"limits: {key[:100]!r} is neither engine:NAME nor label:KEY=VALUE")
        return self


class RetentionConfig(Section):
    """How long is kept what is over, in whole days."""

    operations: IsoTimedelta = Field(
        default=timedelta(days=90), ge=timedelta(days=1), description="Finished operations."
    )
    events: IsoTimedelta = Field(
        default=timedelta(days=90), ge=timedelta(days=1), description="Changes of state: how far back a watch can go."
    )
    observations: IsoTimedelta = Field(
        default=timedelta(days=1), ge=timedelta(days=1), description="Answered observations."
    )
    requests: IsoTimedelta = Field(
        default=timedelta(days=1), ge=timedelta(days=1), description="Answers to requests that carried a request id."
    )
    decisions: IsoTimedelta = Field(
        default=timedelta(days=30), ge=timedelta(days=1), description="Why scheduled operations ran, waited or did not."
    )
    reports: IsoTimedelta = Field(
        default=timedelta(days=30), ge=timedelta(days=1), description="Health reports, but for the newest of a table."
    )

    def kept(self) -> Retention:
        return Retention(
            operations=self.operations.days,
            events=self.events.days,
            observations=self.observations.days,
            requests=self.requests.days,
            decisions=self.decisions.days,
            reports=self.reports.days,
        )


class ObservingConfig(Section):
    """How long callers wait for an executor to look."""

    check_within: IsoTimedelta = Field(default=timedelta(seconds=30), description="CheckCatalog.")
    list_within: IsoTimedelta = Field(default=timedelta(minutes=2), description="CheckCatalog with `refresh`, as well.")
    inspect_within: IsoTimedelta = Field(default=timedelta(minutes=2), description="InspectTable.")


class SchedulerConfig(Section):
    """Operations by the schedules of policies. One replica at a time leads and decides."""

    enabled: bool = Field(
        default=True,
        description="Whether schedules fire. Off, only triggers give work; policies are resolved, tables discovered "
        "as before. FLOE_SCHEDULER_ENABLED does the same.",
    )
    stalled_after: IsoTimedelta = Field(
        default=timedelta(seconds=20),
        ge=timedelta(seconds=5),
        description="A leader that has work to do and completes none of it for so long makes room for another replica.",
    )


class DiscoveryConfig(Section):
    """How catalogs are followed."""

    interval: IsoTimedelta = Field(
        default=timedelta(minutes=5), ge=timedelta(seconds=1), description="Between two listings of a catalog."
    )
    max_loads: int = Field(
        default=50, ge=1, le=10_000, description="Loads of new tables at a time that wait for an executor."
    )


class HealthConfig(Section):
    """Inspections that schedules ask for."""

    max_age: IsoTimedelta = Field(
        default=timedelta(hours=1),
        ge=timedelta(seconds=1),
        description="An older health report decides nothing; a new inspection is asked for.",
    )
    wait: IsoTimedelta = Field(
        default=timedelta(minutes=15),
        ge=timedelta(seconds=1),
        description="How long a slot waits for a health report before it is skipped.",
    )
    inspect_ahead: IsoTimedelta = Field(
        default=timedelta(minutes=5),
        ge=timedelta(0),
        description="How long before their slots tables are inspected whose report will be too old.",
    )
    max_inspections: int = Field(
        default=100, ge=1, le=10_000, description="Inspections at a time that wait for an executor."
    )


class DebtConfig(Section):
    """What each part of a table's debt counts, by which tables and operations are ranked."""

    critical: float = Field(default=100, ge=0, le=MAX_SCORE, description="Points for a critical issue.")
    warning: float = Field(default=50, ge=0, le=MAX_SCORE, description="Points for a warning.")
    info: float = Field(default=10, ge=0, le=MAX_SCORE, description="Points for an issue that is for information.")
    per_stale_day: float = Field(
        default=0.5, ge=0, le=MAX_SCORE, description="Points for each day since the newest snapshot."
    )
    per_failure_percent: float = Field(
        default=1, ge=0, le=MAX_SCORE, description="Points for each percent of the finished operations that failed."
    )
    per_consecutive_failure: float = Field(
        default=20, ge=0, le=MAX_SCORE, description="Points for each failure in a row."
    )

    def weights(self) -> DebtWeights:
        return DebtWeights(**self.model_dump())


class ShutdownConfig(Section):
    """How much time the end takes."""

    drain_within: IsoTimedelta = Field(
        default=timedelta(seconds=5), description="How long executors' sessions may take to end."
    )
    grace: IsoTimedelta = Field(default=timedelta(seconds=5), description="How long calls under way may take to end.")


class ControlPlaneConfig(ProcessSettings):
    """FLOE_STORE__DSN sets `store.dsn`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, frozen=True, extra="forbid", validate_default=True
    )

    grpc: GrpcConfig = GrpcConfig()
    executor_api: ExecutorApiConfig = ExecutorApiConfig()
    store: StoreConfig = StoreConfig()
    lease: LeaseConfig = LeaseConfig()
    guards: GuardsConfig = GuardsConfig()
    capacity: CapacityConfig = CapacityConfig()
    retention: RetentionConfig = RetentionConfig()
    observing: ObservingConfig = ObservingConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    health: HealthConfig = HealthConfig()
    debt: DebtConfig = DebtConfig()
    shutdown: ShutdownConfig = ShutdownConfig()
    telemetry: TelemetryConfig = TelemetryConfig()

    def scheduling_rules(self) -> SchedulingRules:
        """The numbers by which slots are decided."""
        return SchedulingRules(
            health_max_age=self.health.max_age, health_wait=self.health.wait, debt_weights=self.debt.weights()
        )

    def discovery_rules(self) -> DiscoveryRules:
        """How much is looked at, and how often."""
        return DiscoveryRules(
            interval=self.discovery.interval,
            ahead=self.health.inspect_ahead,
            loads=self.discovery.max_loads,
            inspections=self.health.max_inspections,
        )

    def warnings(self) -> list[str]:
        """What is allowed, and should not go unseen."""
        found = []
        floor = self.guards.snapshot_age_floor
        if floor < DEFAULT_SNAPSHOT_AGE_FLOOR:
            found.append(
                f"guards.snapshot_age_floor is {floor.total_seconds():g} s, below the default of one hour: "
                "snapshots that readers and writers still use may be expired"
            )
        if not self.scheduler.enabled:
            found.append("scheduler.enabled is false: no schedule fires, only triggers give work")
        if self.guards.orphan_age_floor < DEFAULT_ORPHAN_AGE_FLOOR:
            found.append(
                f"guards.orphan_age_floor is {self.guards.orphan_age_floor.total_seconds():g} s, below the default of "
                "one day: files that a writer has not committed yet may be taken for orphans"
            )
        if self.store.type is StoreType.MEMORY:
            found.append("store.type is memory: everything is forgotten when the control plane stops")
        return found
