"""One warm Spark session per process, and how a thread of this process enters it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from executor.engines.spark.jvm import JVM_ERRORS, JavaObject, Jvm, launch
from executor.errors import ConfigurationError

_ROWS_AT_ONCE: Final = 10_000
_LOG_CONFIGURATION: Final = Path(__file__).with_name("log4j2.properties")


@dataclass(frozen=True, slots=True, kw_only=True)
class SparkSettings:
    """How the driver is started. `conf` adds to, or overrides, what is set here; it never holds a catalog."""

    state_directory: Path
    """Where lists of files to delete are kept until they are deleted."""
    master: str = "local[*]"
    driver_memory: str = "1g"
    slots: int = 2
    host: str = "127.0.0.1"
    """The address that the driver serves its workers on; a cluster needs one that they reach."""
    log_level: str = "warn"
    deletion_batch: int = 500
    """Files deleted between two checks of the lease."""
    conf: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.slots < 1 or self.deletion_batch < 1:
            raise ConfigurationError("the Spark engine needs at least 1 slot and a deletion batch of at least 1 file")


@dataclass(slots=True)
class Session:
    """The session and its JVM."""

    spark: SparkSession
    jvm: Jvm

    @property
    def context(self) -> SparkContext:
        return self.spark.sparkContext

    @property
    def java(self) -> JavaObject:
        """The root of all Java packages."""
        return self.jvm.java

    @property
    def java_session(self) -> JavaObject:
        return self.spark._jsparkSession

    @property
    def java_context(self) -> JavaObject:
        """Scala's SparkContext, which knows more than Python's."""
        return self.context._jsc.sc()

    def enter_thread(self) -> None:
        """Make this the active session of the calling thread: Iceberg's actions look it up, each thread has its own.

        An interrupt that came when nothing ran is forgotten, or it would end the next thing that does.
        """
        self.java.java.lang.Thread.interrupted()
        self.java.org.apache.spark.sql.classic.SparkSession.setActiveSession(self.java_session)

    def jobs_of(self, tag: str) -> Sequence[int]:
        """The ids of the jobs, ended ones too, that carry the tag."""
        return sorted(self.java_context.statusTracker().getJobIdsForTag(tag))

    def active_jobs_of(self, tag: str) -> Sequence[int]:
        """The ids of the jobs that carry the tag and have not ended."""
        active = set(self.java_context.statusTracker().getActiveJobIds())
        return [job for job in self.jobs_of(tag) if job in active]

    def strings(self, values: Sequence[str]) -> JavaObject:
        """A Java array of strings."""
        array = self.jvm.gateway.new_array(self.java.java.lang.String, len(values))
        for position, value in enumerate(values):
            array[position] = value
        return array

    def rows(self, dataset: JavaObject) -> Iterator[Mapping[str, Any]]:
        """The rows of a Java Dataset, NULLs left out; as JSON in large pieces, since each call takes a while."""
        guava = self.java.org.apache.iceberg.relocated.com.google.common.collect
        pieces = guava.Iterators.partition(dataset.toJSON().toLocalIterator(), _ROWS_AT_ONCE)
        while pieces.hasNext():
            for line in self.java.java.lang.String.join("\n", pieces.next()).split("\n"):
                yield json.loads(line)

    def stop(self) -> None:
        """End the session and its JVM. May be repeated."""
        context = self.context
        if self.jvm.process.poll() is not None:
            # Nobody is there to be told; what Python holds of the context is still let go.
            context._jsc = None
        try:
            with contextlib.suppress(*JVM_ERRORS):
                context.stop()
        finally:
            self.jvm.stop()
            _forget_session()


def open_session(settings: SparkSettings, *, java_home: Path, jars: Sequence[Path]) -> Session:
    """Start the JVM, open the session and warm it up. Raises `ConfigurationError` with what to do."""
    if missing := [jar for jar in jars if not jar.is_file()]:
        raise ConfigurationError(f"the jar {missing[0]} is not there: fetch Spark's jars again")
    jvm = launch(java_home=java_home, host=settings.host, conf=_configuration(settings, jars))
    try:
        # The gateway is ours, so the JVM's own start-up configuration is the whole configuration.
        context = SparkContext(conf=SparkConf(_jvm=jvm.java), gateway=jvm.gateway)
        session = Session(spark=SparkSession(context), jvm=jvm)
        _warm_up(session)
    except BaseException:
        jvm.stop()
        _forget_session()
        raise
    return session


def _forget_session() -> None:
    """PySpark remembers its gateway and its session for the life of the process: a new JVM needs new ones."""
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = SparkSession._activeSession = None


def _configuration(settings: SparkSettings, jars: Sequence[Path]) -> Mapping[str, str]:
    jar_paths = [str(jar) for jar in jars]
    configuration = {
        "spark.app.name": "floe-executor",
        "spark.master": settings.master,
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.host": settings.host,
        "spark.driver.bindAddress": settings.host,
        # On the driver's own class path, where drivers of databases are found too.
        "spark.driver.extraClassPath": ":".join(jar_paths),
        "spark.driver.extraJavaOptions": (
            f"-Dlog4j2.configurationFile={_LOG_CONFIGURATION.as_uri()} "
            f"-Dfloe.spark.log.level={settings.log_level} -Djava.awt.headless=true -Duser.timezone=UTC"
        ),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Else the start of a task that follows its job's within 100 ms is not seen before the task's end.
        "spark.ui.liveUpdate.period": "0",
        "spark.scheduler.mode": "FAIR",
        "spark.sql.session.timeZone": "UTC",
        # Expiry joins lists of files: the default of 200 partitions is for other sizes.
        "spark.sql.shuffle.partitions": "8",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": str(settings.state_directory / "spark-warehouse"),
    }
    if not settings.master.startswith("local"):
        configuration["spark.jars"] = ",".join(jar_paths)
    return {**configuration, **settings.conf}


def _warm_up(session: Session) -> None:
    """Load the classes that the first operation would wait for: SQL, a job, Iceberg."""
    session.enter_thread()
    # A name that resolves as a package is a class that is not there.
    if not callable(session.java.org.apache.iceberg.spark.actions.SparkActions.get):
        raise ConfigurationError("the jars hold no Iceberg runtime for Spark: fetch Spark's jars again")
    session.spark.sql("SELECT id % 3, count(*) FROM range(0, 10, 1, 2) GROUP BY 1").count()
