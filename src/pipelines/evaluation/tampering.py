"""Events that a request must not see, tampered with in every way that a leak could show by. Pure.

What became known until a moment stays as it is, to the bit. What became known after it is removed, shuffled, changed,
or joined by forged events of the very entities that are asked about, a microsecond after the moment.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.events.stream import COMMON, INSTANT
from pipelines.features.training_frame import ENTITY_COLUMNS

TAMPERINGS = ("removed", "shuffled", "changed", "forged")
SEED = 7


def tamper(events: Mapping[str, pa.Table], after_us: int, asked: pd.DataFrame, how: str) -> dict[str, pa.Table]:
    """Return the streams with what became known after a moment tampered with.

    Parameters
    ----------
    events
        Streams in order of knowledge, as the event log returns them; each keeps the marks of its schema.
    after_us
        The moment, UTC microseconds.
    asked
        Requests that are asked at that moment, of which the entity columns are read.
    how
        One of `TAMPERINGS`.
    """
    return {name: _tampered(table, after_us, asked, how) for name, table in events.items()}


def known_until(events: Mapping[str, pa.Table], until_us: int) -> dict[str, pa.Table]:
    """Return what became known until a moment."""
    return {name: table.slice(0, _n_known(table, until_us)) for name, table in events.items()}


def _n_known(table: pa.Table, until_us: int) -> int:
    created_us = table["created_timestamp"].cast(pa.int64()).to_numpy()
    return int(np.searchsorted(created_us, until_us, side="right"))


def _tampered(table: pa.Table, after_us: int, asked: pd.DataFrame, how: str) -> pa.Table:
    n_known = _n_known(table, after_us)
    known, later = table.slice(0, n_known), table.slice(n_known)
    if how == "removed":
        return known
    if how == "shuffled":
        later = _shuffled(later)
    elif how == "changed":
        later = _changed(later)
    else:
        later = pa.concat_tables([_forged(later, after_us, asked), later])
    return pa.concat_tables([known, later]).replace_schema_metadata(table.schema.metadata)


def _shuffled(events: pa.Table) -> pa.Table:
    """Give each event the payload of another one; its id and its times stay."""
    order = pa.array(np.random.default_rng(SEED).permutation(events.num_rows))
    return _replaced(events, {name: events[name].take(order) for name in events.column_names if name not in COMMON})


def _changed(events: pa.Table) -> pa.Table:
    """Put 1 - x in the place of every number x: late becomes punctual, and what could be added up still can."""
    numbers = [name for name in events.column_names if name not in COMMON and _is_number(events[name].type)]
    return _replaced(events, {name: pc.subtract(pa.scalar(1, events[name].type), events[name]) for name in numbers})


def _forged(events: pa.Table, after_us: int, asked: pd.DataFrame) -> pa.Table:
    """Return an event of each asked entity, known a microsecond after the moment, with the numbers of a later one."""
    if not events.num_rows:
        return events
    n = len(asked)
    at = pa.array(np.full(n, after_us + 1)).cast(INSTANT)
    entities = {name: pa.array(asked[name].to_numpy(object), pa.string()) for name in ENTITY_COLUMNS}
    columns = {"event_id": pa.array([f"forged-{row}" for row in range(n)]), "created_timestamp": at, **entities}
    return _replaced(events.take(pa.array(np.arange(n) % events.num_rows)), columns)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _replaced(table: pa.Table, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """Return a table with other content in some of its columns; those that it does not have are left out."""
    for place, name in enumerate(table.column_names):
        if name in columns:
            table = table.set_column(place, table.schema.field(name), columns[name])
    return table
