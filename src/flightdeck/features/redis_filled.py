"""Which events a version contains from its filling, so that consumers that meet them on their streams leave them out.

A version is filled from the event log while consumers pause. What lies in the log may wait on the streams just then, or
be published a moment later. So the filling leaves behind, beside the states of each partition, 64 bits of the id of
each event that it counted. The consumer of the partition loads them with its lease, and drops them when it comes to
entries that are younger than the filling by twice the time for which events are remembered.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.features.redis_entry import decode, ids_of
from flightdeck.features.redis_keys import filled_key, partitions_of, stream_key
from flightdeck.features.redis_moment import RedisMoment
from flightdeck.features.redis_nodes import RedisNodes
from flightdeck.features.state_update import KeyedEvents
from flightdeck.features.stores import Filling
from flightdeck.features.view import FeatureView

Ids = npt.NDArray[np.uint64]
_MADE = struct.Struct("<q")
_ENTRIES_A_READ = 64


@dataclass(frozen=True)
class FilledIds:
    """Events that a version's states in one partition contain from its filling.

    Parameters
    ----------
    made_ms
        When it was filled, by the server's clock, milliseconds; ids of entries begin with such a time.
    ids
        64 bits of each event id, ascending, shape `(n_events,)`.
    """

    made_ms: int
    ids: Ids

    @classmethod
    def unpack(cls, packed: bytes) -> "FilledIds":
        """Return what `packed` made a text of."""
        return cls(_MADE.unpack_from(packed)[0], np.frombuffer(packed, dtype=np.uint64, offset=_MADE.size))

    def packed(self) -> bytes:
        """Return it as one value."""
        return _MADE.pack(self.made_ms) + self.ids.tobytes()


@dataclass(frozen=True)
class RedisFilling(Filling):
    """A filling that notes what it counts, by version and partition."""

    n_partitions: int = 1
    made_ms: int = 0
    _noted: dict[tuple[int, str], list[Ids]] = field(default_factory=dict)

    def waits(self, stream: str, events: pa.Table) -> npt.NDArray[np.bool_]:
        """Tell which events are `waiting`, shape `(n_events,)`."""
        return np.isin(ids_of(stream, events), self.waiting[stream])

    def note(self, view: FeatureView, stream: str, counted: KeyedEvents) -> None:
        """Note the events of a stream that were counted in a version."""
        ids = ids_of(stream, counted.table)
        homes = partitions_of(view, counted.keys, self.n_partitions)[counted.place]
        for partition in np.unique(homes).tolist():
            self._noted.setdefault((partition, view.digest), []).append(ids[homes == partition])

    def write(self, moment: RedisMoment) -> None:
        """Queue what was noted."""
        for (partition, digest), parts in self._noted.items():
            filled = FilledIds(self.made_ms, np.unique(np.concatenate(parts)))
            moment.set_value(partition, filled_key(partition, digest), filled.packed())


def load_filled(nodes: RedisNodes, partition: int, views: Iterable[FeatureView]) -> dict[str, FilledIds]:
    """Return by digest what versions contain from their filling in a partition."""
    wanted = list(views)
    if not wanted:
        return {}
    (values,) = nodes.ask([(partition, ("MGET", *(filled_key(partition, view.digest) for view in wanted)))])
    found = zip(wanted, values, strict=True)
    return {view.digest: FilledIds.unpack(packed) for view, packed in found if packed is not None}


def waiting_ids(nodes: RedisNodes, n_partitions: int, streams: Sequence[str]) -> Mapping[str, Ids]:
    """Return by event stream the ids of all events that wait on the partitions' streams."""
    found: dict[str, list[Ids]] = {}
    for partition in range(n_partitions):
        client, start = nodes.of_partition(partition), b"-"
        while True:
            command = ("XRANGE", stream_key(partition), start, "+", "COUNT", _ENTRIES_A_READ)
            entries = client.execute_command(*command)
            for entry_id, fields in entries:
                entry = decode(entry_id, fields or {})
                if entry.stream in streams:
                    found.setdefault(entry.stream, []).append(ids_of(entry.stream, entry.rows))
            if len(entries) < _ENTRIES_A_READ:
                break
            start = b"(" + entries[-1][0]
    return {stream: np.unique(np.concatenate(parts)) for stream, parts in found.items()}
