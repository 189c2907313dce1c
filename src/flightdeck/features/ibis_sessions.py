"""Where Ibis expressions run: DuckDB in this process, or Spark, started for one join and stopped after it.

Tables reach DuckDB as they are in memory. Spark reads and writes Parquet files in a scratch folder: no row passes
through Python one by one, and on a cluster the folder is one that all machines see.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from flightdeck.core.errors import ConfigError

LOOPBACK = "127.0.0.1"
ROW_GROUP = 500_000


class Session(Protocol):
    """An engine that holds tables and computes expressions over them."""

    def put(self, name: str, table: pa.Table) -> ir.Table:
        """Make a table known to the engine."""
        ...

    def fetch(self, expression: ir.Table) -> pa.Table:
        """Compute a table; its rows come in any order."""
        ...


@dataclass(frozen=True)
class SparkSettings:
    """How Spark is started.

    Parameters
    ----------
    master
        `local[2]` for two threads of this machine, or the address of a cluster.
    memory
        Memory of the driver, which does all the work of a local master.
    partitions
        Parts that a shuffle makes; Spark joins small ones.
    """

    master: str = "local[*]"
    memory: str = "2g"
    partitions: int = 16


@contextmanager
def duckdb_session() -> Iterator[Session]:
    """Give a DuckDB that lives in memory."""
    backend = ibis.duckdb.connect()
    try:
        yield _DuckDb(backend)
    finally:
        backend.disconnect()


@contextmanager
def spark_session(scratch: Path, settings: SparkSettings | None = None) -> Iterator[Session]:
    """Give a Spark of its own that is stopped at the end; no web page, no port but on the loopback for a local master.

    Parameters
    ----------
    scratch
        Folder for Parquet files and for what Spark spills.
    settings
        How it is started.

    Raises
    ------
    ConfigError
        If pyspark or Java is absent.
    """
    reason = why_no_spark()
    if reason:
        raise ConfigError(
            f"starting Spark: {reason}", next_step="run `make setup-scale` and install Java 17 (default-jre-headless)"
        )
    spark = _start(scratch, settings or SparkSettings())
    try:
        yield _Spark(spark, ibis.pyspark.connect(spark), scratch)
    finally:
        spark.stop()


def why_no_spark() -> str:
    """Return why Spark cannot be started here; empty if it can."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed"
    home = os.environ.get("JAVA_HOME")
    has_java = shutil.which("java") or (home and (Path(home) / "bin" / "java").exists())
    return "" if has_java else "there is no Java"


@dataclass(frozen=True)
class _DuckDb:
    backend: Any

    def put(self, name: str, table: pa.Table) -> ir.Table:
        self.backend.con.register(name, table)
        return self.backend.table(name)

    def fetch(self, expression: ir.Table) -> pa.Table:
        return expression.to_pyarrow()


@dataclass(frozen=True)
class _Spark:
    spark: Any
    backend: Any
    scratch: Path

    def put(self, name: str, table: pa.Table) -> ir.Table:
        folder = self.scratch / name
        folder.mkdir()
        pq.write_table(table, folder / "part.parquet", row_group_size=ROW_GROUP, coerce_timestamps="us")
        self.spark.read.parquet(str(folder)).createOrReplaceTempView(name)
        return self.backend.table(name)

    def fetch(self, expression: ir.Table) -> pa.Table:
        folder = self.scratch / "result"
        self.spark.sql(self.backend.compile(expression)).write.mode("overwrite").parquet(str(folder))
        return pq.read_table(folder)


def _start(scratch: Path, settings: SparkSettings) -> Any:
    from pyspark.sql import SparkSession

    conf = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.partitions),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.local.dir": str(scratch / "spill"),
        "spark.driver.memory": settings.memory,
        "spark.sql.autoBroadcastJoinThreshold": "-1",  # the driver would collect what it broadcasts
    }
    if settings.master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", LOOPBACK)
        conf |= {"spark.driver.host": LOOPBACK, "spark.driver.bindAddress": LOOPBACK}
    builder = SparkSession.builder.master(settings.master).appName("flightdeck")
    for name, value in conf.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark
