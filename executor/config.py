"""Every setting of an executor: the environment (`FLOE_...`), then a file (`FLOE_CONFIG`), then the defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_settings import NoDecode, SettingsConfigDict

from shared.runtime.settings import DELIMITER, PREFIX, ProcessSettings, read_settings
from shared.telemetry.config import TelemetryConfig
from shared.vocabulary.programs import CONTROL_PLANE_WORDS, OTHER_WORDS
from shared.vocabulary.values import IsoTimedelta, loopback_address

_SENSITIVE: Final = re.compile(r"secret|password|token|credential|access.?key", re.IGNORECASE)


def _comma_separated(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _masked(conf: Mapping[str, str]) -> dict[str, str]:
    return {key: "**********" if _SENSITIVE.search(key) else value for key, value in conf.items()}


Address = Annotated[str, AfterValidator(loopback_address)]
Addresses = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_comma_separated), Field(min_length=1)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)]
Directory = Annotated[Path, AfterValidator(Path.expanduser)]


class Section(BaseModel):
    """One part of the settings. What it does not know, it refuses."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class ProcessConfig(Section):
    """This process, whatever its engine."""

    control_plane: Addresses = Field(
        default=("127.0.0.1:9092",),
        description="host:port of one or more replicas' executor API, separated by commas. Loopback only, until "
        "executors can be identified.",
    )
    slots: int = Field(default=2, ge=1, le=256, description="Operations at a time that rewrite data.")
    metadata_slots: int = Field(
        default=1,
        ge=0,
        le=256,
        description="Operations at a time that rewrite none (expiry, manifests, orphan files, statistics), beside "
        "`slots`: they do not wait behind compactions. 0: they take `slots`.",
    )
    observation_slots: int = Field(
        default=2, ge=1, le=64, description="Looks at catalogs and tables at a time, each in a process of its own."
    )
    display_name: str = Field(
        default="", max_length=100, description="What people know this executor by; empty: the host's name."
    )
    state_directory: Directory = Field(
        default=Path("~/.local/share/floe/executor"),
        description="Where results wait for their answer and lists of files for their deletion. One executor each.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description='What policies and limits may ask for, as JSON: {"zone": "a"}.'
    )
    catalogs: Names = Field(
        default=(), description="Catalogs that this executor may work on, separated by commas; empty: any."
    )
    secrets_directory: Directory | None = Field(
        default=None,
        description="A directory with one file a secret. Secrets are looked for in the environment first. "
        "FLOE_SECRETS_DIR does the same.",
    )
    shutdown_grace: IsoTimedelta = Field(
        default=timedelta(seconds=30), description="How long running operations may go on when the executor is stopped."
    )
    observation_lane: str = Field(
        default="local", description="`local`, or the dotted path `package.module:factory` of another one."
    )


class SparkConfig(Section):
    """The Spark engine."""

    master: str = Field(default="local[2]", description="local[n], spark://…, yarn or k8s://….")
    driver_memory: str = Field(default="1g", pattern=r"^[1-9][0-9]*[kmgKMG]$", description="Heap of the driver.")
    host: str = Field(default="127.0.0.1", description="Where the driver listens; a cluster's workers must reach it.")
    deletion_batch: int = Field(
        default=500, ge=1, le=100_000, description="Files deleted between two checks of the lease."
    )
    conf: Annotated[dict[str, str], PlainSerializer(_masked, when_used="json")] = Field(
        default_factory=dict, description='Further Spark configuration, as JSON: {"spark.executor.memory": "2g"}.'
    )


class ObservationConfig(Section):
    """Looking at tables."""

    max_scan_bytes: int = Field(
        default=256 * 1024**2,
        ge=0,
        description="An inspection reads every manifest entry, unless the manifests that it has not read before have "
        "more bytes than this: then it reads a sample, and says so.",
    )
    sample_limit: int = Field(
        default=10_000, ge=1, le=10_000_000, description="How many manifest entries a sample has at most."
    )
    manifest_cache_bytes: int = Field(
        default=512 * 1024**2,
        ge=0,
        description="How much of the state directory keeps what was learnt from manifests; 0: nothing is kept.",
    )


class ExecutorConfig(ProcessSettings):
    """FLOE_EXECUTOR__SLOTS sets `executor.slots`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, frozen=True, extra="forbid", validate_default=True
    )

    executor: ProcessConfig = ProcessConfig()
    engine_type: str = Field(
        default="spark", description="`spark`, or the dotted path `package.module:factory` of another engine."
    )
    spark: SparkConfig = SparkConfig()
    observation: ObservationConfig = ObservationConfig()
    telemetry: TelemetryConfig = TelemetryConfig()


def read_config(environment: Mapping[str, str]) -> ExecutorConfig:
    """The settings of this process. The control plane may share its environment and its file: its names are skipped."""
    return read_settings(
        ExecutorConfig,
        environment,
        # `secret` and `secrets`: the values of secrets and FLOE_SECRETS_DIR, which are read where they are used.
        foreign=CONTROL_PLANE_WORDS | OTHER_WORDS | {"secret", "secrets"},
        aliases={"FLOE_SECRETS_DIR": "FLOE_EXECUTOR__SECRETS_DIRECTORY"},
    )
