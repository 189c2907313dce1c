"""The offline join in bounded memory: any number of requests over any number of events, part by part.

Time is cut into slices so that the requests of a slice, and its events with those that its windows look back to, stay
within a budget. A slice is joined by `join.py` like any other. What an open-items view has counted before a slice is
carried from slice to slice, one number a key. Where the look-back alone exceeds the budget, the views are joined entity
by entity, and each entity's keys in several passes, a key in the pass that its hash names; a view of no entity has one
key, which is not divided.

Two passes over the times of events and requests come first, they count them in a grid. Memory: the budget, and one
number for each key of an open-items view. Reading is cheap where files are in order of time, as an event log's are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ConfigError
from flightdeck.events.log import EventLog
from flightdeck.features.join import EntityFrame, in_order, point_in_time_joins
from flightdeck.features.view import FeatureView, OpenItems

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
GRID = 1 << 14  # cells of the time grid: a slice is at least one


@dataclass(frozen=True)
class Budget:
    """What may be in memory at once.

    Parameters
    ----------
    requests
        Requests of a slice; their features take 8 bytes each.
    events
        Events of a slice and of its look-back, over all streams.
    """

    requests: int = 1_000_000
    events: int = 8_000_000


def datasets_of(log: EventLog, streams: Sequence[str]) -> dict[str, ds.Dataset]:
    """Return streams of an event log as datasets that can be read batch by batch.

    Raises
    ------
    NotFoundError
        If the log lacks a stream.
    """
    found = {}
    for stream in streams:
        commits = [log.commit(stream, number) for number in range(log.version(stream).version + 1)]
        files = [str(file) for commit in commits for file in commit.files]
        schema = pa.unify_schemas([pq.read_schema(file) for file in files])
        found[stream] = ds.dataset(files, schema=schema, format="parquet")
    return found


def join_in_parts(
    views: Sequence[FeatureView],
    events: EventLog | Mapping[str, ds.Dataset],
    requests: ds.Dataset,
    target: Path,
    *,
    at: str = "at",
    budget: Budget = Budget(),
) -> list[Path]:
    """Join views to requests and write the result as Parquet parts, in order of time.

    Parameters
    ----------
    views
        Declarations.
    events
        Event log, or a dataset of each stream.
    requests
        Dataset of requests: the entity columns and the time of each.
    target
        Folder of the parts; made if missing, must be empty.
    at
        Column of the time: a timestamp, or int64 UTC microseconds.
    budget
        What may be in memory at once.

    Returns
    -------
    list of Path
        The parts: all columns of the requests, then the features, float64. A slice keeps the order of the dataset.

    Raises
    ------
    ConfigError
        If the target is not empty.
    NotFoundError
        If the log lacks a stream.
    ContractViolation
        If a column is missing, of another type, or holds a value that cannot be added up exactly.
    """
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise ConfigError(f"joining in parts: {target} is not empty", next_step="give an empty folder")
    streams = list(dict.fromkeys(name for view in views for name in view.sources))
    found = datasets_of(events, streams) if isinstance(events, EventLog) else {name: events[name] for name in streams}
    grid = _Grid.of(found, requests, at)
    carried = [_Carried(view) for view in views if isinstance(view.compute, OpenItems)]
    sliding = [view for view in views if not isinstance(view.compute, OpenItems)]
    parts: list[Path] = []
    for low_us, high_us in grid.slices(sliding, budget):
        rows = _between(requests, at, low_us, high_us)
        slice_ = _Slice(rows, _micros(rows[at]), found, low_us, high_us)
        joined = {} if not rows.num_rows else _sliding(sliding, slice_, grid, budget)
        for gauge in carried:
            joined.update(gauge.advance(slice_))
        if rows.num_rows:
            features = {name: pa.array(joined[name]) for view in views for name in view.columns}
            parts.append(target / f"part-{len(parts):05d}.parquet")
            columns = {name: rows[name] for name in rows.column_names}
            pq.write_table(pa.table({**columns, **features}), parts[-1])
    return parts


@dataclass
class _Slice:
    """The requests of a slice of time and where its events are."""

    rows: pa.Table
    at_us: Ints
    events: Mapping[str, ds.Dataset]
    low_us: int
    high_us: int

    def frame(self, views: Sequence[FeatureView], chosen: Ints | None = None) -> EntityFrame:
        """Return the requests (or the chosen ones) as an entity frame."""
        names = dict.fromkeys(name for view in views for name in view.entity)
        rows = self.rows.select(list(names)) if chosen is None else self.rows.select(list(names)).take(pa.array(chosen))
        columns = {name: rows[name].cast(pa.string()) for name in names}
        return EntityFrame(columns, self.at_us if chosen is None else self.at_us[chosen])

    def read(
        self, views: Sequence[FeatureView], look_back_s: int | None, part: tuple[int, int] = (0, 1)
    ) -> dict[str, pa.Table]:
        """Return the events that the views need, of the keys of one pass; `None` looks back to the slice's begin."""
        low_us = self.low_us if look_back_s is None else self.low_us - look_back_s * SECOND_US - 1
        columns: dict[str, list[str]] = {}
        for view in views:
            for name in view.sources:
                columns.setdefault(name, []).extend(view.event_columns if name == view.source else view.entity)
        return {
            name: _between(
                self.events[name], "created_timestamp", low_us, self.high_us,
                [*dict.fromkeys([*wanted, "created_timestamp", "event_id"])], views[0].entity, part,
            )
            for name, wanted in columns.items()
        }  # fmt: skip


@dataclass
class _Carried:
    """An open-items view and what it has counted before the slice at hand, by key."""

    view: FeatureView
    totals: pd.Series = field(default_factory=lambda: pd.Series(dtype=np.int64))

    def advance(self, slice_: _Slice) -> dict[str, Floats]:
        """Return the features of the slice's requests, and count the slice's events."""
        events = {name: in_order(table) for name, table in slice_.read([self.view], None).items()}
        joined = {}
        if slice_.rows.num_rows:
            column = self.view.columns[0]
            within = point_in_time_joins([self.view], events, slice_.frame([self.view]))[column]
            before = self.totals.reindex(_key_texts(slice_.rows, self.view.entity), fill_value=0).to_numpy()
            joined[column] = within + before
        for place, name in enumerate(self.view.sources):
            steps = pd.Series(_key_texts(events[name], self.view.entity)).value_counts()
            self.totals = self.totals.add(steps if place == 0 else -steps, fill_value=0).astype(np.int64)
        return joined


@dataclass
class _Grid:
    """How many requests and events lie in each cell of time; cell i covers (first + i * cell, first + (i+1) * cell]."""

    first_us: int
    cell_us: int
    requests: Ints
    events: dict[str, Ints]

    @classmethod
    def of(cls, events: Mapping[str, ds.Dataset], requests: ds.Dataset, at: str) -> "_Grid":
        bounds = [_bounds(dataset, "created_timestamp") for dataset in events.values()] + [_bounds(requests, at)]
        known = [pair for pair in bounds if pair]
        first_us = min((low for low, _ in known), default=1) - 1
        last_us = bounds[-1][1] if bounds[-1] else first_us + 1
        cell_us = max(1, -(-(last_us - first_us) // GRID))
        grid = cls(first_us, cell_us, np.zeros(GRID, dtype=np.int64), {})
        grid.requests = grid.counted(requests, at)
        grid.events = {name: grid.counted(dataset, "created_timestamp") for name, dataset in events.items()}
        return grid

    def counted(self, dataset: ds.Dataset, column: str) -> Ints:
        """Return how many rows lie in each cell; later ones do not matter."""
        counts = np.zeros(GRID, dtype=np.int64)
        for times in _times(dataset, column):
            cell = (times - self.first_us - 1) // self.cell_us
            counts += np.bincount(cell[cell < GRID], minlength=GRID)
        return counts

    def n_events(self, views: Sequence[FeatureView], low_us: int, high_us: int) -> int:
        """Return at most how many events the views read for a slice, look-back included."""
        reach_us = max((view.look_back_s for view in views), default=0) * SECOND_US
        low = max(0, (low_us - reach_us - 1 - self.first_us) // self.cell_us)
        high = -(-(high_us - self.first_us) // self.cell_us)
        return int(sum(self.events[name][low:high].sum() for name in {n for view in views for n in view.sources}))

    def slices(self, views: Sequence[FeatureView], budget: Budget) -> Iterator[tuple[int, int]]:
        """Yield consecutive slices of time, each as long as the budget lets it be, one cell at least."""
        every = sum(self.events.values(), np.zeros(GRID, dtype=np.int64))
        reach = -(-max((view.look_back_s for view in views), default=0) * SECOND_US // self.cell_us) + 1
        sums = np.concatenate([[0], np.cumsum(every)])
        asked = np.concatenate([[0], np.cumsum(self.requests)])
        low = 0
        while low < GRID and (asked[-1] > asked[low]):
            base = sums[max(0, low - reach)]
            look_back = sums[low] - base
            room = max(
                budget.events - look_back, budget.events // 4
            )  # look-back that fills the budget is read in passes
            high = int(np.searchsorted(sums, sums[low] + room, side="right")) - 1
            high = min(high, int(np.searchsorted(asked, asked[low] + budget.requests, side="right")) - 1, GRID)
            high = max(high, low + 1)
            yield self.first_us + low * self.cell_us, self.first_us + high * self.cell_us
            low = high


def _sliding(views: Sequence[FeatureView], slice_: _Slice, grid: _Grid, budget: Budget) -> dict[str, Floats]:
    """Join windowed and latest views to a slice: at once, or entity by entity in passes over the keys."""
    if not views:
        return {}
    joined: dict[str, Floats] = {}
    if grid.n_events(views, slice_.low_us, slice_.high_us) <= budget.events:
        groups = [list(views)]
    else:
        groups = [[view for view in views if view.entity == entity] for entity in {v.entity: None for v in views}]
    for group in groups:
        look_back_s = max(view.look_back_s for view in group)
        n_passes = -(-grid.n_events(group, slice_.low_us, slice_.high_us) // budget.events) if len(groups) > 1 else 1
        n_passes = max(1, n_passes if group[0].entity else 1)
        if n_passes == 1:
            joined.update(point_in_time_joins(group, slice_.read(group, look_back_s), slice_.frame(group)))
            continue
        columns = [name for view in group for name in view.columns]
        joined.update({name: np.full(slice_.rows.num_rows, np.nan) for name in columns})
        part_of = _part_of(slice_.rows, group[0].entity, n_passes)
        for number in range(n_passes):
            chosen = np.flatnonzero(part_of == number)
            events = slice_.read(group, look_back_s, (number, n_passes))
            for name, values in point_in_time_joins(group, events, slice_.frame(group, chosen)).items():
                joined[name][chosen] = values
    return joined


def _between(
    dataset: ds.Dataset,
    column: str,
    low_us: int,
    high_us: int,
    columns: list[str] | None = None,
    entity: tuple[str, ...] = (),
    part: tuple[int, int] = (0, 1),
) -> pa.Table:
    """Return the rows with `low < time <= high` whose key falls to a part, read batch by batch."""
    kind = dataset.schema.field(column).type
    low, high = (pa.scalar(bound, pa.int64()).cast(kind) for bound in (low_us, high_us))
    condition = (pc.field(column) > low) & (pc.field(column) <= high)
    number, n_parts = part
    if n_parts == 1:
        return dataset.to_table(columns=columns, filter=condition)
    kept = []
    for batch in dataset.scanner(columns=columns, filter=condition).to_batches():
        table = pa.table(batch)
        kept.append(table.filter(pa.array(_part_of(table, entity, n_parts) == number)))
    schema = pa.schema([dataset.schema.field(name) for name in columns or dataset.schema.names])
    return pa.concat_tables(kept) if kept else schema.empty_table()


def _part_of(rows: pa.Table, entity: tuple[str, ...], n_parts: int) -> Ints:
    hashed = pd.util.hash_array(_key_texts(rows, entity), categorize=True)
    return np.asarray(hashed % np.uint64(n_parts), dtype=np.int64)


def _key_texts(rows: pa.Table, entity: tuple[str, ...]) -> npt.NDArray[np.object_]:
    """Return each row's key as one text; what is unknown is the empty text."""
    if not entity:
        return np.full(rows.num_rows, "", dtype=object)
    texts = [rows[name].cast(pa.string()).fill_null("") for name in entity]
    joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "\x1f")
    return np.asarray(joined.to_numpy(zero_copy_only=False), dtype=object)


def _times(dataset: ds.Dataset, column: str) -> Iterator[Ints]:
    for batch in dataset.scanner(columns=[column]).to_batches():
        yield _micros(batch.column(column))


def _bounds(dataset: ds.Dataset, column: str) -> tuple[int, int] | None:
    pairs = [(int(times.min()), int(times.max())) for times in _times(dataset, column) if len(times)]
    return (min(low for low, _ in pairs), max(high for _, high in pairs)) if pairs else None


def _micros(times: pa.Array | pa.ChunkedArray) -> Ints:
    kind = times.type
    micros = times.cast(pa.timestamp("us", kind.tz)) if pa.types.is_timestamp(kind) else times
    return np.asarray(micros.cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)
