"""The composition root: the one module that knows every part. It reads in the order of start."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Final
from uuid import uuid4

import structlog

from control_plane.clock import SystemClock
from control_plane.config import ControlPlaneConfig
from control_plane.config_sources import shown_settings
from control_plane.domain.identifiers import ReplicaId
from control_plane.loops.leader import Duties, Leader
from control_plane.loops.schedule import run_loops
from control_plane.opening import open_store
from control_plane.ports.records import Clock, ReplicaInfo, Store
from control_plane.rpc.executor_session import AssignmentServicer
from control_plane.rpc.once import Once
from control_plane.rpc.server import Limits, PublicServicers, build_executor_server, build_server
from control_plane.rpc.servicers.catalogs import CatalogServicer
from control_plane.rpc.servicers.executors import ExecutorServicer
from control_plane.rpc.servicers.operations import OperationServicer
from control_plane.rpc.servicers.policies import PolicyServicer
from control_plane.rpc.servicers.system import SystemServicer
from control_plane.rpc.servicers.tables import TableServicer
from control_plane.rpc.servicers.triggers import TriggerServicer
from control_plane.services.catalogs import CatalogService
from control_plane.services.discovery import DiscoveryService
from control_plane.services.dispatch import Dispatcher
from control_plane.services.executors import ExecutorService
from control_plane.services.explaining import ExplainingService
from control_plane.services.governing import GoverningPolicies
from control_plane.services.leadership import Leadership
from control_plane.services.observing import ObservingService
from control_plane.services.operations import OperationsService
from control_plane.services.planning import PlanningService
from control_plane.services.policies import PolicyService
from control_plane.services.policy_sets import PolicySetService
from control_plane.services.previewing import PreviewingService
from control_plane.services.ranking import RankingService
from control_plane.services.recovery import RecoveryService
from control_plane.services.resolving import ResolvingService
from control_plane.services.scheduling import Scheduler
from control_plane.services.sightings import Sightings
from control_plane.services.system import SystemService
from control_plane.services.tables import TableService
from control_plane.services.triggering import TriggeringService
from shared.telemetry.logs import configure_logging
from shared.telemetry.traces import configure_tracing

logger: Final = structlog.get_logger(__name__)

SERVICE_NAME: Final = "floe-control-plane"
_DISTRIBUTION: Final = "floe"


@dataclass(frozen=True, slots=True)
class Parts:
    """What stands on the store: the servicers of both servers, and what the loops drive."""

    public: PublicServicers
    assignments: AssignmentServicer
    dispatcher: Dispatcher
    recovery: RecoveryService
    leader: Leader


async def serve(config: ControlPlaneConfig, stop: asyncio.Event) -> None:
    """Run the control plane until `stop`, then wind it down in the reverse order of its start."""
    with contextlib.suppress(_StoppedEarly):
        await _serve(config, stop)
    logger.info("control_plane.stopped")


async def _serve(config: ControlPlaneConfig, stop: asyncio.Event) -> None:
    configure_logging(level=config.telemetry.log_level, log_format=config.telemetry.log_format)
    for warning in config.warnings():
        logger.warning("settings.doubtful", what=warning)
    async with AsyncExitStack() as resources:
        end_tracing = configure_tracing(SERVICE_NAME, config.telemetry.otlp_endpoint)
        resources.push_async_callback(asyncio.to_thread, end_tracing)

        clock = SystemClock()
        async with _unless(stop):
            store = await resources.enter_async_context(open_store(config.store, clock, rules=config.lease.rules()))
        await store.set_capacity(config.capacity.limits)
        parts = compose(store, config, clock, replica=this_replica(config))
        work = run_loops(store, parts.dispatcher, parts.recovery, retention=config.retention.kept())
        await resources.enter_async_context(_beside(work))

        public = build_server(parts.public, public_limits(config), reflects=config.grpc.reflection)
        executors = build_executor_server(parts.assignments, executor_limits(config))
        for server, address in ((executors, config.executor_api.address), (public, config.grpc.address)):
            port = await server.start(address)
            resources.push_async_callback(server.stop, config.shutdown.grace)
            logger.info("server.started", address=address, port=port)
        # Callbacks run last-in first-out: nobody is sent here any more, then executors leave, then the servers stop.
        resources.push_async_callback(parts.assignments.drain, config.shutdown.drain_within)
        for server in (executors, public):
            await server.announce(True)
            resources.push_async_callback(server.announce, False)
        # Last in, first out: whoever stops schedules nothing more from the first moment on, and others may at once.
        await resources.enter_async_context(_beside(parts.leader.run()))
        spare_the_collector()
        logger.info("control_plane.started", version=version(), store=config.store.type)
        await stop.wait()
        logger.info("control_plane.stopping")


def compose(store: Store, config: ControlPlaneConfig, clock: Clock, *, replica: ReplicaInfo) -> Parts:
    """Build everything that stands on a store; tests do it the same way."""
    rules = config.lease.rules()
    floors = config.guards.floors()
    once = Once(store)
    observing = ObservingService(store, clock)
    governing = GoverningPolicies(store, clock)
    sightings = Sightings(store, governing)
    catalogs = CatalogService(
        store,
        observing,
        sightings,
        check_within=config.observing.check_within,
        list_within=config.observing.list_within,
    )
    tables = TableService(store, observing, sightings, inspect_within=config.observing.inspect_within)
    explaining = ExplainingService(store, governing, rules=config.scheduling_rules(), floors=floors)
    triggering = TriggeringService(store, observing, explaining, floors=floors)
    planning = PlanningService(store, observing, triggering, explaining, rules=config.scheduling_rules())
    dispatcher = Dispatcher(store, replica=replica.id, rules=rules)
    return Parts(
        public=PublicServicers(
            policies=PolicyServicer(
                PolicyService(store, floors=floors),
                PolicySetService(store, floors=floors),
                PreviewingService(store, floors=floors),
                once,
            ),
            catalogs=CatalogServicer(catalogs, once),
            tables=TableServicer(tables, RankingService(store, rules=config.scheduling_rules()), explaining),
            triggers=TriggerServicer(triggering, planning, explaining, once),
            operations=OperationServicer(OperationsService(store, floors=floors), once),
            executors=ExecutorServicer(ExecutorService(store), once),
            system=SystemServicer(SystemService(store, replica, schedules=config.scheduler.enabled), once),
        ),
        assignments=AssignmentServicer(dispatcher, replica=replica.id, heartbeat=config.lease.heartbeat),
        dispatcher=dispatcher,
        recovery=RecoveryService(store, clock, sightings, rules=rules),
        leader=compose_leader(store, config, clock, sightings, replica=replica.id),
    )


def compose_leader(
    store: Store, config: ControlPlaneConfig, clock: Clock, sightings: Sightings, *, replica: ReplicaId
) -> Leader:
    """What this replica does whenever it is elected."""
    # Of its own: the leader reads policies again whenever one has changed.
    governing = GoverningPolicies(store, clock)
    rules = config.scheduling_rules()
    discovery = DiscoveryService(store, clock, sightings, governing, rules=config.discovery_rules(), scheduling=rules)
    scheduler = Scheduler(
        store,
        clock,
        governing,
        ResolvingService(store, governing, rules=rules),
        discovery,
        rules=rules,
        floors=config.guards.floors(),
        enabled=config.scheduler.enabled,
    )
    ranking = RankingService(store, rules=rules)

    async def discover() -> None:
        await discovery.ask()
        await ranking.reckon()

    duties = Duties(scheduler, discover, stalled_after=config.scheduler.stalled_after)
    return Leader(Leadership(store, clock, replica=replica), clock, store.hints, duties)


def this_replica(config: ControlPlaneConfig) -> ReplicaInfo:
    return ReplicaInfo(
        ReplicaId(str(uuid4())), version(), datetime.now(UTC), config.store.type.value, shown_settings(config)
    )


def version() -> str:
    return metadata.version(_DISTRIBUTION)


def public_limits(config: ControlPlaneConfig) -> Limits:
    return Limits(
        message_bytes=config.grpc.max_message_bytes,
        calls=config.grpc.max_concurrent_rpcs,
        streams=config.grpc.max_watches,
        streams_per_connection=config.grpc.max_concurrent_streams,
        default_deadline=config.grpc.default_deadline,
    )


def executor_limits(config: ControlPlaneConfig) -> Limits:
    return Limits(
        message_bytes=config.executor_api.max_message_bytes,
        calls=config.executor_api.max_executors,
        streams=config.executor_api.max_executors,
        streams_per_connection=16,
        default_deadline=config.grpc.default_deadline,
    )


def spare_the_collector() -> None:
    """What was made until now stays, and going through it again and again costs a busy replica a tenth of its time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the work beside the block, and end it with the block. If it fails, the block is cancelled."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        yield
        task.cancel()


class _StoppedEarly(Exception):
    """The process was asked to stop before it had started."""


@asynccontextmanager
async def _unless(stop: asyncio.Event) -> AsyncIterator[None]:
    """Break the block off when `stop` is set: a database that does not answer must not hold up the end."""
    scope = asyncio.timeout(None)

    async def watch() -> None:
        await stop.wait()
        scope.reschedule(asyncio.get_running_loop().time())

    try:
        async with scope, _beside(watch()):
            yield
    except TimeoutError:
        if scope.expired():
            raise _StoppedEarly from None
        raise
