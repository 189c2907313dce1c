"""Random declarations, events and requests of a small stream `clicks`, closed by `closed`: laws for all engines."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from flightdeck.events.stream import INSTANT, Stream
from flightdeck.features import aggregates as agg
from flightdeck.features.aggregates import Aggregate
from flightdeck.features.view import FeatureView, Latest, OpenItems, Windowed

SECOND_US = 1_000_000
NOON_US = 1_378_987_200_000_000  # 2013-09-12 12:00 UTC
PAYLOAD = {
    "user": pa.string(),
    "item": pa.string(),
    "amount": pa.int64(),
    "score": pa.int64(),  # sometimes null
    "price": pa.float64(),  # sometimes null, NaN or infinite
    "is_new": pa.bool_(),
}
CLICKS, CLOSED = Stream("clicks", PAYLOAD, slo_s=60), Stream("closed", PAYLOAD, slo_s=60)
USERS, ITEMS = ["ann", "bob", "cem", ""], ["x", "y", "z", "zz"]
NUMBERS = ("amount", "score", "price", "is_new")

_numeric = st.one_of(
    st.sampled_from([agg.total("amount"), agg.mean("amount"), agg.std("amount"), agg.mean("score"), agg.std("score")]),
    st.sampled_from([agg.total("price", resolution=0.01), agg.mean("price", resolution=0.25), agg.share("is_new")]),
    st.sampled_from([agg.share("amount", ">=", 3), agg.share("item", "==", "x"), agg.share("price", "<", 0.5)]),
    st.sampled_from([agg.share("item", "!=", "y"), agg.std("price", resolution=0.01), agg.mean("is_new")]),
)
_chosen = st.one_of(
    st.builds(
        lambda make, column: make(column),
        st.sampled_from([agg.lowest, agg.highest, agg.last]),
        st.sampled_from(NUMBERS),
    ),
    st.sampled_from([agg.count(), agg.since_last(), agg.distinct("item"), agg.distinct("item", at_most=2)]),
    st.sampled_from([agg.distinct("amount", at_most=3), agg.distinct("price"), agg.distinct("score")]),
)
_entities = st.sampled_from([(), ("user",), ("user", "item"), ("item",)])
_windows = st.lists(st.sampled_from([1, 30, 60, 90, 600, 1800, 5400, 86_400]), min_size=1, max_size=3, unique=True)


@st.composite
def windowed_views(draw: st.DrawFn) -> FeatureView:
    """Return a view of random aggregates over random windows."""
    chosen: list[Aggregate] = draw(
        st.lists(st.one_of(_numeric, _chosen), min_size=1, max_size=5, unique_by=lambda a: a.label)
    )
    return FeatureView("w", draw(_entities), "clicks", Windowed(tuple(draw(_windows)), tuple(chosen)), "tests")


def views() -> st.SearchStrategy[FeatureView]:
    """Return random views of all three kinds."""
    latest = st.builds(
        lambda entity, ttl_s: FeatureView("l", entity, "clicks", Latest(("amount", "price")), "tests", ttl_s=ttl_s),
        _entities,
        st.sampled_from([60, 3600]),
    )
    gauges = st.builds(lambda entity: FeatureView("o", entity, "clicks", OpenItems(("closed",)), "tests"), _entities)
    return st.one_of(windowed_views(), windowed_views(), windowed_views(), latest, gauges)


@dataclass(frozen=True)
class Case:
    """Events and requests: entity columns of strings and times, UTC microseconds."""

    events: dict[str, pa.Table]
    columns: dict[str, np.ndarray]
    at_us: np.ndarray

    def entity(self, row: int) -> dict[str, str]:
        """Return the entity of one request."""
        return {name: str(values[row]) for name, values in self.columns.items()}


@st.composite
def cases(draw: st.DrawFn, max_events: int = 60, n_requests: int = 12) -> Case:
    """Return random events (bursts, ties, gaps, nulls, in order of knowledge) and requests around them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_events = draw(st.sampled_from([0, 1, 5, max_events // 2, max_events]))
    span_s = draw(st.sampled_from([30, 600, 7200, 200_000]))
    events = {s.name: random_table(random, s, n_events, span_s) for s in (CLICKS, CLOSED)}
    at_us = NOON_US + random.integers(-10, span_s + span_s // 2 + 90, n_requests) * SECOND_US
    at_us += random.choice([0, 0, 1, 500_000], n_requests)
    created = events["clicks"]["created_timestamp"].cast(pa.int64()).to_numpy()
    if len(created):
        at_us[: n_requests // 3] = random.choice(created, n_requests // 3)  # a request at the very moment of an event
    columns = {
        "user": random.choice(np.array([*USERS, "nobody"], dtype=object), n_requests),
        "item": random.choice(np.array([*ITEMS, ""], dtype=object), n_requests),
    }
    return Case(events, columns, at_us.astype(np.int64))


def random_table(random: np.random.Generator, stream: Stream, n: int, span_s: int) -> pa.Table:
    """Return random events in order of knowledge, each id once."""
    created = NOON_US + random.integers(0, span_s, n) * SECOND_US + random.choice([0, 0, 250_000, 1], n)
    if n > 4:
        created[: n // 4] = created[0]  # a burst of ties
    order = np.lexsort((np.arange(n), created))
    prices = random.choice([0.0, 0.1, 0.25, 1.005, -3.3, 1e6, np.nan, np.inf, -np.inf], n)
    columns = {
        "event_id": pa.array([f"{stream.name}-{random.integers(10)}-{i}" for i in range(n)], pa.string()),
        "event_timestamp": pa.array(created - SECOND_US, pa.int64()).cast(INSTANT),
        "created_timestamp": pa.array(created, pa.int64()).cast(INSTANT),
        "source": pa.array(["test"] * n, pa.string()),
        "source_offset": pa.array(np.arange(n), pa.int64()),
        "user": pa.array([u or None if random.random() < 0.5 else u for u in random.choice(USERS, n)], pa.string()),
        "item": pa.array(random.choice(ITEMS, n).tolist(), pa.string()),
        "amount": pa.array(random.integers(-5, 9, n), pa.int64()),
        "score": pa.array([None if random.random() < 0.4 else int(v) for v in random.integers(0, 1000, n)], pa.int64()),
        "price": pa.array([None if random.random() < 0.2 else float(v) for v in prices], pa.float64()),
        "is_new": pa.array([bool(v) for v in random.integers(0, 2, n)], pa.bool_()),
    }
    table = pa.table(columns).take(pa.array(order))
    return table.sort_by([("created_timestamp", "ascending"), ("event_id", "ascending")])
