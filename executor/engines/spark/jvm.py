"""The driver's JVM: a child process on a leash, and the py4j gateway into it."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyspark
from py4j.protocol import Py4JError
from pyspark.java_gateway import launch_gateway

import executor
from executor.errors import ConfigurationError

# py4j resolves names at run time: nothing about a Java object is known to a type checker.
JavaObject = Any

JVM_ERRORS: Final = (Py4JError, ConnectionError)
"""What a call into the JVM raises; a JVM that is gone refuses the connection."""

_STARTS_WITHIN: Final = 120.0
_STOPS_WITHIN: Final = 10.0
_GATEWAY_VARIABLES: Final = ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")


@dataclass(slots=True)
class Jvm:
    """A running driver JVM. It dies with this process, however that ends: the kernel kills it, and the end of its
    standard input makes it leave."""

    process: subprocess.Popen[bytes]
    gateway: JavaObject
    _released: threading.Event = field(repr=False)

    @property
    def java(self) -> JavaObject:
        """The root of all Java packages."""
        return self.gateway.jvm

    def stop(self) -> None:
        """End the process; kill it if it will not go. May be repeated."""
        with contextlib.suppress(Exception):
            self.gateway.shutdown()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(_STOPS_WITHIN)
        finally:
            self._released.set()


def launch(*, java_home: Path, host: str, conf: Mapping[str, str]) -> Jvm:
    """Start Spark's gateway server with this configuration and connect to it; what it serves, it serves on `host`.

    Raises `ConfigurationError`.
    """
    spark_home = Path(pyspark.__file__).parent
    released = threading.Event()
    with tempfile.TemporaryDirectory(prefix="floe-spark-") as directory:
        info = Path(directory) / "connection"
        arguments = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
        command = [str(spark_home / "bin" / "spark-submit"), *arguments, "pyspark-shell"]
        environment = {
            **os.environ,
            "JAVA_HOME": str(java_home),
            "SPARK_HOME": str(spark_home),
            "SPARK_LOCAL_IP": host,
            "SPARK_CONNECT_MODE": "0",
            "_PYSPARK_DRIVER_CONN_INFO_PATH": str(info),
        }
        process = _start(command, environment, released)
        try:
            port, secret = _connection(info, process)
            return Jvm(process=process, gateway=_connect(port, secret), _released=released)
        except BaseException:
            process.kill()
            process.wait()
            released.set()
            raise


def _start(command: list[str], environment: Mapping[str, str], released: threading.Event) -> subprocess.Popen[bytes]:
    """Start the program from a thread that lives until `released`: the leash is tied to the thread that forked."""
    started: list[subprocess.Popen[bytes]] = []
    failed: list[BaseException] = []
    ready = threading.Event()

    def hold() -> None:
        leash = [sys.executable, "-m", "executor.engines.spark.leash", str(os.getpid()), *command]
        try:
            # The leash needs this package wherever the program was started; Spark adds to the same variable.
            path = os.pathsep.join(
                filter(None, [str(Path(executor.__file__).parents[1]), os.environ.get("PYTHONPATH")])
            )
            started.append(
                subprocess.Popen(
                    leash,
                    stdin=subprocess.PIPE,
                    stdout=sys.__stderr__.fileno() if sys.__stderr__ is not None else subprocess.DEVNULL,
                    env={**environment, "PYTHONPATH": path},
                )
            )
        except BaseException as error:
            failed.append(error)
        ready.set()
        if started:
            released.wait()

    threading.Thread(target=hold, name="spark-jvm", daemon=True).start()
    ready.wait()
    if failed:
        raise ConfigurationError(f"Spark could not be started: {failed[0]}") from failed[0]
    return started[0]


def _connection(info: Path, process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Where the gateway server listens, as it wrote it."""
    waited = threading.Event()
    for _ in range(int(_STARTS_WITHIN / 0.05)):
        if info.is_file():
            break
        if process.poll() is not None:
            raise ConfigurationError(
                f"Spark's driver ended with code {process.returncode} at its start: see its message above; "
                "usual causes are a Java other than 17 or 21 and a driver memory larger than the machine's"
            )
        waited.wait(0.05)
    else:
        raise ConfigurationError(f"Spark's driver was not ready within {_STARTS_WITHIN:.0f} s")
    content = info.read_bytes()
    port, length = struct.unpack("!ii", content[:8])
    return port, content[8 : 8 + length].decode()


def _connect(port: int, secret: str) -> JavaObject:
    # PySpark finds a gateway that is already running by these variables, and by nothing else.
    os.environ.update(zip(_GATEWAY_VARIABLES, (str(port), secret), strict=True))
    try:
        # PySpark ships this function without annotations.
        return launch_gateway()  # type: ignore[no-untyped-call]
    finally:
        for variable in _GATEWAY_VARIABLES:
            os.environ.pop(variable, None)
