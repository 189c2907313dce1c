"""The prediction log, reading side: all records of the log as one frame.

`flightdeck.inference.prediction_log_read` knows the files; this says what a question is. A question that was asked
again counts once, with its last answer: a request that was sent again after its answer was lost, and a day that was
replayed again. Nothing else is read: JSON lines of former releases are named in a warning.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from flightdeck.inference.prediction_log_read import read_log
from flightdeck.inference.prediction_log_table import FEATURES, LOGGED_AT, SCHEMA

NO_TIME_US = -1
REQUEST_FIELDS = {
    "carrier": "object",
    "origin": "object",
    "dest": "object",
    "flight_number": "int64",
    "tailnum": "object",
    "scheduled_departure_us": "int64",
    "scheduled_arrival_us": "int64",
    "origin_utc_offset_min": "int64",
    "distance_miles": "int64",
}
QUESTION = ("unit_id", "request_us", "surface", "flight_id")
COLUMNS = {
    "request_id": "object",
    "item": "int64",
    "logged_at": "object",
    "request_us": "int64",
    "feature_us": "int64",
    "watermark_us": "int64",
    "feature_offset": "object",
    "surface": "object",
    "unit_id": "object",
    "flight_id": "object",
    "probability": "float64",
    "decision": "object",
    "mode": "object",
    "reason": "object",
    "arm": "object",
    "model_version": "object",
    "bundle_digest": "object",
    "latency_ms": "float64",
    "weight": "float64",
    "features": "object",
    **REQUEST_FIELDS,
}
EMPTY_TEXT = ("model_version", "bundle_digest", "feature_offset", "unit_id", "arm")
_TYPES = {"object": pa.string(), "int64": pa.int64()}
logger = logging.getLogger(__name__)


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read every record of a prediction log, oldest first.

    Parameters
    ----------
    folder
        Folder of segments and of the Parquet parts made of them; a missing one is an empty log.

    Returns
    -------
    DataFrame
        The columns of `COLUMNS`, one row a question in the order of `logged_at` (ISO 8601, milliseconds, UTC).
        `features` holds a float32 array each (NaN where a feature had no value) or None where no features were read;
        `feature_us` and `watermark_us` are -1 there. `feature_offset` is empty where nothing was read or the store did
        not say. `weight` is the number of answers that a record stands for: more than 1 on a surface of which only some
        units are logged. `attrs["n_torn"]` counts unfinished frames at the end of segments, `attrs["n_damaged"]` places
        that hold no readable frame, `attrs["n_dropped"]` and `attrs["n_sampled_out"]` records that writers had dropped
        or left out when they wrote last.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    log = read_log(folder)
    if log.lost.n_torn or log.lost.n_damaged:
        logger.warning(
            "prediction log %s: skipped %d unfinished and %d damaged frames",
            folder,
            log.lost.n_torn,
            log.lost.n_damaged,
        )
    frame = _frame(_join(log.tables))
    frame.attrs = dict(zip(log.lost._fields, log.lost, strict=True))
    return frame


def _join(tables: Sequence[pa.Table]) -> pa.Table:
    """Return one table with the columns of the log and the request fields, whatever the columns of each table."""
    schema = pa.schema([*SCHEMA, *((name, _TYPES[kind]) for name, kind in REQUEST_FIELDS.items())])
    whole = []
    for table in tables:
        there = set(table.column_names)
        columns = [
            table[field.name]
            if field.name in there and table.schema.field(field.name).type == field.type
            else pa.nulls(len(table), field.type)
            for field in schema
        ]
        whole.append(pa.table(columns, schema=schema))
    return pa.concat_tables(whole) if whole else schema.empty_table()


def _frame(table: pa.Table) -> pd.DataFrame:
    logged_us = table[LOGGED_AT].cast(pa.int64()).to_numpy()
    keys = table.select(["request_id", "item", *QUESTION]).to_pandas()
    rows = _last_answers(keys, np.argsort(logged_us, kind="stable"))
    kept = table.drop_columns([FEATURES, LOGGED_AT]).take(rows)
    values = {name: _values(kept, name) for name in COLUMNS if name not in (FEATURES, LOGGED_AT)}
    values[FEATURES] = _vectors(table[FEATURES].combine_chunks(), rows)
    values[LOGGED_AT] = _iso(logged_us[rows])
    return pd.DataFrame({name: pd.Series(values[name], dtype=kind) for name, kind in COLUMNS.items()}, copy=False)


def _last_answers(keys: pd.DataFrame, order: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return the rows that are the last answer to their question, in `order`."""
    ordered = keys.take(order).reset_index(drop=True)
    for key in (["request_id", "item"], list(QUESTION)):
        ordered = ordered[~ordered.duplicated(key, keep="last")]
    return order[ordered.index.to_numpy(dtype=np.intp)]


def _values(table: pa.Table, name: str) -> npt.NDArray[np.generic]:
    """Return a column with the value that stands for none in it."""
    column = table[name]
    if name in EMPTY_TEXT or REQUEST_FIELDS.get(name) == "object":
        column = column.fill_null("")
    elif COLUMNS[name] == "int64":
        column = column.fill_null(NO_TIME_US if name.endswith("_us") and name not in REQUEST_FIELDS else 0)
    elif COLUMNS[name] == "float64":
        column = column.fill_null(1.0 if name == "weight" else np.nan)
    return np.asarray(column.to_pandas())


def _vectors(features: pa.ListArray, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.object_]:
    """Return each row's features as an array, None where there are none."""
    values = features.values.to_numpy()  # noqa: PD011 - of Arrow
    offsets = features.offsets.to_numpy().tolist()
    is_there = features.is_valid().to_numpy(zero_copy_only=False).tolist()
    found = np.empty(len(rows), dtype=object)
    for place, row in enumerate(rows.tolist()):
        if is_there[row]:
            found[place] = values[offsets[row] : offsets[row + 1]]
    return found


def _iso(at_us: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
    """Return times as text, in milliseconds."""
    text = np.datetime_as_string(at_us.astype("datetime64[us]"), unit="ms")
    return np.char.add(text, "+00:00").astype(object)
