"""The arithmetic of `measures.py` as Ibis expressions: from events to whole units, from totals to features.

Null stands for "no value" until the very end, because Spark reads a NaN literal as null and DuckDB does not. Totals of
units and squares are decimals of 38 digits: exact, and without the overflow that Spark's ANSI mode would refuse.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from flightdeck.core.errors import ContractViolation, some
from flightdeck.features.aggregates import MAX_UNITS, MAX_UNITS_SQUARED, OPERATORS, Aggregate
from flightdeck.features.measures import Measure, measures_of, sum_measures
from flightdeck.features.view import FeatureView

EXACT = "decimal(38, 0)"
WHOLE = "int64"
REAL = "float64"


def column_of(table: ir.Table, name: str) -> ir.Column:
    """Return a column by name, a boolean one as 0 and 1.

    Raises
    ------
    ContractViolation
        If it is not there.
    """
    if name not in table.columns:
        raise ContractViolation(
            f"computing features: the events have no column {name!r} (there: {some(table.columns, 12)})",
            next_step="correct the column of the aggregate",
        )
    column = table[name]
    return column.cast(WHOLE) if column.type().is_boolean() else column


def value_of(table: ir.Table, name: str) -> ir.FloatingColumn:
    """Return a column as float64, null where it is null, NaN or infinite.

    Raises
    ------
    ContractViolation
        If the column is missing or is not numeric.
    """
    column = column_of(table, name)
    if not (column.type().is_integer() or column.type().is_floating()):
        raise ContractViolation(
            f"computing features of column {name!r}: it is {column.type()}, a number is needed",
            next_step="aggregate another column, or compare it by == in a share",
        )
    value = column.cast(REAL)
    if column.type().is_integer():
        return value
    is_infinite = value.abs() > sys.float_info.max  # Ibis's isinf finds none on Spark
    is_none = value.isnull() | value.isnan().fill_null(True) | is_infinite.fill_null(True)
    return ibis.ifelse(is_none, ibis.null(REAL), value)


def identity_of(table: ir.Table, name: str) -> ir.Column:
    """Return what makes two values of a column the same: the number, else the text; null where there is no value."""
    kind = column_of(table, name).type()
    is_number = kind.is_integer() or kind.is_floating()
    return value_of(table, name) + 0.0 if is_number else column_of(table, name).cast("string")


def add_up(measure: Measure, table: ir.Table) -> ir.Column:
    """Return a measure of each event, never null: int64, for units and squares a decimal."""
    if measure.role == "events":
        return ibis.literal(1, WHOLE)
    column = column_of(table, measure.column)
    if measure.operator and isinstance(measure.operand, str):
        equal = column.cast("string") == measure.operand
        return _flag(equal if measure.operator == "==" else ~equal)
    if measure.role == "known":
        is_floating = column.type().is_floating()
        return _flag((value_of(table, measure.column) if is_floating else column).notnull())
    if measure.role == "true":
        return _flag(_compare(value_of(table, measure.column), measure.operator, float(measure.operand)))
    units = ibis.coalesce(_units(table, measure), ibis.literal(0, WHOLE)).cast(EXACT)
    return (units * units).cast(EXACT) if measure.role == "squares" else units


def in_decimals(measures: Iterable[Measure]) -> list[Measure]:
    """Leave out the upper bits of squares: decimals hold the squares themselves."""
    return [measure for measure in measures if measure.role != "high_squares"]


def finish(aggregate: Aggregate, totals: Mapping[Measure, Any]) -> Any:
    """Return a sum-like aggregate from the window's totals (`in_decimals`); null where it has no value."""
    needed = [totals[measure] for measure in in_decimals(measures_of(aggregate))]
    if aggregate.kind == "count":
        return needed[0].cast(REAL)
    if aggregate.kind == "sum":
        return _in_values(needed[0].cast(WHOLE).cast(REAL), aggregate.resolution)
    n = needed[0].nullif(0)
    if aggregate.kind in ("mean", "share"):
        return _in_values(needed[1].cast(WHOLE).cast(REAL) / n.cast(REAL), aggregate.resolution)
    units, squares = needed[1].cast(WHOLE), needed[2].cast(EXACT)
    center = (units.cast(REAL) / n.cast(REAL) + 0.5).floor().cast(WHOLE)
    exact = center.cast(EXACT)
    twice = (exact * units.cast(EXACT) * ibis.literal(2, EXACT)).cast(EXACT)
    around = squares - twice + (exact * exact * n.cast(EXACT)).cast(EXACT)
    rest = (units - n * center).cast(REAL) / n.cast(REAL)
    variance = around.cast(REAL) / n.cast(REAL) - rest * rest
    return _in_values(ibis.ifelse(variance < 0.0, 0.0, variance).sqrt(), aggregate.resolution)


def refuse_unfit(views: Sequence[FeatureView], events: Mapping[str, ir.Table]) -> None:
    """Look once at each stream for values that cannot be added up exactly; runs one query a stream that needs it.

    Raises
    ------
    ContractViolation
        If values are too large, or are fractions where no resolution was declared.
    """
    by_stream: dict[str, dict[Measure, None]] = {}
    for view in views:
        found = [m for m in sum_measures(view) if m.role in ("units", "squares")]
        by_stream.setdefault(view.source, {}).update(dict.fromkeys(found))
    for stream, measures in by_stream.items():
        counts = {f"n{i}": _n_unfit(events[stream], measure) for i, measure in enumerate(measures)}
        if not counts:
            continue
        row = events[stream].aggregate(**counts).to_pyarrow().to_pylist()[0]
        wrong = [f"{m.column} ({row[f'n{i}']:,} values)" for i, m in enumerate(measures) if row[f"n{i}"]]
        if wrong:
            raise ContractViolation(
                f"adding up columns of {stream!r}: too large, or fractions without a resolution: {some(wrong)}",
                next_step='declare the unit that matters, as in mean("temp_f", resolution=0.01)',
            )


def _n_unfit(table: ir.Table, measure: Measure) -> Any:
    value = value_of(table, measure.column)
    limit = MAX_UNITS if measure.role == "units" else MAX_UNITS_SQUARED
    scaled = value / measure.resolution + 0.5  # whose floor are the units
    wrong = (scaled >= float(limit)) | (scaled < float(1 - limit))
    if measure.resolution == 1.0:
        wrong = wrong | (value != ibis.ifelse(value.abs() < float(MAX_UNITS), value, 0.0).floor().cast(REAL))
    return ibis.coalesce(_flag(wrong).sum(), 0)


def _units(table: ir.Table, measure: Measure) -> Any:
    column = column_of(table, measure.column)
    if measure.resolution == 1.0 and column.type().is_integer():
        return column.cast(WHOLE)
    scaled = value_of(table, measure.column) / measure.resolution + 0.5
    bounded = ibis.ifelse(scaled.abs() < float(MAX_UNITS), scaled, 0.0)  # larger ones were refused
    return bounded.floor().cast(WHOLE)


def _compare(value: Any, operator: str, operand: float) -> Any:
    return getattr(value, f"__{OPERATORS[operator]}__")(operand)


def _flag(condition: Any) -> Any:
    return ibis.ifelse(condition.fill_null(False), ibis.literal(1, WHOLE), ibis.literal(0, WHOLE))


def _in_values(units: Any, resolution: float) -> Any:
    return units if resolution == 1.0 else units * resolution
