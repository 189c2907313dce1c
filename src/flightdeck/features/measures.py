"""From events to numbers and from numbers to features: the arithmetic that every engine shares.

A measure is an int64 column of the events that is added up (`sum_measures`), or a float64 column of which one value is
chosen (`values_of`). A window's features follow from the measures' totals over the window (`finish`). Offline join and
online store call these very functions; the Ibis engine states the same in expressions and is proven equal by test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.errors import ContractViolation, some
from flightdeck.features.aggregates import MAX_EVENTS, MAX_UNITS, MAX_UNITS_SQUARED, Aggregate
from flightdeck.features.view import FeatureView, Windowed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Role = Literal["events", "known", "units", "squares", "high_squares", "true"]
WRAP = 2.0**64


@dataclass(frozen=True)
class Measure:
    """An int64 column of the events of which totals are kept.

    Parameters
    ----------
    role
        `events`: 1 for each event; `known`: 1 where the column has a value; `units`: the value in whole units;
        `squares`: its square (totals wrap around 2**64); `high_squares`: its square without the lowest 32 bits (totals
        do not wrap, see `finish`); `true`: 1 where the condition holds.
    column, resolution, operator, operand
        As in the aggregate.
    """

    role: Role
    column: str = ""
    resolution: float = 1.0
    operator: str = ""
    operand: float | str = 0


EVENTS = Measure("events")
ADDED = ("sum", "mean", "std")  # aggregates of which values are added up; the others count
SQUARES: tuple[Role, Role] = ("squares", "high_squares")


def measures_of(aggregate: Aggregate) -> tuple[Measure, ...]:
    """Return the totals that an aggregate needs, in the order that `finish` takes them."""
    known = Measure("known", aggregate.column)
    units = Measure("units", aggregate.column, aggregate.resolution)
    if aggregate.kind == "count":
        return (EVENTS,)
    if aggregate.kind == "sum":
        return (units,)
    if aggregate.kind == "mean":
        return (known, units)
    if aggregate.kind == "std":
        squares, high = (Measure(role, aggregate.column, aggregate.resolution) for role in SQUARES)
        return (known, units, squares, high)
    if aggregate.kind == "share":
        return (known, Measure("true", aggregate.column, 1.0, aggregate.operator, aggregate.operand))
    return ()


def sum_measures(view: FeatureView) -> tuple[Measure, ...]:
    """Return the measures that a windowed view adds up, each once, `EVENTS` first; `()` for other views."""
    if not isinstance(view.compute, Windowed):
        return ()
    needed = [measure for aggregate in view.compute.aggregates for measure in measures_of(aggregate)]
    return tuple(dict.fromkeys([EVENTS, *needed]))


def add_up(measure: Measure, table: pa.Table) -> Ints:
    """Return a measure of each event.

    Parameters
    ----------
    table
        Events; the measure's column may be integer, floating, boolean or (for a share by == and !=) string.

    Returns
    -------
    int64 array of shape `(n_events,)`
        Zero where the column has no value.

    Raises
    ------
    ContractViolation
        If the column is missing or of another type, or a value is too large to be added up exactly.
    """
    if measure.role == "events":
        return np.ones(table.num_rows, dtype=np.int64)
    column = column_of(table, measure.column)
    if measure.operator and isinstance(measure.operand, str):
        equal = pc.equal(column.cast(pa.string()), measure.operand)
        holds = pc.fill_null(equal if measure.operator == "==" else pc.invert(equal), False)
        return np.asarray(holds.to_numpy(zero_copy_only=False), dtype=np.int64)
    if measure.role == "known" and not _is_number(column.type):
        return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=np.int64)
    if measure.role == "known" and pa.types.is_integer(column.type):
        known = column.is_valid()
        return np.asarray(known.to_numpy(zero_copy_only=False), dtype=np.int64)
    values, is_known = numbers(table, measure.column)
    if measure.role == "known":
        return is_known.astype(np.int64)
    if measure.role == "true":
        return (_COMPARE[measure.operator](values, float(measure.operand)) & is_known).astype(np.int64)
    units = whole_units(values, is_known, column, measure.resolution)
    limit = MAX_UNITS if measure.role == "units" else MAX_UNITS_SQUARED
    if len(units) and (units.max() >= limit or units.min() <= -limit):
        large = np.flatnonzero((units >= limit) | (units <= -limit))
        ids = table["event_id"].take(pa.array(large[:5])).to_pylist() if "event_id" in table.column_names else large[:5]
        raise ContractViolation(
            f"adding up {measure.column!r}: {len(large):,} values are {limit:,} units of {measure.resolution:g} or "
            f"more: events {some(ids)}",
            next_step="declare the aggregate with a coarser resolution, or bound the column in the stream's contract",
        )
    if measure.role == "high_squares":
        return units * units >> 32
    return units * units if measure.role == "squares" else units


def values_of(table: pa.Table, name: str) -> Floats:
    """Return a column as float64 of shape `(n_events,)`, NaN where there is no value.

    Raises
    ------
    ContractViolation
        If the column is missing or is not numeric.
    """
    values, is_known = numbers(table, name)
    return np.where(is_known, values, np.nan)


def finish(aggregate: Aggregate, totals: Mapping[Measure, Ints]) -> Floats:
    """Return a sum-like aggregate from the window's totals.

    Parameters
    ----------
    aggregate
        One of count, sum, mean, share, std.
    totals
        Total of each measure and of `EVENTS` over the window, int64 arrays of one shape; totals of squares modulo
        2**64.

    Raises
    ------
    ContractViolation
        If values are added up in a window of `MAX_EVENTS` events or more.

    Notes
    -----
    Running totals wrap around 2**64 over the years. The difference over a window does not: it is below `MAX_EVENTS`
    times `MAX_UNITS`, which is 2**63. The standard deviation is taken around the whole number c nearest to the mean.
    The sum of (v - c)^2 is known exactly modulo 2**64 from the squares, and to less than 2**63 from their upper bits:
    together they say what it is.
    """
    needed = [totals[measure] for measure in measures_of(aggregate)]
    if aggregate.kind == "count":
        return needed[0].astype(np.float64)
    if aggregate.kind in ADDED:
        require_few(aggregate.column, int(totals[EVENTS].max(initial=0)))
    if aggregate.kind == "sum":
        return _in_values(needed[0].astype(np.float64), aggregate.resolution)
    with np.errstate(invalid="ignore", divide="ignore"):
        if aggregate.kind in ("mean", "share"):
            return _in_values(needed[1] / needed[0], aggregate.resolution)
        n, units, squares, high = needed
        center = np.floor_divide(units + n // 2, np.maximum(n, 1))
        wrapped = squares - 2 * center * units + n * center * center
        middle = center.astype(np.float64)
        about = high * 2.0**32 - 2 * middle * units + n * middle * middle
        around = wrapped + np.rint((about - wrapped) / WRAP) * WRAP
        rest = (units - n * center) / n
        variance = np.maximum(around / n - rest * rest, 0.0)
        return _in_values(np.sqrt(variance), aggregate.resolution)


def require_few(column: str, n_events: int) -> None:
    """Refuse to add up so many values that the total would not be exact any more.

    Raises
    ------
    ContractViolation
        If there are `MAX_EVENTS` or more.
    """
    if n_events >= MAX_EVENTS:
        raise ContractViolation(
            f"adding up {column}: a window holds {n_events:,} events, fewer than {MAX_EVENTS:,} are allowed",
            next_step="declare a shorter window, or a key that divides the events further",
        )


def numbers(table: pa.Table, name: str) -> tuple[Floats, Booleans]:
    """Return a numeric column as float64 and where it has a value (not null, not NaN, not infinite).

    Raises
    ------
    ContractViolation
        If the column is missing or is not numeric.
    """
    column = column_of(table, name)
    if not _is_number(column.type):
        raise ContractViolation(
            f"computing features of column {name!r}: it is {column.type}, a number is needed",
            next_step="aggregate another column, or compare it by == in a share",
        )
    values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    is_known = np.isfinite(values)
    return (values if is_known.all() else np.where(is_known, values, 0.0)), is_known


def column_of(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column by name.

    Raises
    ------
    ContractViolation
        If it is not there.
    """
    if name not in table.column_names:
        raise ContractViolation(
            f"computing features: the events have no column {name!r} (there: {some(table.column_names, 12)})",
            next_step="correct the column of the aggregate",
        )
    column = table[name]
    return column.cast(pa.int64()) if pa.types.is_boolean(column.type) else column


def whole_units(values: Floats, is_known: Booleans, column: pa.ChunkedArray, resolution: float) -> Ints:
    """Return values in whole units of `resolution`: floor(value / resolution + 0.5), 0 where there is none.

    Raises
    ------
    ContractViolation
        If fractions would be lost because no resolution was declared.
    """
    if resolution == 1.0 and pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        whole = pc.fill_null(column, 0).cast(pa.int64()) if column.null_count else column.cast(pa.int64())
        return np.asarray(whole.to_numpy(zero_copy_only=False), dtype=np.int64)
    known = np.where(is_known, values, 0.0)
    if resolution == 1.0 and (known != np.floor(known)).any():
        raise ContractViolation(
            "adding up a column of fractions in whole numbers: the unit that matters has to be declared",
            next_step='declare it with the aggregate, as in mean("temp_f", resolution=0.01)',
        )
    scaled = np.floor(known / resolution + 0.5)
    return np.clip(scaled, -float(MAX_UNITS), float(MAX_UNITS)).astype(np.int64)


def _in_values(units: Floats, resolution: float) -> Floats:
    return units if resolution == 1.0 else units * resolution


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


_COMPARE = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
