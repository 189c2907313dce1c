"""What the laws over all engines need: a comparison with the reference, and events that reach a store in any order."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.stores import FeatureStore, Mark
from flightdeck.features.view import FeatureView, Windowed
from tests.flightdeck.features.declarations import SECOND_US, Case
from tests.flightdeck.features.naive import naive

HOUR_US = 3600 * SECOND_US
TIMES = int(os.environ.get("FLIGHTDECK_PARITY", "1"))
EVERY_KEY = [(user, item) for user in ("ann", "bob", "cem", "nobody", "") for item in ("x", "y", "z", "zz", "")]
Floats = npt.NDArray[np.float64]


def thorough(n_examples: int) -> settings:
    """Return settings for this many cases, more where the environment asks for them."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=n_examples * TIMES, deadline=None, suppress_health_check=slow)


def assert_equal(view: FeatureView, found: dict[str, Floats], expected: Sequence[Sequence[float]]) -> None:
    """Compare an engine's features with the reference's: equal bits, except a standard deviation's last ones."""
    reference = np.array(expected, dtype=np.float64).reshape(len(expected), len(view.columns))
    for place, name in enumerate(view.columns):
        if is_exact(view, place):
            what = f"{name} of {view.compute}"
            np.testing.assert_array_equal(found[name], reference[:, place], err_msg=what)
            np.testing.assert_array_equal(as_bits(found[name]), as_bits(reference[:, place]), err_msg=what)
        else:
            np.testing.assert_allclose(found[name], reference[:, place], rtol=1e-9, atol=1e-9, err_msg=name)


def as_bits(values: Floats) -> npt.NDArray[np.int64]:
    """Return values as the bits that they are, one NaN like another: 0.0 is not -0.0 here."""
    return np.where(np.isnan(values), np.nan, values).view(np.int64)


def is_exact(view: FeatureView, place: int) -> bool:
    """Tell whether a feature is equal bit by bit in every engine."""
    if not isinstance(view.compute, Windowed):
        return True
    return view.compute.aggregates[place % len(view.compute.aggregates)].kind != "std"


@dataclass(frozen=True)
class Arrival:
    """A batch that reaches the store, the watermark after it, and when it is asked then."""

    rows: dict[str, npt.NDArray[np.int64]]
    watermark_us: int
    asked_us: tuple[int, ...]


@st.composite
def arrivals(draw: st.DrawFn, case: Case) -> list[Arrival]:
    """Return how the events of a case reach a store: in batches, in any order, some of them late."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    p_late = draw(st.sampled_from([0.0, 0.0, 0.3, 0.8]))
    created = {name: table["created_timestamp"].cast(pa.int64()).to_numpy() for name, table in case.events.items()}
    waiting = {name: random.permutation(len(times)) for name, times in created.items()}
    stops = sorted({*random.choice(case.at_us, min(len(case.at_us), draw(st.integers(1, 5)))).tolist()})
    result = []
    for watermark_us in [*stops, max(stops) + int(random.integers(1, 100_000)) * SECOND_US]:
        rows = {}
        for name, places in waiting.items():
            comes = (created[name][places] <= watermark_us) & (random.random(len(places)) >= p_late)
            rows[name], waiting[name] = places[comes], places[~comes]
        later_us = [watermark_us + int(wait) for wait in random.choice([1, SECOND_US, 61 * SECOND_US, 7 * HOUR_US], 1)]
        result.append(Arrival(rows, watermark_us, (watermark_us, *later_us, watermark_us + HOUR_US)))
    return result


def feed_and_compare(store: FeatureStore, view: FeatureView, case: Case, batches: Sequence[Arrival]) -> None:
    """Apply batch after batch; whatever has arrived then, the store's answers are the reference's."""
    with store.writing() as moment:
        moment.clear(view)
        moment.declare(view)
        moment.set_mark(view, Mark(-(10**15), ""))
    materializer, reader = Materializer(store, [view]), OnlineReader(store, [view])
    columns = {name: [key[place] for key in EVERY_KEY] for place, name in enumerate(("user", "item"))}
    arrived = {name: table.slice(0, 0) for name, table in case.events.items()}
    for number, batch in enumerate(batches):
        news = {name: case.events[name].take(pa.array(places)) for name, places in batch.rows.items()}
        materializer.apply(news, batch.watermark_us, offset=f"clicks@{number}")
        arrived = {name: pa.concat_tables([arrived[name], news[name]]) for name in arrived}
        for at_us in batch.asked_us:
            served = reader.read(columns, at_us)
            assert (served.at_us, served.watermark_us) == (at_us, batch.watermark_us)
            asked = ({"user": user, "item": item} for user, item in EVERY_KEY)
            assert_equal(view, served.columns, [naive(view, arrived, entity, at_us) for entity in asked])
