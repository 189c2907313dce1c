"""The offline engines by name. All execute the same declarations and give the same values (docs/features.md).

- `numpy`: in this process, everything in memory; the fastest where the events fit.
- `duckdb`: the same as portable Ibis expressions, in this process; spills to disk.
- `spark`: those very expressions on as many machines as there are.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ConfigError, nearest
from flightdeck.events.log import EventLog
from flightdeck.features.entity_frame import EntityFrame
from flightdeck.features.join import point_in_time_joins
from flightdeck.features.measures import column_of
from flightdeck.features.view import FeatureView, Windowed

if TYPE_CHECKING:
    from flightdeck.features.ibis_sessions import Session

NUMPY, DUCKDB, SPARK = ENGINES = ("numpy", "duckdb", "spark")
LAGS_US = (0, 60 * SECOND_US)
STD_TOLERANCE = 1e-9  # relative; every other feature is equal bit by bit
Floats = npt.NDArray[np.float64]


def join_features(
    views: Sequence[FeatureView],
    events: Mapping[str, pa.Table],
    frame: EntityFrame,
    engine: str = NUMPY,
    spark: Mapping[str, str | int] | None = None,
) -> dict[str, Floats]:
    """Return the features of `views` for each row of `frame`, computed by the engine that is named.

    Parameters
    ----------
    views, events, frame
        As `point_in_time_joins` takes them.
    engine
        One of `ENGINES`.
    spark
        `master`, `memory` and `partitions` of Spark, see `ibis_sessions.SparkSettings`.

    Returns
    -------
    dict of str to array
        float64 of shape `(n_rows,)` for each column of each view, in the row order of `frame`.

    Raises
    ------
    ConfigError
        If there is no such engine, or Spark cannot be started here.
    ContractViolation
        If a column is missing, of another type, or holds a value that cannot be added up exactly.
    """
    if engine == NUMPY:
        return point_in_time_joins(views, events, frame)
    if engine not in ENGINES:
        raise ConfigError(
            f"joining features: there is no engine {engine!r}{nearest(engine, ENGINES)}",
            next_step=f"use one of {', '.join(ENGINES)} (features.engine of conf/base/parameters_features.yml)",
        )
    from flightdeck.features.ibis_engine import join_with_ibis  # ibis takes half a second to import

    needed = {stream: _needed(views, stream, events[stream]) for view in views for stream in view.sources}
    are_unique = all(pc.count_distinct(t["event_id"]).as_py() == t.num_rows for t in needed.values())
    with _session(engine, spark or {}) as session:
        tables = {name: session.put(f"events_{name}", table) for name, table in needed.items()}
        requests = session.put("requests", _requests(views, frame))
        found = session.fetch(join_with_ibis(views, tables, requests, ids_are_unique=are_unique))
    return _in_row_order(found, [column for view in views for column in view.columns], len(frame))


def compare_engines(
    views: Sequence[FeatureView], log: EventLog, n_rows: int, engines: Sequence[str] = (NUMPY, DUCKDB), seed: int = 7
) -> pd.DataFrame:
    """Compute features of sampled requests by several engines and return where they differ from the first one.

    Parameters
    ----------
    views
        Declarations.
    log
        Event log; the requests name entities of its events, at and after the moments at which those became known.
    n_rows
        Number of requests.
    engines
        Engines to compare, the reference first.
    seed
        Seed of the sample.

    Returns
    -------
    DataFrame
        `engine`, `feature`, `n_compared`, `n_mismatched`, `max_abs_difference`, one row a feature that differs; empty
        where all agree.
    """
    events = {stream: log.read(stream) for stream in dict.fromkeys(s for view in views for s in view.sources)}
    frame = _sample(views, events, n_rows, np.random.default_rng(seed))
    reference = join_features(views, events, frame, engines[0])
    rows = []
    for engine in engines[1:]:
        found = join_features(views, events, frame, engine)
        for name, tolerance in _tolerances(views).items():
            differs, difference = _differences(found[name], reference[name], tolerance)
            if differs.any():
                rows.append((engine, name, len(frame), int(differs.sum()), difference))
    return pd.DataFrame(rows, columns=["engine", "feature", "n_compared", "n_mismatched", "max_abs_difference"])


@contextmanager
def _session(engine: str, spark: Mapping[str, str | int]) -> Iterator["Session"]:
    from flightdeck.features.ibis_sessions import SparkSettings, duckdb_session, spark_session

    if engine == DUCKDB:
        with duckdb_session() as session:
            yield session
        return
    try:
        settings = SparkSettings(**spark)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(
            f"starting Spark with {dict(spark)}: {error}", next_step="give master, memory and partitions only"
        ) from error
    with (
        tempfile.TemporaryDirectory(prefix="flightdeck-", ignore_cleanup_errors=True) as scratch,
        spark_session(Path(scratch), settings) as session,
    ):
        yield session


def _needed(views: Sequence[FeatureView], stream: str, table: pa.Table) -> pa.Table:
    """Return the columns of a stream that the views read, times as whole microseconds."""
    names = list(dict.fromkeys(n for v in views if v.source == stream for n in v.event_columns))
    names += [n for v in views if stream in v.sources[1:] for n in v.entity if n not in names]
    columns = {"event_id": table["event_id"], "created_us": table["created_timestamp"].cast(pa.int64())}
    return pa.table({**columns, **{name: column_of(table, name) for name in names}})


def _requests(views: Sequence[FeatureView], frame: EntityFrame) -> pa.Table:
    columns = {}
    for name in dict.fromkeys(name for view in views for name in view.entity):
        codes, values = frame.encoded(name)
        texts = pa.array([*values, None], pa.string())
        columns[name] = texts.take(pa.array(np.where(codes < 0, len(values), codes)))
    row_id = np.arange(len(frame), dtype=np.int64)
    return pa.table({"row_id": row_id, **columns, "at_us": frame.at_us, "seen_us": frame.seen_us})


def _in_row_order(found: pa.Table, columns: Sequence[str], n_rows: int) -> dict[str, Floats]:
    place = found["row_id"].to_numpy()
    ordered = {}
    for name in columns:
        ordered[name] = np.full(n_rows, np.nan)
        ordered[name][place] = found[name].to_numpy()
    return ordered


def _sample(
    views: Sequence[FeatureView], events: Mapping[str, pa.Table], n_rows: int, random: np.random.Generator
) -> EntityFrame:
    """Return requests for entities of random events, from the moment of an event to the longest window after it."""
    names = list(dict.fromkeys(name for view in views for name in view.entity))
    tables = [table for table in events.values() if table.num_rows]
    with_column = {name: next(t for t in tables if name in t.column_names) for name in names} if tables else {}
    if not tables:
        return EntityFrame({name: np.empty(0, dtype=object) for name in names}, np.empty(0, dtype=np.int64))
    shares = np.array([table.num_rows for table in tables]) / sum(table.num_rows for table in tables)
    parts = []
    for table, n in zip(tables, random.multinomial(n_rows, shares), strict=True):
        rows = _some_rows(table, n, random)
        columns = {"at_us": rows["created_timestamp"].cast(pa.int64()).to_numpy()}
        for name in names:
            source = rows if name in rows.column_names else _some_rows(with_column[name], n, random)
            columns[name] = source[name].cast(pa.string()).to_numpy(zero_copy_only=False)
        parts.append(pd.DataFrame(columns))
    frame = pd.concat(parts, ignore_index=True)
    reach_s = max(view.look_back_s for view in views)
    later_us = random.choice([0, 0, 1, SECOND_US], n_rows) * random.integers(0, reach_s, n_rows)
    at_us = frame["at_us"].to_numpy(np.int64) + later_us
    return EntityFrame(
        {name: frame[name].to_numpy(object) for name in names}, at_us, at_us - random.choice(LAGS_US, n_rows)
    )


def _some_rows(table: pa.Table, n: int, random: np.random.Generator) -> pa.Table:
    return table.take(pa.array(random.integers(0, table.num_rows, n)))


def _tolerances(views: Sequence[FeatureView]) -> dict[str, float]:
    """Return by how much each feature may differ between engines, relative to its value."""
    result = {}
    for view in views:
        kinds = [a.kind for a in view.compute.aggregates] if isinstance(view.compute, Windowed) else [""]
        for place, name in enumerate(view.columns):
            result[name] = STD_TOLERANCE if kinds[place % len(kinds)] == "std" else 0.0
    return result


def _differences(found: Floats, reference: Floats, tolerance: float) -> tuple[npt.NDArray[np.bool_], float]:
    """Return where values differ, NaN being equal to NaN, and the greatest difference."""
    are_missing = np.isnan(found) & np.isnan(reference)
    difference = np.where(are_missing, 0.0, np.abs(found - reference))
    differs = ~are_missing & ~(difference <= tolerance * np.maximum(1.0, np.abs(reference)))
    finite = difference[np.isfinite(difference)]
    return differs, float(finite.max(initial=0.0))
