"""The settings of the control plane: where they come from, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.config import ControlPlaneConfig, StoreType
from control_plane.config_reference import reference
from control_plane.config_sources import ConfigurationError, read_config, shown_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.upper().startswith("FLOE_")]:
        monkeypatch.delenv(name)


def read(monkeypatch: pytest.MonkeyPatch, **environment: str) -> ControlPlaneConfig:
    import os

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_config(os.environ)


def test_without_any_setting_it_listens_on_this_machine_and_runs_its_own_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = read(monkeypatch)

    assert (config.grpc.address, config.executor_api.address) == ("127.0.0.1:9090", "127.0.0.1:9092")
    assert config.store.type is StoreType.EMBEDDED
    assert config.lease.rules().lease_ttl == timedelta(seconds=60)
    assert config.warnings() == []


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "floe.yaml"
    file.write_text(
        "lease:\n  ttl: PT30S\n  ack_within: PT2S\nexecutor_api:\n  max_executors: 3\nexecutor:\n  slots: 2\n"
    )

    config = read(monkeypatch, FLOE_CONFIG=str(file), FLOE_LEASE__TTL="PT45S")

    assert config.lease.ttl == timedelta(seconds=45)
    assert config.lease.ack_within == timedelta(seconds=2)
    assert config.executor_api.max_executors == 3
    assert config.lease.heartbeat == timedelta(seconds=5)


@pytest.mark.parametrize("name", ["FLOE_STORE_TYPE", "FLOE_STORE__TYPE"])
def test_the_store_type_has_its_old_name_and_its_new_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert read(monkeypatch, **{name: "MEMORY"}).store.type is StoreType.MEMORY


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("FLOE_LEASE__TTL", "60", "write ISO 8601, such as PT15S"),
        ("FLOE_LEASE__TTL", "PT1S", "FLOE_LEASE__TTL (lease.ttl)"),
        ("FLOE_LEASE__TTL", "PT11M", "FLOE_LEASE__TTL (lease.ttl)"),
        ("FLOE_LEASE__HEARTBEAT", "PT30S", "must be at most a third of ttl"),
        ("FLOE_LEASE__HARTBEAT", "PT3S", "FLOE_LEASE__HARTBEAT (lease.hartbeat): is not known"),
        ("FLOE_LAESE__TTL", "PT3S", "unknown settings in the environment: FLOE_LAESE__TTL"),
        ("FLOE_GRPC__ADDRESS", "0.0.0.0:9090", "callers are not identified yet"),
        ("FLOE_GRPC__ADDRESS", "10.1.2.3:9090", "callers are not identified yet"),
        ("FLOE_GRPC__ADDRESS", "9090", "is no address; write host:port"),
        ("FLOE_EXECUTOR_API__ADDRESS", "[::]:9092", "callers are not identified yet"),
        ("FLOE_STORE__TYPE", "postgres", "needs a dsn"),
        ("FLOE_STORE__TYPE", "sqlite", "FLOE_STORE__TYPE (store.type)"),
        ("FLOE_CAPACITY__LIMITS", '{"spark": 2}', "neither engine:NAME nor label:KEY=VALUE"),
        ("FLOE_CAPACITY__LIMITS", "spark=2", "written as JSON"),
        ("FLOE_CONFIG", "/does/not/exist.yaml", "/does/not/exist.yaml (FLOE_CONFIG) cannot be read"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(monkeypatch, **{name: value})

    assert complaint in str(refused.value)


@pytest.mark.parametrize("content", ["- a\n- b\n", "store: [\n", "store:\n  typ: memory\n", "unheard_of:\n  x: 1\n"])
def test_a_file_that_is_no_settings_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "floe.yaml"
    file.write_text(content)

    with pytest.raises(ConfigurationError):
        read(monkeypatch, FLOE_CONFIG=str(file))


def test_settings_of_the_other_programs_in_a_shared_environment_are_none_of_its_business(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = {
        "FLOE_EXECUTOR__SLOTS": "2",
        "FLOE_SPARK__MASTER": "local[2]",
        "FLOE_SECRETS_DIR": "/s",
        "FLOE_SERVER": "x",
    }

    assert read(monkeypatch, **others) == read(monkeypatch)


def test_no_secret_is_shown_nor_repeated_in_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = "postgresql://floe:hunter2@db/floe"

    shown = shown_settings(read(monkeypatch, FLOE_STORE__TYPE="postgres", FLOE_STORE__DSN=dsn))
    with pytest.raises(ConfigurationError) as refused:
        read(monkeypatch, FLOE_STORE__TYPE="memory", FLOE_STORE__DSN=dsn)

    assert shown["FLOE_STORE__DSN"] == "**********"
    assert "hunter2" not in str(refused.value) + repr(shown)


def test_a_lowered_floor_is_allowed_and_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read(monkeypatch, FLOE_GUARDS__SNAPSHOT_AGE_FLOOR="PT0S")

    assert config.guards.snapshot_age_floor == timedelta(0)
    assert any("snapshot_age_floor" in warning for warning in config.warnings())


def test_what_is_shown_can_be_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read(monkeypatch, FLOE_CAPACITY__LIMITS='{"engine:spark": 4}', FLOE_LEASE__LOCK_DELAY="PT1M30S")
    shown = {name: value for name, value in shown_settings(config).items() if value}

    assert read(monkeypatch, **shown) == config


def test_the_reference_is_what_the_settings_say() -> None:
    page = Path(__file__).parents[2] / "docs" / "configuration.md"

    assert page.read_text(encoding="utf-8") == reference(), "run `make gen`"
