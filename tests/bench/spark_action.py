"""The bare action: rewriteDataFiles by Iceberg's Java API in a Spark session, without any service around it.

`spark_action.py URI JARS TABLE` compacts one table and ends: what a cron job with spark-submit does. With `-` for the
table it stays, reads one table a line, and answers with the seconds that each took: the same action in a warm session.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from pyspark.sql import SparkSession


def session(uri: str, jars: str) -> SparkSession:
    catalog = "spark.sql.catalog.bench"
    return (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", jars)
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "1g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config(catalog, "org.apache.iceberg.spark.SparkCatalog")
        .config(f"{catalog}.type", "rest")
        .config(f"{catalog}.uri", uri)
        .config(f"{catalog}.cache-enabled", "false")
        .getOrCreate()
    )


def compact(spark: SparkSession, table: str) -> float:
    java: Any = spark.sparkContext._jvm
    inner = spark._jsparkSession
    begun = time.perf_counter()
    java.org.apache.spark.sql.classic.SparkSession.setActiveSession(inner)
    loaded = java.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(inner, f"bench.{table}")
    actions = java.org.apache.iceberg.spark.actions.SparkActions.get(inner)
    actions.rewriteDataFiles(loaded).binPack().execute()
    return time.perf_counter() - begun


def main() -> None:
    uri, jars, table = sys.argv[1:]
    spark = session(uri, jars)
    spark.sql("SELECT 1").collect()
    if table != "-":
        compact(spark, table)
        return
    for line in sys.stdin:
        sys.stdout.write(f"seconds {compact(spark, line.strip()):.4f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
