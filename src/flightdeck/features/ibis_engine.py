"""The point-in-time join of `join.py` as portable Ibis expressions: the same declarations on DuckDB and on Spark.

Ibis has no as-of join that both engines run alike (https://github.com/ibis-project/ibis/issues/11780, and Spark has
none). So the join is a union and a window: the events of an entity and the questions about it (the head and every
window's tail of each request) are put into one order by (time, events first, event id), and running totals over that
order answer every question at once. A window is the difference of two answers. One scan, one sort by key and one
grouping by request serve all the views of an entity. Minimum, maximum and distinct go by tiles (`ibis_tiles.py`).

All events of one key are ordered by one task: the view over everything (`entity=()`) is the longest task of a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import ibis
import ibis.expr.types as ir

from flightdeck.core.clock import SECOND_US
from flightdeck.features.ibis_measures import (
    REAL,
    WHOLE,
    add_up,
    column_of,
    finish,
    identity_of,
    in_decimals,
    refuse_unfit,
    value_of,
)
from flightdeck.features.ibis_tiles import Chosen, choose, floor_to
from flightdeck.features.measures import Measure, measures_of, sum_measures
from flightdeck.features.view import FeatureView, Latest, OpenItems, Windowed

EVENT, QUESTION = 0, 1


def join_with_ibis(
    views: Sequence[FeatureView], events: Mapping[str, ir.Table], requests: ir.Table, *, ids_are_unique: bool = False
) -> ir.Table:
    """Return the features of `views` for each request as they were known at its time.

    Parameters
    ----------
    views
        Declarations.
    events
        Table of each stream, with `event_id`, `created_timestamp` (or `created_us`, int64) and the views' columns.
    requests
        Columns `row_id` (int64, each once), the entity columns, `at_us` and `seen_us` (int64, UTC microseconds): the
        time of the request, and until when its events are known.
    ids_are_unique
        The caller vouches that no `event_id` is repeated, as the event log does; a sort by id is saved.

    Returns
    -------
    ibis Table
        `row_id` and float64 columns in the order of the views; null or NaN where there is no value; rows in any order.

    Raises
    ------
    ContractViolation
        If a column is missing, of another type, or holds a value that cannot be added up exactly.
    """
    refuse_unfit(views, events)
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[FeatureView]] = {}
    for view in views:
        groups.setdefault((view.entity, view.sources), []).append(view)
    once = {name: table if ids_are_unique else _each_id_once(table) for name, table in events.items()}
    result = requests.select("row_id")
    for group in groups.values():
        features = _Group.of(group, once, requests).features()
        result = _with(result, features)
    return result.select("row_id", *(column for view in views for column in view.columns))


@dataclass
class _Group:
    """Views of one entity over the same streams, and their events and requests."""

    views: Sequence[FeatureView]
    keys: list[str]
    requests: ir.Table
    measures: dict[Measure, str] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)  # column of the stream -> column whose last value is asked
    windows: dict[tuple[int, int], int] = field(default_factory=dict)  # (window_s, tile_us) -> number of its question
    events: Any = None

    @classmethod
    def of(cls, views: Sequence[FeatureView], events: Mapping[str, ir.Table], requests: ir.Table) -> "_Group":
        entity = views[0].entity
        keys = [f"key{i}" for i in range(len(entity))]
        group = cls(views, keys, _keyed(requests, entity).select("row_id", *keys, "at_us", "seen_us"))
        for view in views:
            for measure in in_decimals(sum_measures(view)):
                group.measures.setdefault(measure, f"sum{len(group.measures)}")
            for name in _last_columns(view):
                group.chosen.setdefault(name, f"last{len(group.chosen)}")
            for window in view.tiles_us.items():
                group.windows.setdefault(window, len(group.windows) + 1)
        parts = [group._prepared(events[name], 1 if i == 0 else -1) for i, name in enumerate(views[0].sources)]
        group.events = reduce(lambda a, b: a.union(b), parts)
        return group

    def features(self) -> ir.Table:
        """Return `row_id` and the features of the group's views, for requests whose entity is known."""
        answers = self._answers()
        computed = {}
        for view in self.views:
            if isinstance(view.compute, Windowed):
                computed.update(self._windowed(view, view.compute, answers))
            elif isinstance(view.compute, Latest):
                computed.update(self._latest(view, view.compute, answers))
            else:
                computed[view.columns[0]] = answers.open_0.cast(REAL)
        result = answers.select("row_id", **computed)
        for table in self._by_tiles():
            result = _with(result, table)
        counts = {name: ibis.coalesce(result[name], 0.0) for name in self._distinct_names() if name in result.columns}
        return result.mutate(**counts) if counts else result

    def _prepared(self, table: ir.Table, weight: int) -> ir.Table:
        keyed = _keyed(table, self.views[0].entity)
        is_source = weight == 1
        columns: dict[str, Any] = {name: add_up(measure, keyed) for measure, name in self.measures.items()}
        columns |= {name: value_of(keyed, column) for column, name in self.chosen.items() if is_source}
        for view in self.views:
            for chosen, source in _tile_columns(view):
                of = identity_of if chosen.kind == "distinct" else value_of
                columns[chosen.column] = of(keyed, source)
        return keyed.select(
            *self.keys, "event_id", created_us=_created_us(keyed), weight=ibis.literal(weight, WHOLE), **columns
        )

    def _answers(self) -> ir.Table:
        """Return one row a request: `<total>_<question>` and what the head knows of the last event."""
        order = ["time_us", "kind", "event_id"]
        window = ibis.window(group_by=self.keys or None, order_by=order, preceding=None, following=0)
        rows = self._events_as_rows().union(self._questions())
        rows = rows.mutate(place=ibis.row_number().over(window))
        is_event = rows.kind == EVENT
        sums = ["weight", *self.measures.values()]
        running: dict[str, Any] = {name: rows[name].sum().over(window).cast(rows[name].type()) for name in sums}
        running["last_us"] = ibis.ifelse(is_event, rows.time_us, ibis.null(WHOLE)).max().over(window)
        running["last_place"] = ibis.ifelse(is_event, rows.place, ibis.null(WHOLE)).max().over(window)
        for name in self.chosen.values():
            has_value = rows[name].notnull()
            place = ibis.ifelse(has_value, rows.place, ibis.null(WHOLE))
            running[f"{name}_place"] = place.max().over(window)
            running[f"{name}_us"] = ibis.ifelse(has_value, rows.time_us, ibis.null(WHOLE)).max().over(window)
            running[name] = rows[name].argmax(place).over(window)
        answered = rows.select("row_id", "kind", "question", "at_us", **running).filter(lambda t: t.kind == QUESTION)
        at_head = answered.question == 0
        columns: dict[str, Any] = {"at_us": answered.at_us.max(), "open_0": answered.weight.max(where=at_head)}
        for question in (0, *self.windows.values()):
            is_asked = answered.question == question
            columns |= {f"{name}_{question}": answered[name].max(where=is_asked) for name in self.measures.values()}
        of_last = ["last_us", "last_place"]
        of_last += [f"{name}{suffix}" for name in self.chosen.values() for suffix in ("", "_us", "_place")]
        columns |= {name: answered[name].max(where=at_head) for name in of_last}
        return answered.group_by("row_id").aggregate(**columns)

    def _events_as_rows(self) -> ir.Table:
        none = ibis.null(WHOLE)
        return self.events.select(
            *self.keys, "event_id", "weight", *self.measures.values(), *self.chosen.values(),
            time_us=self.events.created_us, kind=ibis.literal(EVENT, "int8"), row_id=none, question=none, at_us=none,
        )  # fmt: skip

    def _questions(self) -> ir.Table:
        """Return one row a request and question, in the columns of `_events_as_rows`."""
        asked = self.requests
        empty = {name: ibis.literal(0, self.events[name].type()) for name in ("weight", *self.measures.values())}
        values = {name: ibis.null(REAL) for name in self.chosen.values()}
        times = {0: asked.seen_us}
        for (window_s, tile_us), question in self.windows.items():
            times[question] = ibis.least(floor_to(asked.at_us - window_s * SECOND_US, tile_us), asked.seen_us)
        parts = [
            asked.select(
                *self.keys, event_id=ibis.literal(""), **empty, **values, time_us=time,
                kind=ibis.literal(QUESTION, "int8"), row_id=asked.row_id.cast(WHOLE),
                question=ibis.literal(question, WHOLE), at_us=asked.at_us,
            )
            for question, time in times.items()
        ]  # fmt: skip
        return reduce(lambda a, b: a.union(b), parts)

    def _windowed(self, view: FeatureView, compute: Windowed, answers: ir.Table) -> dict[str, Any]:
        computed = {}
        columns = iter(view.columns)
        for window_s in compute.windows_s:
            tile_us = view.tiles_us[window_s]
            question = self.windows[window_s, tile_us]
            tail = floor_to(answers.at_us - window_s * SECOND_US, tile_us)
            for aggregate in compute.aggregates:
                column = next(columns)
                totals = {}
                for measure in in_decimals(measures_of(aggregate)):
                    name = self.measures[measure]
                    totals[measure] = answers[f"{name}_0"] - answers[f"{name}_{question}"]
                if totals:
                    computed[column] = finish(aggregate, totals)
                elif aggregate.kind == "since_last":
                    age_s = (answers.at_us - answers.last_us).cast(REAL) / float(SECOND_US)
                    computed[column] = ibis.ifelse(answers.last_us > tail, age_s, ibis.null(REAL))
                elif aggregate.kind == "last":
                    name = self.chosen[aggregate.column]
                    is_inside = answers[f"{name}_us"] > tail
                    computed[column] = ibis.ifelse(is_inside, answers[name], ibis.null(REAL))
        return computed

    def _latest(self, view: FeatureView, compute: Latest, answers: ir.Table) -> dict[str, Any]:
        age_s = (answers.at_us - answers.last_us).cast(REAL) / float(SECOND_US)
        is_usable = age_s <= float(view.ttl_s)
        computed = {}
        for column, source in zip(view.columns, compute.columns, strict=False):
            name = self.chosen[source]
            is_of_last = is_usable & (answers[f"{name}_place"] == answers.last_place)
            computed[column] = ibis.ifelse(is_of_last, answers[name], ibis.null(REAL))
        return {**computed, view.columns[-1]: ibis.ifelse(is_usable, age_s, ibis.null(REAL))}

    def _by_tiles(self) -> list[ir.Table]:
        wanted: dict[tuple[int, int], list[Chosen]] = {}
        for view in self.views:
            for chosen, _ in _tile_columns(view):
                window_s = _window_of(view, chosen.name)
                wanted.setdefault((window_s, view.tiles_us[window_s]), []).append(chosen)
        return [choose(self.events, self.requests, self.keys, *window, found) for window, found in wanted.items()]

    def _distinct_names(self) -> list[str]:
        return [chosen.name for view in self.views for chosen, _ in _tile_columns(view) if chosen.kind == "distinct"]


def _last_columns(view: FeatureView) -> list[str]:
    if isinstance(view.compute, Latest):
        return list(view.compute.columns)
    if isinstance(view.compute, OpenItems):
        return []
    return [aggregate.column for aggregate in view.compute.aggregates if aggregate.kind == "last"]


def _tile_columns(view: FeatureView) -> list[tuple[Chosen, str]]:
    """Return what goes by tiles: the feature, with the prepared column's name, and the stream's column."""
    if not isinstance(view.compute, Windowed):
        return []
    found, columns = [], iter(view.columns)
    for _ in view.compute.windows_s:
        for aggregate in view.compute.aggregates:
            name = next(columns)
            if aggregate.kind in ("min", "max", "distinct"):
                prepared = f"{'identity' if aggregate.kind == 'distinct' else 'value'}_{aggregate.column}"
                found.append((Chosen(aggregate.kind, prepared, name, aggregate.at_most), aggregate.column))
    return found


def _window_of(view: FeatureView, column: str) -> int:
    compute = view.compute
    if not isinstance(compute, Windowed):
        raise TypeError(f"{view.name} has no windows")
    return compute.windows_s[view.columns.index(column) // len(compute.aggregates)]


def _keyed(table: ir.Table, entity: Sequence[str]) -> ir.Table:
    """Return the rows whose entity is known, with its parts as `key0`, `key1`, ... of text."""
    keyed = table.mutate(**{f"key{i}": column_of(table, name).cast("string") for i, name in enumerate(entity)})
    conditions = [keyed[f"key{i}"].fill_null("") != "" for i in range(len(entity))]
    return keyed.filter(*conditions) if conditions else keyed


def _each_id_once(table: ir.Table) -> ir.Table:
    by_id = ibis.window(group_by="event_id", order_by=_created_us(table))
    return table.mutate(repetition=ibis.row_number().over(by_id)).filter(lambda t: t.repetition == 0).drop("repetition")


def _created_us(table: ir.Table) -> Any:
    if "created_us" in table.columns:
        return table.created_us.cast(WHOLE)
    is_spark = table.get_backend().name == "pyspark"
    return (_unix_micros if is_spark else _epoch_us)(table.created_timestamp)


_INSTANT_TO_US = (("timestamp('UTC')",), "int64")


@ibis.udf.scalar.builtin(name="epoch_us", signature=_INSTANT_TO_US)
def _epoch_us(instant: Any) -> Any:
    """Return DuckDB's microseconds since 1970."""


@ibis.udf.scalar.builtin(name="unix_micros", signature=_INSTANT_TO_US)
def _unix_micros(instant: Any) -> Any:
    """Return Spark's microseconds since 1970."""


def _with(left: ir.Table, right: ir.Table) -> ir.Table:
    """Return `left` with the columns of `right` by `row_id`."""
    other = right.rename(other_id="row_id")
    return left.left_join(other, left.row_id == other.other_id).drop("other_id")
