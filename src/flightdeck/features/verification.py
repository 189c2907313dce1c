"""The engines against each other, on the declarations that a store feeds and on real events.

Questions are made of entities of recent events, of entities nobody has seen and of unknown ones, at the store's
watermark and later, while its windows slide. The online store answers them; NumPy recomputes each answer from the log
at the mark that it was stamped with. They are equal or they are a mismatch; another offline engine may differ by 1e-9.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.core.clock import MINUTE_US, SECOND_US
from flightdeck.core.errors import ConfigError, nearest
from flightdeck.events.log import EventLog
from flightdeck.events.offset import versions_of
from flightdeck.features.audit import recompute
from flightdeck.features.online import OnlineReader
from flightdeck.features.stores import FeatureStore
from flightdeck.features.view import FeatureView

NUMPY, ONLINE, DUCKDB, SPARK = "numpy", "online", "duckdb", "spark"
ENGINES = (NUMPY, DUCKDB, SPARK, ONLINE)
LATER_US = (0, 5 * MINUTE_US, 60 * MINUTE_US)
NEVER_SEEN = "?never seen?"
CLOSE = 1e-9  # relative, for what other engines sum up in another order (std, fractional units)
Entities = dict[str, npt.NDArray[np.object_]]
Values = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Comparison:
    """What two engines said of one view.

    Parameters
    ----------
    view
        Name and version of the view.
    engine
        The engine that was compared with NumPy.
    n_compared
        Values compared.
    n_known
        Of them those with a value.
    mismatches
        Number of values that differ, by feature.
    """

    view: str
    engine: str
    n_compared: int
    n_known: int
    mismatches: Mapping[str, int]


def chosen_engines(text: str) -> tuple[str, ...]:
    """Return the engines of a list such as `numpy,duckdb,online`.

    Raises
    ------
    ConfigError
        If one is unknown or not installed, or numpy, which all are compared with, has no other beside it.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in ENGINES:
            raise ConfigError(f"verifying: no engine {name!r}{nearest(name, ENGINES)}", next_step=f"use {ENGINES}")
        if name in (DUCKDB, SPARK) and find_spec("flightdeck.features.engines") is None:
            raise ConfigError(f"verifying: engine {name} is not part of this installation", next_step="leave it out")
    others = tuple(name for name in names if name != NUMPY)
    if not others:
        raise ConfigError("verifying: numpy is compared with nothing", next_step="name another one: numpy,online")
    return others


def sample_entities(views: Sequence[FeatureView], log: EventLog, until_us: int, n_rows: int, seed: int = 0) -> Entities:
    """Return entity columns of recent events of the views' sources, with some never seen and some unknown.

    Raises
    ------
    NotFoundError
        If the log lacks a stream.
    """
    names = tuple(dict.fromkeys(name for view in views for name in view.entity))
    random = np.random.default_rng(seed)
    reach_us = max(view.look_back_s for view in views) * SECOND_US
    columns: dict[str, list[Any]] = {name: [] for name in names}
    sources = tuple(dict.fromkeys(view.source for view in views))
    for source in sources:
        there = [name for name in log.columns(source) if name in names]
        events = log.read(
            source,
            columns=[*there, "created_timestamp"],
            created_after_us=until_us - reach_us,
            created_until_us=until_us,
        )
        rows = random.choice(events.num_rows, min(events.num_rows, -(-n_rows // len(sources))), replace=False)
        picked = events.take(pa.array(rows))
        for name in names:
            found = picked[name].cast(pa.string()).fill_null("").to_pylist() if name in there else [""] * len(rows)
            columns[name] += found
    entities = {name: np.array([*values, NEVER_SEEN, ""], dtype=object) for name, values in columns.items()}
    for values in entities.values():  # entities of several columns meet partners that they never met
        mixed = random.random(len(values)) < 0.1
        values[mixed] = random.permutation(values)[mixed]
    return entities


def verify_online(
    store: FeatureStore, views: Sequence[FeatureView], log: EventLog, entities: Entities
) -> list[Comparison]:
    """Read every entity at the watermark and later, recompute at the mark of the answer, and compare bit by bit.

    Raises
    ------
    StoreUnavailable
        If the store cannot be read or was fed further for one view than for another.
    NotFoundError
        If the log lacks a stream.
    """
    n_rows = len(next(iter(entities.values()), np.empty(1)))
    asked: Mapping[str, Any] = entities or {"": np.array([""], dtype=object)}
    reader = OnlineReader(store, views)
    watermark_us = reader.read(asked, 0).watermark_us
    found: dict[str, dict[str, int]] = {view.name: {} for view in views}
    n_known = dict.fromkeys(found, 0)
    for later_us in LATER_US:
        served = reader.read(asked, watermark_us + later_us)
        at_us, until_us = np.full(n_rows, served.at_us), np.full(n_rows, served.watermark_us)
        again = recompute(views, log, dict(asked), at_us, until_us, versions_of(served.offset))
        for view in views:
            n_known[view.name] += _count_differing(view, served.columns, again, found[view.name], 0.0)
    return [
        Comparison(
            f"{v.name}@{v.version}", ONLINE, n_rows * len(LATER_US) * len(v.columns), n_known[v.name], found[v.name]
        )
        for v in views
    ]


def verify_offline(
    engine: str, views: Sequence[FeatureView], log: EventLog, entities: Entities, until_us: int
) -> list[Comparison]:
    """Let another offline engine answer for every entity and compare with NumPy.

    Raises
    ------
    NotFoundError
        If the log lacks a stream.
    """
    n_rows = len(next(iter(entities.values()), np.empty(1)))
    at_us = until_us + np.resize(np.array(LATER_US), n_rows)
    known_us = np.full(n_rows, until_us)
    ours = recompute(views, log, entities, at_us, known_us)
    theirs: Values = import_module("flightdeck.features.engines").recompute_with(
        engine, views, log, entities, at_us, known_us
    )
    compared = []
    for view in views:
        mismatches: dict[str, int] = {}
        n_known = _count_differing(view, theirs, ours, mismatches, CLOSE)
        label = f"{view.name}@{view.version}"
        compared.append(Comparison(label, engine, n_rows * len(view.columns), n_known, mismatches))
    return compared


def _count_differing(
    view: FeatureView, theirs: Values, ours: Values, mismatches: dict[str, int], tolerance: float
) -> int:
    """Count by feature the values that differ by more than a relative tolerance; return how many are known."""
    n_known = 0
    for name in view.columns:
        one, other = theirs[name], ours[name]
        n_known += int((~np.isnan(other)).sum())
        differs = ~np.isclose(one, other, rtol=tolerance, atol=0.0, equal_nan=True)
        if differs.any():
            mismatches[name] = mismatches.get(name, 0) + int(differs.sum())
    return n_known
