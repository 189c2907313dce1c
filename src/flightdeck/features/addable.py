"""Values that a view cannot add up exactly: for the view they are no value, like null.

A value of 2^33 units or more (2^31 for a standard deviation), or a fraction where no resolution was declared, cannot be
added up without rounding. Training refuses such a column and names the events, so that somebody decides. What runs
unattended (feed, backfill, audit) goes on: the event counts, and its column is no value in every aggregate of the view.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.features.aggregates import MAX_UNITS, MAX_UNITS_SQUARED
from flightdeck.features.measures import numbers
from flightdeck.features.view import FeatureView, Windowed

_LARGEST = {"sum": MAX_UNITS, "mean": MAX_UNITS, "std": MAX_UNITS_SQUARED}
Booleans = npt.NDArray[np.bool_]


class Addable(NamedTuple):
    """Events as a view adds them up.

    Parameters
    ----------
    events
        The events, null where a value cannot be added up; the very table that was given if there is none.
    left_out
        Ids of the events whose value is no value, by column.
    """

    events: pa.Table
    left_out: dict[str, list[str]]


def addable(view: FeatureView, events: pa.Table) -> Addable:
    """Return the events of a stream with nothing in them that a view cannot add up exactly.

    Parameters
    ----------
    view
        Declaration.
    events
        Events of its source, with an `event_id`.

    Raises
    ------
    ContractViolation
        If a column is missing or is not numeric.
    """
    aggregates = view.compute.aggregates if isinstance(view.compute, Windowed) else ()
    added = {(one.column, one.resolution, _LARGEST[one.kind]) for one in aggregates if one.kind in _LARGEST}
    masks: dict[str, Booleans] = {}
    for column, resolution, largest in sorted(added):
        mask = _unfit(events, column, resolution, largest)
        if mask.any():
            masks[column] = masks.get(column, mask) | mask
    left_out = {}
    for name, mask in masks.items():
        left_out[name] = events["event_id"].filter(pa.array(mask)).to_pylist()
        place, column = events.column_names.index(name), events[name]
        nulled = pc.if_else(pa.array(mask), pa.scalar(None, column.type), column)
        events = events.set_column(place, name, nulled)
    return Addable(events, left_out)


def _unfit(events: pa.Table, column: str, resolution: float, largest: int) -> Booleans:
    """Return where a value is too large to be added up in units of a resolution, or too fine."""
    values, _ = numbers(events, column)  # 0 where there is none
    if resolution == 1.0 and not pa.types.is_floating(events[column].type):
        return np.asarray((values >= largest) | (values <= -largest))
    with np.errstate(over="ignore"):  # infinite units are too many
        unfit: Booleans = np.abs(np.floor(values / resolution + 0.5)) >= largest
    return unfit | (values != np.floor(values)) if resolution == 1.0 else unfit
