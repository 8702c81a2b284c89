"""A control plane whose database does not answer, from the first moment or only for a while."""

from __future__ import annotations

import re

from tests.support.cluster import Cluster
from tests.support.processes import Processes, free_port
from tests.support.waiting import eventually

_PASSWORD = "hunter2-is-no-password"
_DATABASE_NOT_USABLE = 3


async def test_a_database_that_never_answers_is_waited_for_and_then_named(processes: Processes) -> None:
    port = free_port()
    child = processes.python(
        "replica",
        "control_plane.cli",
        "serve",
        environ={
            "FLOE_STORE__TYPE": "postgres",
            "FLOE_STORE__DSN": f"postgresql://floe:{_PASSWORD}@127.0.0.1:{port}/floe",
            "FLOE_STORE__CONNECT_WITHIN": "PT3S",
            "FLOE_GRPC__ADDRESS": f"127.0.0.1:{free_port()}",
            "FLOE_EXECUTOR_API__ADDRESS": f"127.0.0.1:{free_port()}",
        },
    )
    waiting = await child.said("database.awaited")
    assert await child.ended() == _DATABASE_NOT_USABLE
    assert str(port) in str(waiting), "the line that says it waits names the server"
    last = child.text().splitlines()[-1]
    assert re.search(rf"127\.0\.0\.1:{port}\b", last), f"the error names the server: {last}"
    assert "Traceback" not in child.text()
    assert _PASSWORD not in child.text()


async def test_a_database_that_was_never_migrated_is_refused_with_what_to_do(
    processes: Processes, empty_database: str
) -> None:
    child = processes.python(
        "replica",
        "control_plane.cli",
        "serve",
        environ={
            "FLOE_STORE__TYPE": "postgres",
            "FLOE_STORE__DSN": empty_database,
            "FLOE_GRPC__ADDRESS": f"127.0.0.1:{free_port()}",
            "FLOE_EXECUTOR_API__ADDRESS": f"127.0.0.1:{free_port()}",
        },
    )
    assert await child.ended() == _DATABASE_NOT_USABLE
    assert "floe-control-plane migrate" in child.text().splitlines()[-1]


async def test_a_taken_port_is_named(one_replica: Cluster) -> None:
    (first,) = one_replica.replicas
    second = one_replica.processes.python(
        "second",
        "control_plane.cli",
        "serve",
        environ={
            "FLOE_STORE__TYPE": "postgres",
            "FLOE_STORE__DSN": one_replica.dsn,
            "FLOE_GRPC__ADDRESS": first.api,
            "FLOE_EXECUTOR_API__ADDRESS": f"127.0.0.1:{free_port()}",
        },
    )
    assert await second.ended() == 4
    assert first.api in second.text().splitlines()[-1]
    await one_replica.serving(first)


async def test_every_connection_may_break_and_the_replica_goes_on(one_replica: Cluster) -> None:
    client = one_replica.client()
    await client.system.pause(reason="before")
    await one_replica.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    async def answers() -> bool:
        await client.system.resume()
        return True

    assert await eventually(answers)
    (replica,) = one_replica.replicas
    assert replica.child.code is None
