"""Which Java is found: the machine's where Spark runs on it, else the wheel's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from executor.engines.spark.java import SUPPORTED, find_java


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_java_that_is_found_runs_and_is_one_that_spark_runs_on() -> None:
    java = find_java()

    assert java.major in SUPPORTED
    assert java.executable == java.home / "bin" / "java"
    subprocess.run([java.executable, "-version"], check=True, capture_output=True)


def test_the_wheels_java_starts_with_the_option_that_sparks_launcher_adds() -> None:
    java = find_java(hidden=True)

    command = [
        str(java.executable),
        "--add-modules=jdk.incubator.vector",
        "-Dkept=a b",
        "-XshowSettings:properties",
        "-version",
    ]
    started = subprocess.run(command, check=True, capture_output=True, text=True)

    assert java.major == 21
    assert "kept = a b" in started.stderr


def test_a_java_that_spark_does_not_run_on_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_java(tmp_path / "jdk", home=tmp_path / "jdk", major="25")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

    assert find_java().major in SUPPORTED


def test_java_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_java(tmp_path / "jdk", home=tmp_path / "jdk", major="17")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

    assert find_java().home == tmp_path / "jdk"


def _pretend_java(folder: Path, *, home: Path, major: str) -> None:
    executable = folder / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(
        f"#!/bin/sh\necho '    java.home = {home}' >&2\necho '    java.specification.version = {major}' >&2\n"
    )
    executable.chmod(0o755)
