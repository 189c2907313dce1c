"""The engines against each other, on the declarations that a store feeds and on real events.

Questions are made of the entities that the store holds states of, of those that events name, of entities nobody has
seen and of unknown ones, at the store's watermark and later, while its windows slide. The online store answers them;
NumPy recomputes each answer from the log at the mark that it was stamped with. They are equal or they are a mismatch.
Other offline engines answer a sample of requests of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.core.clock import MINUTE_US, SECOND_US
from flightdeck.core.errors import ConfigError, nearest
from flightdeck.events.log import EventLog
from flightdeck.events.offset import versions_of
from flightdeck.features.audit import recompute
from flightdeck.features.engines import ENGINES as OFFLINE_ENGINES
from flightdeck.features.engines import NUMPY, compare_engines
from flightdeck.features.online import OnlineReader
from flightdeck.features.reflected import reflected_us
from flightdeck.features.state_layout import split_key
from flightdeck.features.stores import FeatureStore
from flightdeck.features.view import FeatureView, OpenItems

ONLINE = "online"
ENGINES = (*OFFLINE_ENGINES, ONLINE)
LATER_US = (0, 5 * MINUTE_US, 60 * MINUTE_US)
NEVER_SEEN = "?never seen?"
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
        Of them those with a value; None where it was not counted.
    mismatches
        Number of values that differ, by feature.
    """

    view: str
    engine: str
    n_compared: int
    n_known: int | None
    mismatches: Mapping[str, int]


def chosen_engines(text: str) -> tuple[str, ...]:
    """Return the engines of a list such as `numpy,duckdb,online`.

    Raises
    ------
    ConfigError
        If one is unknown, or numpy, which all are compared with, has no other beside it.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in ENGINES:
            raise ConfigError(
                f"verifying: no engine {name!r}{nearest(name, ENGINES)}", next_step=f"use some of {', '.join(ENGINES)}"
            )
    others = tuple(name for name in names if name != NUMPY)
    if not others:
        raise ConfigError("verifying: numpy is compared with nothing", next_step="name another one: numpy,online")
    return others


def sample_entities(
    store: FeatureStore, views: Sequence[FeatureView], log: EventLog, until_us: int, n_rows: int, seed: int = 0
) -> Entities:
    """Return entity columns to ask about, some of entities never seen and some unknown.

    For each entity that views have: every key that the store holds a state of or that an event made which the views can
    still see, `n_rows` of them by lot where there are more. So a wrong, a lost and an invented state are met alike.

    Raises
    ------
    NotFoundError
        If the log lacks a stream.
    StoreUnavailable
        If the store cannot be read.
    """
    random = np.random.default_rng(seed)
    names = tuple(dict.fromkeys(name for view in views for name in view.entity))
    columns: dict[str, list[str]] = {name: [] for name in names}
    by_entity: dict[tuple[str, ...], list[FeatureView]] = {}
    for view in views:
        by_entity.setdefault(view.entity, []).append(view)
    for entity, of_entity in by_entity.items():
        if not entity:
            continue
        keys = sorted(_stored_keys(store, of_entity) | _event_keys(log, of_entity, until_us))
        chosen = random.choice(len(keys), min(len(keys), n_rows), replace=False)
        parts = np.array([keys[place] for place in chosen.tolist()], dtype=object).reshape(-1, len(entity))
        mixed = random.random(parts.shape) < 0.1  # parts meet partners that they never met
        strangers = np.where(mixed, random.permuted(parts, axis=0), parts)[mixed.any(axis=1)]
        asked = np.concatenate([parts, strangers]) if len(entity) > 1 else parts
        for name in names:
            columns[name] += asked[:, entity.index(name)].tolist() if name in entity else [""] * len(asked)
    return {name: np.array([*values, NEVER_SEEN, ""], dtype=object) for name, values in columns.items()}


def _stored_keys(store: FeatureStore, views: Sequence[FeatureView]) -> set[tuple[str, ...]]:
    """Return the parts of every key of which a store holds a state of one of the views, all of one entity."""
    with store.reading() as moment:
        found = [split_key(key, len(view.entity)) for view in views for key in moment.keys(view)]
    return {tuple(parts) for parts in found if parts is not None and all(parts)}


def _event_keys(log: EventLog, views: Sequence[FeatureView], until_us: int) -> set[tuple[str, ...]]:
    """Return the parts of every key of the events that some views, all of one entity, can see at a time."""
    entity = list(views[0].entity)
    found: set[tuple[str, ...]] = set()
    for stream in dict.fromkeys(source for view in views for source in view.sources):
        readers = [view for view in views if stream in view.sources]
        is_counted = any(isinstance(view.compute, OpenItems) for view in readers)
        reach_us = max(view.look_back_s for view in readers) * SECOND_US
        events = log.read(
            stream,
            columns=[*entity, "created_timestamp"],
            created_after_us=None if is_counted else until_us - reach_us,
            created_until_us=until_us,
        )
        rows = events.select(entity).group_by(entity).aggregate([])
        texts = [rows[name].cast(pa.string()).to_pylist() for name in entity]
        found.update(parts for parts in zip(*texts, strict=True) if all(parts))
    return found


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
        at_us, stamped_us = np.full(n_rows, served.at_us), np.full(n_rows, served.watermark_us)
        until_us = reflected_us(served.offset, stamped_us, views, asked)
        again = recompute(views, log, dict(asked), at_us, until_us, versions_of(served.offset))
        for view in views:
            n_known[view.name] += _count_differing(view, served.columns, again, found[view.name])
    return [
        Comparison(
            f"{v.name}@{v.version}", ONLINE, n_rows * len(LATER_US) * len(v.columns), n_known[v.name], found[v.name]
        )
        for v in views
    ]


def verify_offline(engine: str, views: Sequence[FeatureView], log: EventLog, n_rows: int) -> list[Comparison]:
    """Let another offline engine answer sampled requests and compare with NumPy (`engines.compare_engines`).

    Raises
    ------
    ConfigError
        If the engine cannot be started here.
    NotFoundError
        If the log lacks a stream.
    """
    differing = compare_engines(views, log, n_rows, (NUMPY, engine))
    wrong = dict(zip(differing["feature"], differing["n_mismatched"].tolist(), strict=True))
    return [
        Comparison(
            f"{view.name}@{view.version}",
            engine,
            n_rows * len(view.columns),
            None,
            {name: wrong[name] for name in view.columns if name in wrong},
        )
        for view in views
    ]


def _count_differing(view: FeatureView, theirs: Values, ours: Values, mismatches: dict[str, int]) -> int:
    """Count by feature the values that differ; return how many are known."""
    n_known = 0
    for name in view.columns:
        one, other = theirs[name], ours[name]
        n_known += int((~np.isnan(other)).sum())
        differs = ~((one == other) | (np.isnan(one) & np.isnan(other)))
        if differs.any():
            mismatches[name] = mismatches.get(name, 0) + int(differs.sum())
    return n_known
