"""The programs that `floe dev` runs: where they are found, and the settings that each is given."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from floe_client.cli.ports import LOOPBACK


class Refused(Exception):
    """`floe dev` cannot start here. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class DevSettings:
    """Where everything of one `floe dev` is, and where it answers."""

    directory: Path
    grpc_port: int
    executor_port: int
    catalog_port: int
    catalog_name: str
    slots: int
    driver_memory: str
    ready_file: Path | None = None

    @property
    def server(self) -> str:
        return f"{LOOPBACK}:{self.grpc_port}"

    @property
    def catalog_uri(self) -> str:
        return f"http://{LOOPBACK}:{self.catalog_port}"

    @property
    def warehouse(self) -> Path:
        return self.directory / "warehouse"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def ports(self) -> Mapping[str, int]:
        return {
            "--grpc-port": self.grpc_port,
            "--executor-port": self.executor_port,
            "--catalog-port": self.catalog_port,
        }


@dataclass(frozen=True, slots=True)
class Programs:
    """The commands of the three processes."""

    control_plane: list[str]
    executor: list[str]
    catalog: list[str]


def find_programs(settings: DevSettings) -> Programs:
    """The programs beside this one, else on the PATH."""
    control_plane, executor = _find("floe-control-plane"), _find("floe-executor")
    missing = [
        f"{name} (pip install 'floe[{extras}]')"
        for name, path, extras in (
            ("floe-control-plane", control_plane, "control-plane,embedded"),
            ("floe-executor", executor, "spark"),
        )
        if path is None
    ]
    if control_plane is None or executor is None:
        raise Refused(f"not installed here: {', '.join(missing)}")
    # The catalog belongs to the executor's installation, and is run by its interpreter.
    python = executor.with_name("python")
    catalog = [
        str(python) if python.exists() else sys.executable,
        *("-m", "executor.catalogs.rest_server"),
        *("--host", LOOPBACK, "--port", str(settings.catalog_port)),
        *("--warehouse", str(settings.warehouse), "--database", str(settings.directory / "catalog.sqlite")),
    ]
    return Programs([str(control_plane), "serve"], [str(executor), "serve"], catalog)


def control_plane_environment(settings: DevSettings) -> dict[str, str]:
    return {
        **os.environ,
        "FLOE_GRPC__ADDRESS": settings.server,
        "FLOE_EXECUTOR_API__ADDRESS": f"{LOOPBACK}:{settings.executor_port}",
        "FLOE_STORE__TYPE": "embedded",
        "FLOE_STORE__DIRECTORY": str(settings.directory / "postgres"),
        # Here snapshots are made to be expired at once; elsewhere an hour protects readers.
        "FLOE_GUARDS__SNAPSHOT_AGE_FLOOR": "PT0S",
    }


def executor_environment(settings: DevSettings) -> dict[str, str]:
    return {
        **os.environ,
        "FLOE_EXECUTOR__CONTROL_PLANE": f"{LOOPBACK}:{settings.executor_port}",
        "FLOE_EXECUTOR__DISPLAY_NAME": "dev",
        "FLOE_EXECUTOR__SLOTS": str(settings.slots),
        # ^C at a laptop is not a rolling update: what runs is given a moment, then it is stopped.
        "FLOE_EXECUTOR__SHUTDOWN_GRACE": "PT5S",
        "FLOE_EXECUTOR__STATE_DIRECTORY": str(settings.directory / "executor"),
        "FLOE_SPARK__MASTER": "local[*]",
        "FLOE_SPARK__DRIVER_MEMORY": settings.driver_memory,
    }


def _find(name: str) -> Path | None:
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return beside
    found = shutil.which(name)
    return Path(found) if found else None
