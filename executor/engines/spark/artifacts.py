"""The jars that Spark and the development catalog need: pinned, fetched once into the user's cache, checked before use.

    python -m executor.engines.spark.artifacts

fetches all of them and shows progress. They come by Apache Ivy, which PySpark carries, from the repositories that Ivy
is set up for; where Ivy fails and Maven is installed, by Maven.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.engines.spark.java import Java, cache_directory, find_java
from executor.engines.spark.truststore import write_truststore
from executor.errors import ConfigurationError

Report = Callable[[str], None]

_TIMEOUT: Final = 1200.0
_REPORT_INTERVAL: Final = 2.0
_DISTRUSTED: Final = "PKIX path building failed"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One jar of one version, known by its content."""

    group: str
    name: str
    version: str
    size: int
    sha256: str

    @property
    def coordinates(self) -> str:
        return f"{self.group}:{self.name}:{self.version}"

    @property
    def path(self) -> Path:
        return cache_directory() / "jars" / f"{self.name}-{self.version}.jar"


ICEBERG_RUNTIME: Final = Artifact(
    group="org.apache.iceberg",
    name="iceberg-spark-runtime-4.1_2.13",
    version="1.12.0",
    size=48_309_426,
    sha256="3123c3798af642dd537230923548e013ef41cc28b6626e5225808cf5670a0f82",
)
POSTGRESQL: Final = Artifact(
    group="org.postgresql",
    name="postgresql",
    version="42.7.8",
    size=1_116_727,
    sha256="2a32a9dcbc42d67a50ad3a0de5efd102c8d2be46720045f2cbd6689f160ab7c7",
)
REST_CATALOG: Final = Artifact(
    group="org.apache.iceberg",
    name="iceberg-open-api",
    version="1.10.1",
    size=211_884_914,
    sha256="09e6aef58984eaa58bf1e1bc5193ad023e929c6bfd38c82db7b83ffe825af724",
)
ARTIFACTS: Final = (ICEBERG_RUNTIME, POSTGRESQL, REST_CATALOG)


def spark_jars() -> Sequence[Path]:
    """What every Spark session has on its class path: Iceberg, and the driver of JDBC catalogs."""
    return [fetch(ICEBERG_RUNTIME), fetch(POSTGRESQL)]


def postgresql_jar() -> Path:
    return fetch(POSTGRESQL)


def rest_catalog_jar() -> Path:
    """Iceberg's reference REST catalog, for development and tests only."""
    return fetch(REST_CATALOG)


def fetch_all(report: Report) -> None:
    for artifact in ARTIFACTS:
        fetch(artifact, report)


def fetch(artifact: Artifact, report: Report = lambda line: None) -> Path:
    """The artifact's verified file, downloaded first where the cache lacks it. Processes that want the same one wait.

    Raises `ConfigurationError` when it cannot be had, with what to do.
    """
    if _is_intact(artifact):
        return artifact.path
    artifact.path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(artifact.path.with_suffix(".lock")):
        if not _is_intact(artifact):
            if artifact.path.exists():
                report(f"{artifact.path} is damaged: fetching it again")
            _download(artifact, report)
    return artifact.path


def _is_intact(artifact: Artifact, path: Path | None = None) -> bool:
    path = path or artifact.path
    try:
        if path.stat().st_size != artifact.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256
    except FileNotFoundError:
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(artifact: Artifact, report: Report) -> None:
    """Download beside the cache, verify, and only then put it in its place, in one step."""
    java = find_java()
    failures: list[str] = []
    with tempfile.TemporaryDirectory(dir=artifact.path.parent, prefix=".fetching-") as folder:
        scratch = Path(folder)
        for command in _downloaders(artifact, java, scratch, failures):
            report(f"fetching {artifact.coordinates} ({artifact.size / 1e6:.0f} MB) with {command.name}")
            output = _run(command, artifact, scratch, report)
            jar = scratch / "out" / artifact.path.name
            if _is_intact(artifact, jar):
                os.replace(jar, artifact.path)
                report(f"{artifact.coordinates} is at {artifact.path}")
                return
            failures.append(_failure(command, jar, output))
    raise ConfigurationError(
        f"{artifact.coordinates} is missing and could not be fetched: {'; '.join(failures)}. "
        f"With a network, try again; without one, copy the jar to {artifact.path} (SHA-256 {artifact.sha256})"
    )


