"""The executor's settings."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.config import ControlPlaneConfig
from executor.config import ExecutorConfig, read_config
from shared.runtime.settings import ConfigurationError, shown_settings
from shared.vocabulary.programs import CONTROL_PLANE_SECTIONS, EXECUTOR_SECTIONS


def read(monkeypatch: pytest.MonkeyPatch, **environment: str) -> ExecutorConfig:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_config(environment)


def test_nothing_has_to_be_set() -> None:
    config = read_config({})

    assert config.executor.control_plane == ("127.0.0.1:9092",)
    assert (config.executor.slots, config.executor.observation_slots) == (2, 2)
    assert config.engine_type == "spark"


def test_the_environment_sets_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read(
        monkeypatch,
        FLOE_EXECUTOR__CONTROL_PLANE="127.0.0.1:9092, [::1]:9093",
        FLOE_EXECUTOR__CATALOGS="lake,warehouse",
        FLOE_EXECUTOR__LABELS='{"zone": "a"}',
        FLOE_EXECUTOR__SHUTDOWN_GRACE="PT5M",
        FLOE_SPARK__MASTER="local[4]",
    )

    assert config.executor.control_plane == ("127.0.0.1:9092", "[::1]:9093")
    assert config.executor.catalogs == ("lake", "warehouse")
    assert config.executor.labels == {"zone": "a"}
    assert config.executor.shutdown_grace == timedelta(minutes=5)
    assert config.spark.master == "local[4]"


def test_a_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "floe.yaml"
    file.write_text("executor:\n  slots: 3\n  observation_slots: 4\nstore:\n  type: memory\n")

    config = read(monkeypatch, FLOE_CONFIG=str(file), FLOE_EXECUTOR__SLOTS="5")

    assert (config.executor.slots, config.executor.observation_slots) == (5, 4)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("FLOE_EXECUTR__SLOTS", "1", "FLOE_EXECUTR__SLOTS"),
        ("FLOE_EXECUTOR__SLOT", "1", "FLOE_EXECUTOR__SLOT .*not known"),
        ("FLOE_EXECUTOR__SLOTS", "0", "FLOE_EXECUTOR__SLOTS"),
        ("FLOE_EXECUTOR__CONTROL_PLANE", "10.0.0.1:9092", "can be reached from other machines"),
        ("FLOE_EXECUTOR__CONTROL_PLANE", "", "FLOE_EXECUTOR__CONTROL_PLANE"),
        ("FLOE_EXECUTOR__SHUTDOWN_GRACE", "15", "ISO 8601"),
        ("FLOE_SPARK__DRIVER_MEMORY", "lots", "FLOE_SPARK__DRIVER_MEMORY"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        read(monkeypatch, **{name: value})


def test_the_other_programs_of_a_shared_environment_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"FLOE_STORE__DSN": "x", "FLOE_EXECUTOR_API__ADDRESS": "x", "FLOE_SECRET_A": "b", "FLOE_SERVER": "c"}

    assert read(monkeypatch, **environment) == read_config({})


def test_the_planes_know_each_other_by_all_their_sections() -> None:
    assert set(ControlPlaneConfig.model_fields) == CONTROL_PLANE_SECTIONS | {"telemetry"}
    assert set(ExecutorConfig.model_fields) == EXECUTOR_SECTIONS | {"telemetry"}


def test_secrets_in_the_configuration_of_spark_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read(monkeypatch, FLOE_SPARK__CONF='{"spark.hadoop.fs.s3a.secret.key": "hush", "spark.a": "b"}')

    shown = shown_settings(config)["FLOE_SPARK__CONF"]

    assert "hush" not in shown
    assert '"spark.a": "b"' in shown
    # The engine gets what was set.
    assert config.spark.model_dump()["conf"]["spark.hadoop.fs.s3a.secret.key"] == "hush"
