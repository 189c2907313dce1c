"""Which events a partition applied lately, so that one that is published twice counts once.

64 bits of each event id in one set per hour (`remember_s`) of publication; the set of an entry's hour and the one
before are asked. The hour is that of the entry's own id, which the server gave it and which never goes back: no
consumer's clock matters, and a feed that was down for hours goes on with what it knew. A set grows in the transaction
that applies the events, and is dropped two hours of publication later; one that no later entry drops vanishes after a
day. Two different ids agree in 64 bits by chance once in 10^11 events when 10^8 are remembered.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from flightdeck.features.redis_entry import NO_ID, Entry, Rows, ids_of
from flightdeck.features.redis_keys import seen_key
from flightdeck.features.redis_moment import RedisMoment
from flightdeck.features.redis_nodes import Command, RedisNodes

Booleans = npt.NDArray[np.bool_]
_IDS_A_COMMAND = 10_000
_LONGEST_PAUSE = 24  # hours of publication (`remember_s`) that a set outlives without news


class SeenIds:
    """Event ids that were applied.

    Parameters
    ----------
    nodes
        Connections.
    remember_s
        Horizon in seconds; ids are kept for up to twice as long.
    """

    def __init__(self, nodes: RedisNodes, remember_s: int) -> None:
        self._nodes = nodes
        self._remember_s = remember_s

    def unseen(self, partition: int, entries: Sequence[Entry], events: Mapping[str, Rows]) -> dict[str, Booleans]:
        """Tell for each stream which rows of some entries were not applied within the horizon.

        Rows without an id were not.
        """
        if not events:
            return {}
        streams = list(events)
        ids = {stream: ids_of(stream, events[stream]) for stream in streams}
        flat = np.concatenate([ids[stream] for stream in streams])
        hours = self._hours(entries)
        buckets = [seen_key(partition, hour) for hour in sorted({*hours, *(hour - 1 for hour in hours)})]
        there = self._nodes.ask([(partition, ("EXISTS", bucket)) for bucket in buckets])
        seen = np.zeros(len(flat), dtype=bool)
        words = _words(flat)
        for bucket in [bucket for bucket, is_there in zip(buckets, there, strict=True) if is_there]:
            questions: list[tuple[int, Command]] = [
                (partition, ("SMISMEMBER", bucket, *words[start : start + _IDS_A_COMMAND]))
                for start in range(0, len(words), _IDS_A_COMMAND)
            ]
            seen |= np.array([found for answer in self._nodes.ask(questions) for found in answer], dtype=bool)
        seen &= flat != NO_ID
        edges = np.cumsum([len(ids[stream]) for stream in streams])
        return dict(zip(streams, np.split(~seen, edges[:-1]), strict=True))

    def remember(
        self, moment: RedisMoment, partition: int, entries: Sequence[Entry], events: Mapping[str, Rows]
    ) -> None:
        """Queue the ids of events that are being applied, in the hour of the last of their entries."""
        hours = self._hours(entries)
        now = seen_key(partition, max(hours))
        for stream, rows in events.items():
            ids = ids_of(stream, rows)
            words = _words(ids[ids != NO_ID])
            for start in range(0, len(words), _IDS_A_COMMAND):
                moment.queue(partition, "SADD", now, *words[start : start + _IDS_A_COMMAND])
        moment.queue(partition, "EXPIRE", now, _LONGEST_PAUSE * self._remember_s)
        old = {hour - age for hour in hours for age in (0, 1, 2) if hour - age <= max(hours) - 2}
        moment.queue(partition, "UNLINK", *(seen_key(partition, hour) for hour in sorted(old)))

    def _hours(self, entries: Iterable[Entry]) -> set[int]:
        """Return in which hours entries were published."""
        return {int(entry.entry_id.partition(b"-")[0]) // (1000 * self._remember_s) for entry in entries}


def _words(ids: npt.NDArray[np.uint64]) -> list[bytes]:
    data = ids.tobytes()
    return [data[start : start + 8] for start in range(0, len(data), 8)]