@dataclass(frozen=True, slots=True)
class _Downloader:
    name: str
    command: Sequence[str]


def _downloaders(artifact: Artifact, java: Java, scratch: Path, failures: Sequence[str]) -> Iterator[_Downloader]:
    """The ways to get it, in order; a later one is tried only after the failures of those before it."""
    ivy = _pyspark_jar("ivy-")
    yield _Downloader("Ivy", _ivy(artifact, java, ivy, scratch))
    if _DISTRUSTED in failures[-1]:
        # A machine behind a proxy trusts certificates that a Java of its own does not know.
        trusting = write_truststore(java, gateway_jar=_pyspark_jar("py4j-"), path=scratch / "truststore.p12")
        if trusting:
            yield _Downloader("Ivy and this machine's certificates", _ivy(artifact, java, ivy, scratch, *trusting))
    if maven := shutil.which("mvn"):
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
        target = [f"-Dartifact={artifact.coordinates}", f"-DoutputDirectory={scratch / 'out'}"]
        yield _Downloader("Maven", [maven, "-B", "-q", goal, *target])


def _ivy(artifact: Artifact, java: Java, jar: Path, scratch: Path, *options: str) -> Sequence[str]:
    settings = Path.home() / ".ivy2" / "ivysettings.xml"
    return [
        str(java.executable),
        *options,
        *("-cp", str(jar), "org.apache.ivy.Main", "-cache", str(scratch / "ivy")),
        *(("-settings", str(settings)) if settings.exists() else ()),
        *("-confs", "default", "-notransitive", "-warn"),
        *("-dependency", artifact.group, artifact.name, artifact.version),
        *("-retrieve", str(scratch / "out" / "[artifact]-[revision].[ext]")),
    ]


def _pyspark_jar(name: str) -> Path:
    """Found without importing PySpark, which takes a second and is not needed here."""
    spec = importlib.util.find_spec("pyspark")
    jars = sorted((Path(spec.origin).parent / "jars").glob(f"{name}*.jar")) if spec and spec.origin else []
    if not jars:
        raise ConfigurationError(f"fetching Spark's jars takes the {name} jar inside PySpark: install floe[spark]")
    return jars[-1]


def _run(downloader: _Downloader, artifact: Artifact, scratch: Path, report: Report) -> str:
    """Run it to its end, reporting how much has arrived; returns what it said."""
    deadline = time.monotonic() + _TIMEOUT
    with (scratch / "output").open("w+b") as output:
        process = subprocess.Popen(
            downloader.command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=scratch
        )
        try:
            while time.monotonic() < deadline:
                try:
                    process.wait(_REPORT_INTERVAL)
                    break
                except subprocess.TimeoutExpired:
                    report(f"  {_arrived(scratch) / 1e6:.0f} of {artifact.size / 1e6:.0f} MB")
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        return output.read().decode(errors="replace")


def _arrived(scratch: Path) -> int:
    """The size of the largest file so far: the jar itself, under whichever name the downloader gives it meanwhile."""
    sizes = [0]
    for path in scratch.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return max(sizes)


def _failure(downloader: _Downloader, jar: Path, output: str) -> str:
    if jar.exists():
        with jar.open("rb") as file:
            return f"what {downloader.name} brought has SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    told = [line.strip() for line in output.splitlines() if "error" in line.lower() or "Exception" in line]
    # The last complaint is the most specific one that both tools make.
    return f"{downloader.name} said: {told[-1][:300] if told else output.strip()[-300:] or 'nothing'}"


def main() -> int:
    def show(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    try:
        fetch_all(show)
        java = find_java()
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    show(f"Spark will run on Java {java.major} at {java.home}; its jars are in {ICEBERG_RUNTIME.path.parent}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
