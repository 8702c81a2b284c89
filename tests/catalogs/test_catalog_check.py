"""CheckCatalog against the real REST catalog, and against answers that other servers are known to give."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from executor.assignment import Catalog
from executor.observation.lane import ObservationLane
from executor.observation.model import CatalogChecks, CheckCatalog
from tests.support.iceberg import RestCatalog, messy_table, on_disk

Answer = tuple[int, Mapping[str, str], str]
Respond = Callable[[str, Mapping[str, str]], Answer]


@pytest.fixture
async def lane() -> AsyncIterator[ObservationLane]:
    async with ObservationLane(1) as lane:
        yield lane


@contextmanager
def catalog_that(respond: Respond) -> Iterator[Catalog]:
    """A server that answers GET and POST as told: the dialects of servers that cannot be run here."""

    class Dialect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, body = respond(self.path, dict(self.headers))
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body.encode())), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Dialect) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield Catalog(name="lake", type="rest", uri=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        serving.join()


def error(status: int, kind: str, message: str) -> Answer:
    # Some servers send kilobytes of Java stack along.
    stack = [f"at org.example.Class{number}.method(Class.java:{number})" for number in range(200)]
    body = {"error": {"type": kind, "code": status, "message": message, "stack": stack}}
    return status, {"Content-Type": "application/json"}, json.dumps(body)


def ok(body: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(body)


CONFIG = ok({"defaults": {}, "overrides": {}})


def outcome(checked: CatalogChecks) -> list[tuple[str, bool]]:
    return [(check.check, check.passed) for check in checked.checks]


async def test_a_healthy_catalog_passes_every_step(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    messy_table(rest_catalog.open(), (namespace, "t"), files=1, commits=1)

    checked = await lane.run(CheckCatalog(rest_catalog.record))

    assert outcome(checked) == [
        ("configured", True),
        ("reachable", True),
        ("authenticated", True),
        ("listable", True),
        ("loadable", True),
    ]
    assert checked.healthy


async def test_tables_whose_storage_is_gone_are_not_loadable(
    rest_catalog: RestCatalog, namespace: str, lane: ObservationLane
) -> None:
    # Sorted first, so that these are the ones that are tried.
    catalog = rest_catalog.open()
    catalog.create_namespace(f"!{namespace}")
    for number in range(3):
        table = messy_table(catalog, (f"!{namespace}", f"t{number}"), files=1, commits=1)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        on_disk(snapshot.manifest_list).unlink()

    checked = await lane.run(CheckCatalog(rest_catalog.record))
    for number in range(3):
        catalog.drop_table((f"!{namespace}", f"t{number}"))

    assert outcome(checked)[-1] == ("loadable", False)


async def test_nobody_listening_is_not_reachable(lane: ObservationLane) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    checked = await lane.run(CheckCatalog(Catalog("lake", "rest", f"http://127.0.0.1:{port}")))

    assert outcome(checked) == [("configured", True), ("reachable", False)]
    assert "check the uri" in checked.checks[-1].hint


async def test_no_authorization_header_is_sent_without_credentials(lane: ObservationLane) -> None:
    """A server with anonymous access refuses any bearer, such as the words "Bearer None"."""
    seen: list[str | None] = []

    def respond(path: str, headers: Mapping[str, str]) -> Answer:
        seen.append(headers.get("Authorization"))
        return CONFIG if "/config" in path else ok({"namespaces": [], "next-page-token": None})

    with catalog_that(respond) as record:
        checked = await lane.run(CheckCatalog(record))

    assert checked.healthy
    assert set(seen) == {None}


async def test_a_bare_401_without_credentials_asks_for_some(lane: ObservationLane) -> None:
    with catalog_that(lambda path, headers: (401, {"WWW-Authenticate": "Bearer"}, "")) as record:
        checked = await lane.run(CheckCatalog(record))

    assert outcome(checked) == [("configured", True), ("reachable", True), ("authenticated", False)]
    assert "wants credentials" in checked.checks[-1].hint


async def test_a_bare_401_with_a_token_says_that_the_token_is_the_fault(
    lane: ObservationLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOE_SECRET_TOKEN", "s3cr3t-token")
    with catalog_that(lambda path, headers: (401, {"WWW-Authenticate": "Bearer"}, "")) as record:
        checked = await lane.run(CheckCatalog(replace(record, secrets={"token": "token"})))

    assert outcome(checked)[-1] == ("authenticated", False)
    assert "renew the secret" in checked.checks[-1].hint
    assert "s3cr3t-token" not in repr(checked)


async def test_a_refused_scope_names_the_property(lane: ObservationLane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOE_SECRET_CLIENT", "id:s3cr3t")

    def respond(path: str, headers: Mapping[str, str]) -> Answer:
        if "/oauth/tokens" in path:
            body = {"error": "invalid_scope", "error_description": "The scope is invalid"}
            return 400, {"Content-Type": "application/json"}, json.dumps(body)
        return CONFIG

    with catalog_that(respond) as record:
        checked = await lane.run(CheckCatalog(replace(record, secrets={"credential": "client"})))

    assert outcome(checked)[-1] == ("authenticated", False)
    assert "PRINCIPAL_ROLE:ALL" in checked.checks[-1].hint
    assert "s3cr3t" not in repr(checked)


async def test_an_expired_token_is_told_by_its_status(lane: ObservationLane) -> None:
    with catalog_that(lambda path, headers: error(419, "AuthenticationTimeoutException", "expired")) as record:
        checked = await lane.run(CheckCatalog(record))

    assert outcome(checked)[-1] == ("authenticated", False)
    assert "expired" in checked.checks[-1].hint


async def test_a_missing_grant_is_not_a_missing_login(lane: ObservationLane) -> None:
    def respond(path: str, headers: Mapping[str, str]) -> Answer:
        return CONFIG if "/config" in path else error(403, "ForbiddenException", "Principal 'p' is not authorized")

    with catalog_that(respond) as record:
        checked = await lane.run(CheckCatalog(record))

    assert outcome(checked) == [
        ("configured", True),
        ("reachable", True),
        ("authenticated", True),
        ("listable", False),
    ]
    assert "CATALOG_MANAGE_CONTENT" in checked.checks[-1].hint


async def test_a_warehouse_that_the_server_wants_is_asked_for(lane: ObservationLane) -> None:
    with catalog_that(lambda path, headers: error(400, "BadRequestException", "Please specify a warehouse")) as record:
        checked = await lane.run(CheckCatalog(record))

    assert outcome(checked)[-1] == ("configured", False)
    assert "warehouse" in checked.checks[-1].hint


async def test_a_web_page_is_no_catalog(lane: ObservationLane) -> None:
    with catalog_that(lambda path, headers: (200, {"Content-Type": "text/html"}, "<html>hello</html>")) as record:
        checked = await lane.run(CheckCatalog(record))

    assert outcome(checked)[-1] == ("reachable", False)
    assert "no Iceberg REST catalog" in checked.checks[-1].detail


async def test_a_wrong_path_is_told_with_the_usual_ones(lane: ObservationLane) -> None:
    with catalog_that(lambda path, headers: (404, {"Content-Type": "text/plain"}, "not here")) as record:
        checked = await lane.run(CheckCatalog(record))

    assert outcome(checked)[-1] == ("reachable", False)
    assert "/api/catalog" in checked.checks[-1].hint


async def test_a_servers_stack_does_not_get_through(lane: ObservationLane) -> None:
    with catalog_that(
        lambda path, headers: error(500, "RuntimeException", "boom\nat org.example.A(B.java:1)")
    ) as record:
        checked = await lane.run(CheckCatalog(record))

    assert outcome(checked)[-1] == ("reachable", False)
    assert "org.example" not in repr(checked)
    assert "boom" in checked.checks[-1].detail


async def test_a_catalog_that_forbids_deleting_files_is_told(lane: ObservationLane) -> None:
    def respond(path: str, headers: Mapping[str, str]) -> Answer:
        if "/config" in path:
            return ok({"defaults": {"s3.delete-enabled": "false"}, "overrides": {}})
        return ok({"namespaces": []})

    with catalog_that(respond) as record:
        checked = await lane.run(CheckCatalog(record))

    assert outcome(checked)[-1] == ("deletable", False)
