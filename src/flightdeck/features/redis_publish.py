"""Putting events on the Redis streams: each event goes to every partition that holds one of its states."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.features.redis_entry import Rows, encode, heartbeat, kept, without_views
from flightdeck.features.redis_keys import counters_key, partitions_of, stream_key
from flightdeck.features.redis_store import RedisStore
from flightdeck.features.state_layout import KEY_SEPARATOR, entity_keys
from flightdeck.features.streaming import StreamUnavailable
from flightdeck.features.view import FeatureView

MAX_BACKLOG = 1_000
ENTRY_EVENTS = 5_000
_LOOK_AGAIN_S = 0.02


class RedisPublisher:
    """Writes events for the consumers.

    Parameters
    ----------
    store
        The store that the events are for: it knows the partitions and the views.
    max_backlog
        Entries of a partition that may wait; an entry holds up to `ENTRY_EVENTS` events.
    """

    def __init__(self, store: RedisStore, max_backlog: int = MAX_BACKLOG) -> None:
        self._store = store
        self._max_backlog = max_backlog

    @classmethod
    def open(cls, url: str, max_backlog: int = MAX_BACKLOG) -> "RedisPublisher":
        """Connect to the Redis at an address; see `RedisStore.open`."""
        return cls(RedisStore.open(url, read_only=False), max_backlog)

    def close(self) -> None:
        """Close all connections; closing again does nothing."""
        self._store.close()

    def publish(self, stream: str, rows: Rows, watermark_us: int | None = None, timeout_s: float = 0.0) -> int:
        """Publish events of one stream; return the number of entries.

        One transaction on a server. In a cluster one per partition: after an error publish the same events again, the
        partitions that have them already count each event id once.

        Parameters
        ----------
        stream
            Name of the event stream.
        rows
            A table, or rows as dictionaries.
        watermark_us
            Everything known until then is published after this; goes to every partition, so that those without news
            keep up. None: the newest event that the consumers accept says.
        timeout_s
            How long to wait for consumers that are behind.

        Raises
        ------
        StreamUnavailable
            If too much waits already in one of the partitions; nothing is published.
        StoreUnavailable
            If Redis does not answer.
        """
        rows = without_views(rows)
        readers = self._readers(stream)
        n_entries = self._publish(stream, rows, watermark_us, timeout_s, readers)
        while (now := self._readers(stream)) != readers:  # a version was declared meanwhile: it must not miss these
            readers = now
            n_entries += self._publish(stream, rows, watermark_us, timeout_s, readers)
        return n_entries

    def _publish(
        self, stream: str, rows: Rows, watermark_us: int | None, timeout_s: float, readers: Sequence[FeatureView]
    ) -> int:
        entries: list[tuple[int, list[Any], int]] = []
        for partition, mask in self._routes(rows, readers):
            part = rows if mask is None else kept(rows, mask)
            for start in range(0, len(part), ENTRY_EVENTS):
                cut = part[start : start + ENTRY_EVENTS]
                is_last = start + ENTRY_EVENTS >= len(part)
                entries.append((partition, encode(stream, cut, watermark_us if is_last else None), len(cut)))
            if not len(part) and watermark_us is not None:
                entries.append((partition, heartbeat(watermark_us), 0))
        partitions = sorted({partition for partition, _, _ in entries})
        with self._store.nodes.asking("publishing events to"):
            self._wait_for_room(partitions, timeout_s)
            for room in self._store.nodes.rooms(partitions) if partitions else ():
                with self._store.nodes.of_partition(room[0]).pipeline(transaction=True) as pipeline:
                    for partition, fields, n_rows in entries:
                        if partition in room:
                            pipeline.execute_command("XADD", stream_key(partition), "*", *fields)
                            pipeline.execute_command("HINCRBY", counters_key(partition), "published", n_rows)
                    if watermark_us is not None:
                        for partition in room:
                            pipeline.execute_command("HSET", counters_key(partition), "newest_us", watermark_us)
                    pipeline.execute()
        return len(entries)

    def _readers(self, stream: str) -> list[FeatureView]:
        """Return the versions that say where events go; none are needed where there is one partition."""
        if self._store.n_partitions == 1:
            return []
        with self._store.reading() as moment:
            return [view for view in moment.declared().values() if stream in view.sources]

    def _routes(self, rows: Rows, readers: Sequence[FeatureView]) -> list[tuple[int, npt.NDArray[np.bool_] | None]]:
        """Return for every partition which rows it needs; None for all of them."""
        n_partitions = self._store.n_partitions
        if n_partitions == 1:
            return [(0, None)]
        wanted = np.zeros((n_partitions, len(rows)), dtype=bool)
        everything = np.arange(len(rows))
        for view in readers:
            home = _homes(view, rows, n_partitions)
            known = home >= 0
            wanted[home[known], everything[known]] = True
        wanted[0, ~wanted.any(axis=0)] = True  # nobody's events, and those that will become dead letters
        return list(enumerate(wanted))

    def _wait_for_room(self, partitions: Sequence[int], timeout_s: float) -> None:
        """Wait until no partition has too much waiting."""
        deadline = time.monotonic() + timeout_s
        while partitions:
            waiting = self._store.nodes.ask([(p, ("XLEN", stream_key(p))) for p in partitions])
            fullest = max(range(len(partitions)), key=lambda place: waiting[place])
            if waiting[fullest] < self._max_backlog:
                return
            if time.monotonic() >= deadline:
                raise StreamUnavailable(
                    f"publishing events: {waiting[fullest]:,} entries wait in partition {partitions[fullest]}, "
                    f"the limit is {self._max_backlog:,}; nothing was published",
                    next_step="start more consumers, or publish more slowly and try again",
                )
            time.sleep(_LOOK_AGAIN_S)


def _homes(view: FeatureView, rows: Rows, n_partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each row's key, -1 where the key is unknown, shape `(n_rows,)`."""
    if not view.entity:
        return np.full(len(rows), partitions_of(view, [""], n_partitions)[0])
    try:
        parts = [_texts(rows, name) for name in view.entity]
    except (KeyError, pa.ArrowException):
        return np.full(len(rows), -1)
    encoded = _keys(parts).dictionary_encode()
    home = partitions_of(view, encoded.dictionary.to_pylist(), n_partitions)
    place = np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.where(place >= 0, np.append(home, -1)[place], -1)


def _keys(parts: "Sequence[pa.Array]") -> "pa.Array":
    """Return the entity key of each row, null where a part is; those that hold the separator are rare."""
    if not any(pc.any(pc.match_substring(part, KEY_SEPARATOR)).as_py() for part in parts):
        return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, KEY_SEPARATOR)
    rows = zip(*(part.to_pylist() for part in parts), strict=True)
    return pa.array([None if None in row else entity_keys([[part] for part in row])[0] for row in rows], pa.string())


def _texts(rows: Rows, name: str) -> "pa.Array":
    if isinstance(rows, list):
        values = [row.get(name) for row in rows]
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return rows[name].combine_chunks().cast(pa.string())
