"""A local Iceberg REST catalog for development and tests: Iceberg's own REST servlet on a JDBC catalog, on a loopback
address.

It runs in a JVM of its own, driven over py4j because Iceberg's ready-made `RESTCatalogServer` listens on every
interface. The catalog's rows lie in an SQLite file, written through one connection (SQLite answers BUSY to rivals),
or in PostgreSQL, which takes concurrent writers. The JVM ends with this process however that ends, and this process
with its parent.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
from py4j.protocol import Py4JError, Py4JJavaError

from executor.errors import ConfigurationError
from executor.lifetime import end_with_parent

JDBC_PASSWORD_VARIABLE = "FLOE_REST_CATALOG_JDBC_PASSWORD"

_STOP_SECONDS = 10
_JAVA_OPTIONS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


@dataclass(frozen=True, slots=True)
class RestCatalogSettings:
    """Where the server listens, and where the catalog keeps its tables (`warehouse`) and its rows (`database`, or
    `jdbc_uri`)."""

    warehouse: Path
    database: Path | None = None
    jdbc_uri: str | None = None
    jdbc_user: str | None = None
    jdbc_password: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        if not ipaddress.ip_address(self.host).is_loopback:
            raise ConfigurationError(
                f"the development catalog has no access control: {self.host} must be a loopback address"
            )
        if (self.database is None) == (self.jdbc_uri is None):
            raise ConfigurationError("the development catalog needs either a database file or a JDBC URI")
        if self.jdbc_uri is not None and not self.jdbc_uri.startswith("jdbc:postgresql:"):
            raise ConfigurationError("the development catalog's JDBC URI must begin with jdbc:postgresql:")

    def catalog_properties(self) -> Mapping[str, str]:
        """What Iceberg's `JdbcCatalog` is initialised with."""
        properties = {
            "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            "warehouse": self.warehouse.absolute().as_uri(),
            "jdbc.schema-version": "V1",
            "jdbc.strict-mode": "true",
        }
        if self.jdbc_uri is None:
            assert self.database is not None
            return {**properties, "uri": f"jdbc:sqlite:{self.database.absolute()}?busy_timeout=30000", "clients": "1"}
        properties |= {"uri": self.jdbc_uri, "clients": "8"}
        if self.jdbc_user is not None:
            properties["jdbc.user"] = self.jdbc_user
        if self.jdbc_password is not None:
            properties["jdbc.password"] = self.jdbc_password
        return properties


class RestCatalogServer:
    """The running server. `close` ends the JVM, and may be repeated."""

    def __init__(self, settings: RestCatalogSettings, *, java: Path, classpath: Sequence[Path]) -> None:
        settings.warehouse.mkdir(parents=True, exist_ok=True)
        if settings.database is not None:
            settings.database.parent.mkdir(parents=True, exist_ok=True)
        port, token, self._process = launch_gateway(
            jarpath=str(_py4j_jar()),
            classpath=os.pathsep.join(map(str, classpath)),
            javaopts=list(_JAVA_OPTIONS),
            java_path=str(java),
            # The JVM reads the other end of its standard input: it ends with us, a kill -9 included.
            die_on_exit=True,
            enable_auth=True,
            redirect_stderr=sys.stderr.fileno(),
            return_proc=True,
        )
        self._gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auth_token=token))
        try:
            self.uri = self._start(settings)
        except BaseException:
            self.close()
            raise

    @property
    def process_id(self) -> int:
        """The JVM's process id."""
        return int(self._process.pid)

    def wait(self) -> int:
        """Block until the JVM has ended."""
        return int(self._process.wait())

    def close(self) -> None:
        with contextlib.suppress(Py4JError, OSError):
            self._gateway.shutdown()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self, settings: RestCatalogSettings) -> str:
        # Any: py4j's view of the JVM has no types.
        jvm: Any = self._gateway.jvm
        properties = jvm.java.util.HashMap()
        for key, value in settings.catalog_properties().items():
            properties.put(key, value)
        try:
            catalog = jvm.org.apache.iceberg.CatalogUtil.buildIcebergCatalog(
                "rest", properties, jvm.org.apache.hadoop.conf.Configuration()
            )
            servlet = jvm.org.apache.iceberg.rest.RESTCatalogServlet(
                jvm.org.apache.iceberg.rest.RESTCatalogAdapter(catalog)
            )
            context = jvm.org.eclipse.jetty.servlet.ServletContextHandler(0)
            context.addServlet(jvm.org.eclipse.jetty.servlet.ServletHolder(servlet), "/*")
            server = jvm.org.eclipse.jetty.server.Server(jvm.java.net.InetSocketAddress(settings.host, settings.port))
            server.setHandler(context)
            server.start()
        except Py4JJavaError as failure:
            # The first line says what; the rest is a Java stack.
            raise ConfigurationError(f"the development catalog did not start: {_root_message(failure)}") from None
        port = server.getConnectors()[0].getLocalPort()
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        return f"http://{host}:{port}"


