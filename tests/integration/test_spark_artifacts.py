"""Jars are fetched by the real Ivy, here from a repository in a folder, and nothing unverified is ever used."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from executor.engines.spark.artifacts import Artifact, fetch
from executor.errors import ConfigurationError

_CONTENT = b"not really a jar, but Ivy does not mind" * 100

_IVY_SETTINGS = """
<ivysettings>
  <settings defaultResolver="folder"/>
  <resolvers>
    <filesystem name="folder">
      <artifact pattern="{folder}/[artifact]-[revision].[ext]"/>
    </filesystem>
  </resolvers>
</ivysettings>
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of one jar, which Ivy is set up for in this test's home."""

    folder: Path

    def publish(self, content: bytes) -> None:
        (self.folder / "floe-test-1.0.jar").write_bytes(content)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    settings = tmp_path / ".ivy2" / "ivysettings.xml"
    settings.parent.mkdir()
    settings.write_text(_IVY_SETTINGS.format(folder=tmp_path / "repository"))
    (tmp_path / "repository").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("sh", "java"):
        if found := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(os.path.realpath(found))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # Without Maven, which would ask the network for what Ivy did not bring.
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return Repository(tmp_path / "repository")


@pytest.fixture
def artifact() -> Artifact:
    return Artifact(
        group="test",
        name="floe-test",
        version="1.0",
        size=len(_CONTENT),
        sha256=hashlib.sha256(_CONTENT).hexdigest(),
    )


def test_a_jar_is_fetched_once_and_then_taken_from_the_cache(repository: Repository, artifact: Artifact) -> None:
    repository.publish(_CONTENT)
    reports: list[str] = []

    first = fetch(artifact, reports.append)
    told = len(reports)
    second = fetch(artifact, reports.append)

    assert first == second == artifact.path
    assert first.read_bytes() == _CONTENT
    assert told > 0
    assert len(reports) == told


def test_a_damaged_jar_in_the_cache_is_fetched_again(repository: Repository, artifact: Artifact) -> None:
    repository.publish(_CONTENT)
    artifact.path.parent.mkdir(parents=True)
    artifact.path.write_bytes(_CONTENT[:-1] + b"!")

    assert fetch(artifact).read_bytes() == _CONTENT


def test_a_jar_of_another_content_is_refused_and_not_kept(repository: Repository, artifact: Artifact) -> None:
    repository.publish(_CONTENT[::-1])

    with pytest.raises(ConfigurationError, match=hashlib.sha256(_CONTENT[::-1]).hexdigest()):
        fetch(artifact)

    assert not artifact.path.exists()


def test_a_jar_that_cannot_be_had_is_named_with_its_place_and_checksum(
    repository: Repository, artifact: Artifact
) -> None:
    missing = replace(artifact, name="floe-missing")

    with pytest.raises(ConfigurationError) as failure:
        fetch(missing)

    for fact in (missing.coordinates, str(missing.path), missing.sha256, "Ivy said: "):
        assert fact in str(failure.value)
