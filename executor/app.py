"""The executor put together: the only module that knows every part."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import structlog

from executor.attachment import Attachment
from executor.config import ExecutorConfig
from executor.deadlines import DeadlineTable
from executor.engines.registry import Setup, load_engine, load_lane
from executor.introduction import Introduction
from executor.lease import boottime
from executor.observing import Lane, Observing
from executor.results import ResultStore
from executor.session import Call, ExecutorSession
from executor.state_directory import exclusive
from executor.supervisor import Supervisor
from executor.watchdog import Watchdog
from shared.telemetry.logs import configure_logging
from shared.telemetry.traces import configure_tracing

logger = structlog.get_logger(__name__)

_RESULTS_ANSWERED_WITHIN: Final = timedelta(seconds=5)


class WatchdogLost(Exception):
    """The watchdog ended: nothing would kill an engine that outlives its lease, so the executor ends too."""


async def serve(config: ExecutorConfig, stop: asyncio.Event) -> None:
    """Run the executor until `stop`, then let it end: no more work, what runs stops, results are told, and it leaves.

    Raises `ConfigurationError` or `Refused` for what an operator has to put right, `WatchdogLost` for what ends it.
    """
    settings = config.executor
    configure_logging(level=config.telemetry.log_level, log_format=config.telemetry.log_format)
    async with AsyncExitStack() as resources:
        resources.callback(configure_tracing("floe-executor", config.telemetry.otlp_endpoint))
        state = resources.enter_context(exclusive(settings.state_directory))
        deadlines = DeadlineTable.create(settings.slots + settings.metadata_slots)
        resources.callback(deadlines.close)
        watchdog = await Watchdog.start(deadlines)
        resources.push_async_callback(watchdog.stop)

        setup = Setup(
            slots=settings.slots + settings.metadata_slots,
            state_directory=state,
            secrets_directory=settings.secrets_directory,
            options=config.spark.model_dump() if config.engine_type == "spark" else {},
        )
        engine = await asyncio.to_thread(load_engine, config.engine_type, setup)
        lane: Lane = load_lane(
            settings.observation_lane,
            Setup(
                slots=settings.observation_slots,
                state_directory=state,
                secrets_directory=settings.secrets_directory,
                options=config.observation.model_dump(),
            ),
        )
        resources.push_async_callback(lane.close)
        supervisor = Supervisor(
            engine,
            slots=settings.slots,
            metadata_slots=settings.metadata_slots,
            deadlines=deadlines,
            results=ResultStore(state / "results"),
        )
        resources.push_async_callback(supervisor.stop)
        # Its processes load what they need while the engine starts.
        await lane.warm()
        await supervisor.start()

        introduction = Introduction(
            executor_id=str(uuid.uuid4()),
            display_name=settings.display_name or socket.gethostname(),
            software_version=_version(),
            process_id=os.getpid(),
            engine=engine.info,
            slots=settings.slots,
            metadata_slots=settings.metadata_slots,
            observation_slots=settings.observation_slots,
            catalogs=settings.catalogs,
            labels=settings.labels,
        )
        logger.info("executor.started", executor=introduction.executor_id, engine=engine.info.name, slots=setup.slots)
        await _work(
            supervisor,
            lane,
            introduction,
            watchdog,
            addresses=settings.control_plane,
            grace=settings.shutdown_grace,
            stop=stop,
        )
    logger.info("executor.stopped")


async def _work(
    supervisor: Supervisor,
    lane: Lane,
    introduction: Introduction,
    watchdog: Watchdog,
    *,
    addresses: Sequence[str],
    grace: timedelta,
    stop: asyncio.Event,
) -> None:
    async with asyncio.TaskGroup() as tasks:
        observing = Observing(lane, slots=introduction.observation_slots, tasks=tasks)

        def open_session(call: Call) -> ExecutorSession:
            return ExecutorSession(call, introduction=introduction, work=supervisor, looks=observing, clock=boottime)

        attachment = Attachment(addresses, open_session=open_session)
        followers = [
            tasks.create_task(attachment.run()),
            tasks.create_task(supervisor.run()),
            tasks.create_task(_end_with(watchdog)),
        ]
        await stop.wait()
        await supervisor.leave("the executor is shutting down", grace=grace)
        await supervisor.told(within=_RESULTS_ANSWERED_WITHIN)
        await attachment.close()
        observing.close()
        for follower in followers:
            follower.cancel()


async def _end_with(watchdog: Watchdog) -> None:
    code = await watchdog.ended()
    raise WatchdogLost(f"the watchdog ended with {code}; the executor does not work without it")


def _version() -> str:
    try:
        return version("floe")
    except PackageNotFoundError:
        return "unknown"