def _root_message(failure: Py4JJavaError) -> str:
    cause: Any = failure.java_exception
    while cause.getCause() is not None:
        cause = cause.getCause()
    return str(cause.toString()).splitlines()[0][:300]


def _py4j_jar() -> Path:
    """The Java half of py4j, of the same version as the Python half: PySpark ships both. Found without importing
    PySpark."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ConfigurationError("the development catalog needs py4j's jar from PySpark: install floe[spark]")
    jars = sorted(Path(spec.origin).parent.glob("jars/py4j-*.jar"))
    if not jars:
        raise ConfigurationError(f"no py4j jar in {Path(spec.origin).parent / 'jars'}: install PySpark anew")
    return jars[-1]


def _classpath(settings: RestCatalogSettings) -> Sequence[Path]:
    from executor.engines.spark.artifacts import postgresql_jar, rest_catalog_jar

    return [rest_catalog_jar()] if settings.jdbc_uri is None else [rest_catalog_jar(), postgresql_jar()]


def _java() -> Path:
    from executor.engines.spark.java import find_java

    return find_java().executable


def _end_with_standard_input(stop: threading.Event) -> None:
    """A parent that gave us a pipe for standard input ends us by closing it, on purpose or by dying."""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop.set()

    threading.Thread(target=watch, name="standard-input", daemon=True).start()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m executor.catalogs.rest_server", description="A local Iceberg REST catalog.")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--warehouse", type=Path, required=True, help="directory of the tables")
    parser.add_argument("--database", type=Path, help="SQLite file of the catalog's rows")
    parser.add_argument("--jdbc-uri", help="jdbc:postgresql://… instead of --database")
    parser.add_argument("--jdbc-user", help=f"its user; the password is read from {JDBC_PASSWORD_VARIABLE}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT, the end of standard input or the parent's death; one JSON line says when and where
    it is ready."""
    parent = os.getppid()
    given = _parser().parse_args(arguments)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    end_with_parent(parent, signal.SIGTERM)
    _end_with_standard_input(stop)

    try:
        settings = RestCatalogSettings(
            warehouse=given.warehouse,
            database=given.database,
            jdbc_uri=given.jdbc_uri,
            jdbc_user=given.jdbc_user,
            jdbc_password=os.environ.get(JDBC_PASSWORD_VARIABLE),
            host=given.host,
            port=given.port,
        )
        server = RestCatalogServer(settings, java=_java(), classpath=_classpath(settings))
    except (ConfigurationError, ValueError) as failure:
        sys.stderr.write(f"{failure}\n")
        return 2

    def watch_jvm() -> None:
        server.wait()
        stop.set()

    threading.Thread(target=watch_jvm, name="jvm", daemon=True).start()
    sys.stdout.write(json.dumps({"uri": server.uri, "pid": os.getpid(), "jvm": server.process_id}) + "\n")
    sys.stdout.flush()
    stop.wait()
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
