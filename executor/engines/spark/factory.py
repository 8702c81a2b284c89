"""Builds the Spark engine from an executor's settings."""

from __future__ import annotations

import os
from functools import partial

from executor.catalogs import secrets
from executor.engines.registry import Setup
from executor.engines.spark.artifacts import spark_jars
from executor.engines.spark.engine import SparkEngine
from executor.engines.spark.java import find_java
from executor.engines.spark.session import SparkSettings


def create(setup: Setup) -> SparkEngine:
    """The engine, not started. Finds Java and the jars, which it fetches the first time."""
    settings = SparkSettings(state_directory=setup.state_directory / "spark", slots=setup.slots, **setup.options)
    resolve = partial(secrets.resolve, environ=os.environ, directory=setup.secrets_directory)
    return SparkEngine(settings, java_home=find_java().home, jars=spark_jars(), resolve=resolve)
