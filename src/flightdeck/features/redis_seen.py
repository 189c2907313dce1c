"""Which events a partition applied lately, so that one that is published twice counts once.

64 bits of each event id in one set per hour (`remember_s`) of wall time; the set of this hour and of the one before are
asked. It grows in the transaction that applies the events, and vanishes two hours after its hour began. Two different
ids agree in 64 bits by chance once in 10^11 events when 10^8 are remembered.
"""

import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from flightdeck.features.redis_entry import NO_ID, Rows, ids_of
from flightdeck.features.redis_keys import seen_key
from flightdeck.features.redis_moment import RedisMoment
from flightdeck.features.redis_nodes import Command, RedisNodes

Booleans = npt.NDArray[np.bool_]
_IDS_A_COMMAND = 10_000


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

    def unseen(self, partition: int, events: Mapping[str, Rows]) -> dict[str, Booleans]:
        """Tell for each stream which rows were not applied within the horizon; rows without an id were not."""
        if not events:
            return {}
        streams = list(events)
        ids = {stream: ids_of(stream, events[stream]) for stream in streams}
        flat = np.concatenate([ids[stream] for stream in streams])
        buckets = self._buckets(partition)
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

    def remember(self, moment: RedisMoment, partition: int, events: Mapping[str, Rows]) -> None:
        """Queue the ids of events that are being applied."""
        now, _ = self._buckets(partition)
        for stream, rows in events.items():
            ids = ids_of(stream, rows)
            words = _words(ids[ids != NO_ID])
            for start in range(0, len(words), _IDS_A_COMMAND):
                moment.queue(partition, "SADD", now, *words[start : start + _IDS_A_COMMAND])
        moment.queue(partition, "EXPIRE", now, 2 * self._remember_s)

    def _buckets(self, partition: int) -> tuple[bytes, bytes]:
        number = int(time.time() // self._remember_s)
        return seen_key(partition, number), seen_key(partition, number - 1)


def _words(ids: npt.NDArray[np.uint64]) -> list[bytes]:
    data = ids.tobytes()
    return [data[start : start + 8] for start in range(0, len(data), 8)]
