"""The meaning of every feature, the slow and obvious way: one row, one loop over all events. Read it in a minute."""

import math
from statistics import pstdev
from typing import Any

import pyarrow as pa

from flightdeck.core.clock import SECOND_US
from flightdeck.features.aggregates import Aggregate
from flightdeck.features.view import FeatureView, Latest, OpenItems

NAN = math.nan


def naive(
    view: FeatureView,
    events: dict[str, pa.Table],
    entity: dict[str, str],
    at_us: int,
    known_until_us: int | None = None,
) -> list[float]:
    """Return the features of one entity at one time."""
    if not all(entity[name] for name in view.entity):
        return [NAN] * len(view.columns)
    until_us = at_us if known_until_us is None else min(at_us, known_until_us)
    rows = known_events(view, events, entity, until_us)
    if isinstance(view.compute, OpenItems):
        return [float(sum(row["weight"] for row in rows))]
    if isinstance(view.compute, Latest):
        if not rows or at_us - rows[-1]["created_us"] > view.ttl_s * SECOND_US:
            return [NAN] * len(view.columns)
        values = [value(rows[-1][name]) for name in view.compute.columns]
        return [NAN if v is None else float(v) for v in values] + [(at_us - rows[-1]["created_us"]) / SECOND_US]
    result = []
    for window_s in view.compute.windows_s:
        tile_us = view.tiles_us[window_s]
        tail_us = (at_us - window_s * SECOND_US) // tile_us * tile_us
        inside = [row for row in rows if row["created_us"] > tail_us]
        result += [one(aggregate, inside, at_us) for aggregate in view.compute.aggregates]
    return result


def known_events(
    view: FeatureView, events: dict[str, pa.Table], entity: dict[str, str], until_us: int
) -> list[dict[str, Any]]:
    """Return the entity's events that are known, each id once, in order of knowledge."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for place, stream in enumerate(view.sources):
        for row in events[stream].to_pylist():
            created_us = round(row["created_timestamp"].timestamp() * 1e6)
            is_asked = all(row[name] is not None and str(row[name]) == entity[name] for name in view.entity)
            if created_us <= until_us and is_asked:
                kept = {**row, "created_us": created_us, "weight": 1 if place == 0 else -1}
                found.setdefault((stream, row["event_id"]), kept)
    return sorted(found.values(), key=lambda row: (row["created_us"], row["event_id"]))


def one(aggregate: Aggregate, rows: list[dict[str, Any]], at_us: int) -> float:
    """Return one aggregate of the window's events."""
    if aggregate.kind == "count":
        return float(len(rows))
    if aggregate.kind == "since_last":
        return (at_us - rows[-1]["created_us"]) / SECOND_US if rows else NAN
    values = [v for v in (value(row[aggregate.column]) for row in rows) if v is not None]
    if aggregate.kind == "distinct":
        return float(min(len(set(values)), aggregate.at_most))
    units = [math.floor(v / aggregate.resolution + 0.5) for v in values if not isinstance(v, str)]
    if aggregate.kind == "sum":
        return float(sum(units)) * aggregate.resolution
    if not values:
        return NAN
    if aggregate.kind == "mean":
        return sum(units) / len(units) * aggregate.resolution
    if aggregate.kind == "std":
        return pstdev(units) * aggregate.resolution
    if aggregate.kind == "share":
        holds: Any = {
            "==": lambda v: v == aggregate.operand,
            "!=": lambda v: v != aggregate.operand,
            "<": lambda v: v < aggregate.operand,
            "<=": lambda v: v <= aggregate.operand,
            ">": lambda v: v > aggregate.operand,
            ">=": lambda v: v >= aggregate.operand,
        }[aggregate.operator]
        return float(sum(map(holds, values)) / len(values))
    chosen = {"min": min(values), "max": max(values), "last": values[-1]}  # type: ignore[type-var]
    return float(chosen[aggregate.kind])


def value(cell: Any) -> float | str | None:
    """Return a cell as a number or text; None where it is no value."""
    if cell is None or isinstance(cell, str):
        return cell
    return float(cell) if math.isfinite(cell) else None
