"""Advancing online states by a batch of events, all keys of a view at once.

The result is a function of the set of events: it does not depend on their order or on how they are cut into batches.
Rows that no window can ask for any more at `now_us` or later are dropped, so a state stays bounded: about 62 rows a
window. Cost: a few NumPy passes over all rows of the touched keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.clock import SECOND_US
from flightdeck.features.measures import add_up, column_of, values_of
from flightdeck.features.state_layout import (
    NEVER_US,
    Layout,
    Ragged,
    Track,
    as_bits,
    as_floats,
    entity_keys,
    layout_of,
    pack,
    unpack,
)
from flightdeck.features.view import FeatureView, Latest, Windowed

Ints = npt.NDArray[np.int64]
MAX_CODES = 2**62  # combinations of some parts that are told apart by one number


@dataclass(frozen=True)
class KeyedEvents:
    """Events of one view whose entity is known, in order of knowledge.

    Parameters
    ----------
    keys
        The different entity keys.
    place
        Place of each event's key in `keys`, shape `(n_events,)`.
    created_us
        Time of knowledge, shape `(n_events,)`, ascending.
    table
        The events themselves, in the same order.
    weight
        +1 or -1 of each event for a gauge, shape `(n_events,)`.
    """

    keys: list[str]
    place: Ints
    created_us: Ints
    table: pa.Table
    weight: Ints

    def owned(self, mask: npt.NDArray[np.bool_]) -> "KeyedEvents":
        """Keep the events of some keys; `mask` has shape `(n_keys,)`."""
        if mask.all():
            return self
        kept = np.flatnonzero(mask[self.place])
        number = np.cumsum(mask) - 1
        keys = [key for key, is_kept in zip(self.keys, mask.tolist(), strict=True) if is_kept]
        table = self.table.take(pa.array(kept))
        return KeyedEvents(keys, number[self.place[kept]], self.created_us[kept], table, self.weight[kept])


def key_events(view: FeatureView, events: Sequence[tuple[pa.Table, int]]) -> KeyedEvents:
    """Return the events of a view by entity key; those with an empty or missing part of the key are left out.

    Parameters
    ----------
    view
        Declaration.
    events
        Tables with their weight (+1 for the source, -1 for what closes an item).
    """
    names = list(dict.fromkeys(["created_timestamp", "event_id", *view.event_columns]))
    tables = [table.select([name for name in names if name in table.column_names]) for table, _ in events]
    table = pa.concat_tables(tables, promote_options="default")
    weight = np.concatenate([np.full(t.num_rows, w, dtype=np.int64) for t, (_, w) in zip(tables, events, strict=True)])
    created_us = table["created_timestamp"].cast(pa.int64()).to_numpy()
    if len(created_us) and not (np.diff(created_us) > 0).all():
        order = pc.sort_indices(table, [("created_timestamp", "ascending"), ("event_id", "ascending")])
        table, rows = table.take(order), order.to_numpy()
        created_us, weight = created_us[rows], weight[rows]
    keys, place = _entity_keys(view, table)
    known = place >= 0
    if not known.all():
        table = table.filter(pa.array(known))
        created_us, weight, place = created_us[known], weight[known], place[known]
    return KeyedEvents(keys, place, np.asarray(created_us, dtype=np.int64), table, weight)


def advance(view: FeatureView, states: Sequence[bytes | None], events: KeyedEvents, now_us: int) -> list[bytes]:
    """Return the states of `events.keys` after the events.

    Parameters
    ----------
    view
        Declaration.
    states
        Packed state of each key before, None for a new key.
    events
        What became known; an event may be older than others that were applied before.
    now_us
        The states will be asked for this time or later, UTC microseconds.

    Raises
    ------
    ContractViolation
        If a column is missing, has another type, or holds a value that cannot be added up exactly.
    """
    layout = layout_of(view)
    last_us, tracks = unpack(layout, states)
    last_us = last_us.copy()
    np.maximum.at(last_us, events.place, events.created_us)
    if isinstance(view.compute, Windowed):
        tracks = _windowed(view, layout, tracks, events, now_us)
    elif isinstance(view.compute, Latest):
        values = [values_of(events.table, name) for name in view.compute.columns]
        tracks = [_last(layout.tracks[0], tracks[0], events, np.arange(len(events.place)), values)]
    else:
        totals = np.zeros(len(states), dtype=np.int64)
        totals[tracks[0].key] = tracks[0].columns[0]
        np.add.at(totals, events.place, events.weight)
        tracks = [Ragged(np.arange(len(states)), [totals])]
    return pack(layout, last_us, tracks)


def _windowed(
    view: FeatureView, layout: Layout, tracks: list[Ragged], events: KeyedEvents, now_us: int
) -> list[Ragged]:
    finest_us = min(view.tiles_us.values())
    end_us = -(-events.created_us // finest_us) * finest_us
    oldest_us = min(_tail(now_us, window_s, tile_us) for window_s, tile_us in view.tiles_us.items())
    after = []
    for track, rows in zip(layout.tracks, tracks, strict=True):
        if track.kind == "totals":
            added = [add_up(measure, events.table) for measure in layout.measures]
            after.append(_totals(view, rows, Ragged(events.place, [end_us, *added]), now_us))
        elif track.kind in ("min", "max"):
            values = values_of(events.table, track.columns[0])
            known = np.flatnonzero(~np.isnan(values))
            fresh = Ragged(events.place[known], [end_us[known], as_bits(values[known])])
            after.append(_extremes(rows, fresh, oldest_us, sign=1.0 if track.kind == "min" else -1.0))
        elif track.kind == "distinct":
            hashes, is_known = hashed(events.table, track.columns[0])
            known = np.flatnonzero(is_known)
            fresh = Ragged(events.place[known], [end_us[known], hashes[known]])
            after.append(_distinct(rows, fresh, oldest_us, track.at_most))
        else:
            values = values_of(events.table, track.columns[0])
            after.append(_last(track, rows, events, np.flatnonzero(~np.isnan(values)), [values]))
    return after


def _totals(view: FeatureView, rows: Ragged, fresh: Ragged, now_us: int) -> Ragged:
    """Add events to running totals and drop the rows that no tail can fall on."""
    first = np.flatnonzero(np.diff(rows.key, prepend=-1))
    steps = []
    for column in rows.columns[1:]:
        step = np.diff(column, prepend=np.int64(0))
        step[first] = column[first]
        steps.append(step)
    merged = _by_end(rows.key, rows.columns[0], fresh.key, fresh.columns[0])
    key, end_us = merged.key, merged.end_us
    firsts = np.flatnonzero(np.diff(key, prepend=-1))
    totals = []
    for step, new in zip(steps, fresh.columns[1:], strict=True):
        summed = np.add.reduceat(np.concatenate([step, new])[merged.order], merged.groups) if len(key) else step
        running = np.cumsum(summed)
        before = running[firsts] - summed[firsts]
        totals.append(running - np.repeat(before, np.diff(firsts, append=len(key))))
    return Ragged(key, [end_us, *totals]).take(_askable(view, key, end_us, now_us))


@dataclass(frozen=True)
class _Merged:
    """Two sets of rows in one order, and where each (key, end) group begins in it."""

    order: Ints
    groups: Ints
    key: Ints
    end_us: Ints


def _by_end(key: Ints, end_us: Ints, fresh_key: Ints, fresh_end_us: Ints) -> _Merged:
    keys, ends = np.concatenate([key, fresh_key]), np.concatenate([end_us, fresh_end_us])
    order = in_order(keys, ends)
    keys, ends = keys[order], ends[order]
    is_new = np.empty(len(keys), dtype=bool)
    is_new[:1] = True
    is_new[1:] = (keys[1:] != keys[:-1]) | (ends[1:] != ends[:-1])
    groups = np.flatnonzero(is_new)
    return _Merged(order, groups, keys[groups], ends[groups])


def in_order(key: Ints, time_us: Ints) -> Ints:
    """Return the stable order of rows by key, of at least 0, and time; as one number they sort much faster."""
    low_us = int(time_us.min(initial=np.iinfo(np.int64).max))
    n_us = int(time_us.max(initial=low_us)) - low_us + 1
    if (int(key.max(initial=0)) + 1) * n_us > MAX_CODES:  # they do not fit
        return np.lexsort((time_us, key))
    return np.argsort(key * n_us + (time_us - low_us), kind="stable")


def _askable(view: FeatureView, key: Ints, end_us: Ints, now_us: int) -> npt.NDArray[np.bool_]:
    """Return the rows that are some key's last, or that a tail of some window can fall on now or later."""
    following = np.full(len(key), np.iinfo(np.int64).max)
    same = key[1:] == key[:-1]
    following[:-1][same] = end_us[1:][same]
    kept: npt.NDArray[np.bool_] = following == np.iinfo(np.int64).max
    for window_s, tile_us in view.tiles_us.items():
        tail_us = np.maximum(end_us, _tail(now_us, window_s, tile_us))
        kept |= -(-tail_us // tile_us) * tile_us < following
    return kept


def _extremes(rows: Ragged, fresh: Ragged, oldest_us: int, sign: float) -> Ragged:
    """Keep the rows whose value no later one reaches; `sign` is -1 for the greatest."""
    key = np.concatenate([rows.key, fresh.key])
    end_us = np.concatenate([rows.columns[0], fresh.columns[0]])
    values = sign * as_floats(np.concatenate([rows.columns[1], fresh.columns[1]]))
    order = np.lexsort((-values, end_us, key))  # in one tile the extreme comes last and beats the others
    order = order[end_us[order] > oldest_us]
    key, end_us, values = key[order], end_us[order], values[order]
    n_rows = len(key)
    if not n_rows:
        return Ragged(key, [end_us, as_bits(values)])
    by_value = np.argsort(values, kind="stable")
    rank = np.empty(n_rows, dtype=np.int64)
    rank[by_value] = np.arange(n_rows)
    least = np.minimum.accumulate((rank + key * n_rows)[::-1])[::-1]
    kept = np.ones(n_rows, dtype=bool)
    same = key[1:] == key[:-1]
    later = values[by_value[least[1:] - key[1:] * n_rows]]
    kept[:-1] = ~same | (values[:-1] < later)
    return Ragged(key[kept], [end_us[kept], as_bits(sign * values[kept])])


def _distinct(rows: Ragged, fresh: Ragged, oldest_us: int, at_most: int) -> Ragged:
    """Keep the tile that saw each value last, and of each key the `at_most` latest values."""
    key = np.concatenate([rows.key, fresh.key])
    end_us = np.concatenate([rows.columns[0], fresh.columns[0]])
    hashes = np.concatenate([rows.columns[1], fresh.columns[1]])
    order = np.lexsort((end_us, hashes, key))
    key, end_us, hashes = key[order], end_us[order], hashes[order]
    is_last = np.ones(len(key), dtype=bool)
    is_last[:-1] = (key[1:] != key[:-1]) | (hashes[1:] != hashes[:-1])
    kept = np.flatnonzero(is_last & (end_us > oldest_us))
    kept = kept[np.lexsort((hashes[kept], end_us[kept], key[kept]))]
    key = key[kept]
    n_after = np.searchsorted(key, key, side="right") - np.arange(len(key))
    kept = kept[n_after <= at_most]
    return Ragged(key[n_after <= at_most], [end_us[kept], hashes[kept]])


def _last(
    track: Track, rows: Ragged, events: KeyedEvents, which: Ints, values: Sequence[npt.NDArray[np.float64]]
) -> Ragged:
    """Replace the last event of the keys for which one of `which` comes later by (created, event id)."""
    place = events.place[which]
    by_key = np.argsort(place, kind="stable")
    is_last = np.ones(len(by_key), dtype=bool)
    is_last[:-1] = np.diff(place[by_key]) != 0
    chosen = which[by_key[is_last]]
    ids = events.table["event_id"].take(pa.array(chosen)).to_pylist()
    flat, starts = rows.columns[0], np.flatnonzero(np.diff(rows.key, prepend=-1))
    ends = np.append(starts, len(flat))[1:]
    before = dict(zip(rows.key[starts].tolist(), zip(starts.tolist(), ends.tolist(), strict=True), strict=True))
    parts = {key: flat[start:end] for key, (start, end) in before.items()}
    numbers = np.stack([events.created_us[chosen], *(as_bits(column[chosen]) for column in values)], axis=1)
    for key, event_id, row in zip(events.place[chosen].tolist(), ids, numbers, strict=True):
        words = _words(event_id)
        old = parts.get(key)
        if old is None or _order(row[0], words) >= _order(old[0], old[track.n_columns :]):
            parts[key] = np.concatenate([row, words])
    keys = sorted(parts)
    lengths = [len(parts[key]) for key in keys]
    content = np.concatenate([parts[key] for key in keys]) if keys else np.empty(0, dtype=np.int64)
    return Ragged(np.repeat(np.array(keys, dtype=np.int64), lengths), [content])


def hashed(table: pa.Table, name: str) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return a 64-bit hash of each value of a column, the same in every process, and where there is a value."""
    column = column_of(table, name)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = values_of(table, name)
        known = ~np.isnan(values)
        hashes = pd.util.hash_array(np.where(known, values, 0.0) + 0.0)
    else:
        encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
        known = np.asarray(encoded.is_valid().to_numpy(zero_copy_only=False))
        words = pd.util.hash_array(np.array([*encoded.dictionary.to_pylist(), ""], dtype=object), categorize=False)
        hashes = words[encoded.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)]
    return hashes.view(np.int64), known


def _entity_keys(view: FeatureView, table: pa.Table) -> tuple[list[str], Ints]:
    """Return the different keys and each event's place among them, -1 where a part of the key is unknown."""
    if not view.entity:
        return [""], np.zeros(table.num_rows, dtype=np.int64)
    codes, known, n_codes = np.zeros(table.num_rows, dtype=np.int64), np.ones(table.num_rows, dtype=bool), 1
    parts: list[tuple[list[str], Ints]] = []
    for name in view.entity:
        encoded = column_of(table, name).cast(pa.string()).combine_chunks().dictionary_encode()
        order = pc.sort_indices(encoded.dictionary)  # a store finds keys sooner, and keeps them, in their order
        values = encoded.dictionary.take(order).to_pylist()
        number = np.zeros(max(1, len(values)), dtype=np.int64)
        number[order.to_numpy()] = np.arange(len(values))
        place = number[encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)]
        known &= encoded.is_valid().to_numpy(zero_copy_only=False)
        if "" in values:
            known &= place != values.index("")
        if n_codes * len(values) > MAX_CODES:  # number the combinations that occur: their product would not fit int64
            present, codes = np.unique(codes, return_inverse=True)
            n_codes = len(present)
        codes, n_codes = codes * max(1, len(values)) + place, n_codes * max(1, len(values))
        parts.append((values, place))
    rows = np.flatnonzero(known)
    unique, place = np.unique(codes[rows], return_inverse=True)
    result = np.full(table.num_rows, -1, dtype=np.int64)
    result[rows] = place
    example = np.empty(len(unique), dtype=np.int64)
    example[place] = rows  # some event of each key
    return entity_keys([[values[code] for code in its[example].tolist()] for values, its in parts]), result


def _tail(at_us: int, window_s: int, tile_us: int) -> int:
    return (at_us - window_s * SECOND_US) // tile_us * tile_us


def _words(event_id: str) -> Ints:
    """Return an event id as whole words, padded with zeros."""
    content = event_id.encode()
    return np.frombuffer(content + bytes(-len(content) % 8), dtype=np.int64)


def _order(created_us: np.int64, words: Ints) -> tuple[int, bytes]:
    return int(created_us), words.tobytes().rstrip(b"\0")


__all__ = ["NEVER_US", "KeyedEvents", "advance", "hashed", "in_order", "key_events"]
