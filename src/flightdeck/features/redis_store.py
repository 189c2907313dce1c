"""The online store at scale: Redis or Redis Cluster, many reading machines, one writer per partition (ADR 0012).

States are small strings; what a partition reflects lies beside them and changes in the same MULTI/EXEC. A writer is
fenced by the partition's epoch: who was taken over in the meantime writes nothing.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread

import numpy as np
import numpy.typing as npt

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.redis_keys import (
    LAYOUT,
    META,
    PAUSE,
    epoch_key,
    mark_key,
    owner_key,
    partitions_of,
    state_prefix,
)
from flightdeck.features.redis_moment import RedisMoment, Room, lowest, never_fed
from flightdeck.features.redis_nodes import ERRORS, Command, LeaseLost, RedisAddress, RedisAway, RedisNodes
from flightdeck.features.stores import Mark, StoreRead, mark_of
from flightdeck.features.view import FeatureView

_BACKFILL = "fill it from the event log: kedro features apply"
_PAUSE_S = 120
_HAND_OVER_S = 15.0


class RedisStore:
    """States of feature views with what they reflect; a `FeatureStore`.

    Use `RedisStore.open`.

    Notes
    -----
    `read` of a store with one partition is one MGET, hence one moment. With several partitions each is read at a moment
    of its own, and `StoreRead.watermarks_us` says which. `reading` gives no snapshot: each of its questions does.
    """

    def __init__(self, nodes: RedisNodes, n_partitions: int) -> None:
        self._nodes = nodes
        self.n_partitions = n_partitions
        self._bound: int | None = None
        self._epochs: dict[int, int] = {}
        self._renewal: tuple[bytes, int] = (b"", 0)

    @classmethod
    def open(cls, url: str, *, read_only: bool) -> "RedisStore":
        """Open the store at an address; a writer makes it and fixes its number of partitions.

        Raises
        ------
        ConfigError
            If the address is wrong.
        StoreUnavailable
            If Redis cannot be reached, a reader finds no store, or it has another layout or number of partitions.
        """
        address = RedisAddress.parse(url)
        nodes = RedisNodes(address, read_only=read_only)
        try:
            n_partitions = _require_layout(nodes, read_only=read_only)
        except StoreUnavailable:
            nodes.close()
            raise
        return cls(nodes, n_partitions)

    @property
    def nodes(self) -> RedisNodes:
        """Connections, for the stream that lies beside the states."""
        return self._nodes

    def close(self) -> None:
        """Close all connections; closing again does nothing."""
        self._nodes.close()

    def bind(self, partition: int, epoch: int, owner: bytes, lease_ms: int) -> None:
        """Feed this partition only, under a lease, until the next `bind`; its transactions also renew the lease."""
        self._bound = partition
        self._epochs = {partition: epoch}
        self._renewal = (owner, lease_ms)

    def owns(self, view: FeatureView, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Tell which keys this store's writer feeds: those of its partition, or all."""
        if self._bound is None:
            return np.ones(len(keys), dtype=bool)
        return np.equal(partitions_of(view, keys, self.n_partitions), self._bound)

    def read(self, wanted: Sequence[tuple[FeatureView, Sequence[str]]]) -> StoreRead:
        """Return states and marks in one round trip per node.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer in time, or holds nothing of one of the views.
        """
        try:
            return self._read(wanted)
        except RedisAway:
            if not self._nodes.is_cluster:
                raise
            return self._read(wanted)  # where the partitions lie has been asked again

    def _read(self, wanted: Sequence[tuple[FeatureView, Sequence[str]]]) -> StoreRead:
        with self._nodes.asking("reading the online store in"):
            return self._read_one(wanted) if self.n_partitions == 1 else self._read_several(wanted)

    def _read_one(self, wanted: Sequence[tuple[FeatureView, Sequence[str]]]) -> StoreRead:
        stored = [mark_key(0, view) for view, _ in wanted]
        for view, keys in wanted:
            prefix = state_prefix(0, view)
            stored += [prefix + key.encode() for key in keys]
        (values,) = self._nodes.ask([(0, ("MGET", *stored))])
        n_views = len(wanted)
        marks = [self._mark(0, view, value) for (view, _), value in zip(wanted, values[:n_views], strict=True)]
        states, end = [], n_views
        for _, keys in wanted:
            begin, end = end, end + len(keys)
            states.append(values[begin:end])
        return StoreRead(states, marks)

    def _read_several(self, wanted: Sequence[tuple[FeatureView, Sequence[str]]]) -> StoreRead:
        homes = [partitions_of(view, keys, self.n_partitions).tolist() or [0] for view, keys in wanted]
        stored: dict[int, list[bytes]] = {}
        for (view, keys), home in zip(wanted, homes, strict=True):
            for partition in dict.fromkeys(home):
                stored.setdefault(partition, []).append(mark_key(partition, view))
            for key, partition in zip(keys, home, strict=False):
                stored[partition].append(state_prefix(partition, view) + key.encode())
        questions: list[tuple[int, Command]] = []
        for room in self._nodes.rooms(list(stored)):
            keys_of_room = [key for partition in room for key in stored[partition]]
            questions.append((room[0], ("MGET", *keys_of_room)))
        found: dict[bytes, bytes | None] = {}
        for (_, command), values in zip(questions, self._nodes.ask(questions), strict=True):
            found.update(zip(command[1:], values, strict=True))
        states, marks, watermarks_us = [], [], []
        for (view, keys), home in zip(wanted, homes, strict=True):
            by_home = {p: self._mark(p, view, found[mark_key(p, view)]) for p in dict.fromkeys(home)}
            states.append([found[state_prefix(p, view) + key.encode()] for key, p in zip(keys, home, strict=False)])
            marks.append(lowest(list(by_home.values())))
            watermarks_us.append([by_home[p].watermark_us for p in home[: len(keys)]])
        return StoreRead(states, marks, watermarks_us if len(stored) > 1 else None)

    def _mark(self, partition: int, view: FeatureView, packed: bytes | None) -> Mark:
        if packed is None:
            self._require_type(partition, mark_key(partition, view))
            raise never_fed(view)
        return mark_of(packed)

    def _require_type(self, partition: int, key: bytes) -> None:
        """Refuse a key that holds something else than a string: MGET shows it as if it were missing."""
        (kind,) = self._nodes.ask([(partition, ("TYPE", key))])
        if kind not in (b"none", b"string"):
            raise StoreUnavailable(
                f"reading the online store in Redis at {self._nodes.address}: "
                f"key {key.decode()} holds a {kind.decode()}",
                next_step="something else writes there: give Flightdeck a database of its own",
            )

    @contextmanager
    def reading(self) -> Iterator[RedisMoment]:
        """Give the store to read from; each question sees one moment.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer in time.
        """
        with self._nodes.asking("reading the online store in"):
            partitions = range(self.n_partitions)
            yield RedisMoment(self._nodes, [Room(p) for p in self._nodes.rooms(partitions)], self.n_partitions)

    @contextmanager
    def writing(self) -> Iterator[RedisMoment]:
        """Give a transaction: what is put is queued, and written at the end of the block together or not at all.

        A store that is bound to a partition writes that one, under its lease. An unbound one writes all of them: in a
        cluster partition by partition, each for itself, and it asks the consumers to pause meanwhile.

        Raises
        ------
        LeaseLost
            If another writer has taken a partition over, or came in between; nothing is written then.
        StoreUnavailable
            If Redis does not answer: nothing is written, or (an answer was lost) all of it.
        """
        partitions = range(self.n_partitions) if self._bound is None else (self._bound,)
        with self._nodes.asking("writing the online store in"), ExitStack() as stack:
            if self._bound is None:
                stack.enter_context(self._consumers_pausing())
            rooms = []
            for room in self._nodes.rooms(partitions):
                pipe = stack.enter_context(self._nodes.of_partition(room[0]).pipeline(transaction=True))
                pipe.watch(*(epoch_key(partition) for partition in room))
                rooms.append(Room(room, pipe))
                self._require_lease(rooms[-1])
            moment = RedisMoment(self._nodes, rooms, self.n_partitions, is_expiring=self._nodes.address.is_expiring)
            yield moment
            for partition in partitions:
                if self._bound is None:
                    moment.queue(partition, "INCR", epoch_key(partition))
                else:
                    owner, lease_ms = self._renewal
                    moment.queue(partition, "SET", owner_key(partition), owner, "PX", lease_ms)
            moment.execute()

    def _require_lease(self, room: Room) -> None:
        keys = [key(partition) for partition in room.partitions for key in (epoch_key, owner_key)]
        found = room.pipe.execute_command("MGET", *keys)
        for partition, epoch, owner in zip(room.partitions, found[::2], found[1::2], strict=True):
            if self._bound is None and owner is not None:
                raise LeaseLost(
                    f"writing partition {partition} of the online store in Redis at {self._nodes.address}: "
                    f"consumer {owner.decode()} feeds it",
                    next_step="stop the consumers, or wait until the lease has ended",
                )
            if self._bound is not None and int(epoch or 0) != self._epochs[partition]:
                raise LeaseLost(
                    f"writing partition {partition} of the online store in Redis at {self._nodes.address}: "
                    f"{owner.decode() if owner else 'another writer'} has taken it over, nothing was written",
                    next_step="this consumer goes on with the partitions that it still holds",
                )

    @contextmanager
    def _consumers_pausing(self) -> Iterator[None]:
        """Ask the consumers to give their partitions back and wait for it; they go on after the block.

        The request ends by itself, should this process die; while it lives a thread renews it, however long it works.
        """
        owners: list[tuple[int, Command]] = [(p, ("EXISTS", owner_key(p))) for p in range(self.n_partitions)]
        client, is_done = self._nodes.of(PAUSE), Event()

        def ask() -> None:
            client.execute_command("SET", PAUSE, "1", "PX", int(_PAUSE_S * 1000))

        def go_on_asking() -> None:
            while not is_done.wait(_PAUSE_S / 4):
                with suppress(*ERRORS):  # who comes in between is found out by the epochs
                    ask()

        ask()
        renewal = Thread(target=go_on_asking, name="pausing consumers", daemon=True)
        renewal.start()
        try:
            deadline = time.monotonic() + _HAND_OVER_S
            while any(self._nodes.ask(owners)) and time.monotonic() < deadline:
                time.sleep(0.05)
            yield
        finally:
            is_done.set()
            renewal.join()
            client.execute_command("DEL", PAUSE)


def _require_layout(nodes: RedisNodes, *, read_only: bool) -> int:
    """Return the number of partitions, which the first writer fixes; refuse a store that is not as expected."""
    address = nodes.address
    with nodes.asking("opening the online store in"):
        client = nodes.of(META)
        if not read_only:
            client.execute_command("HSETNX", META, "layout", LAYOUT)
            client.execute_command("HSETNX", META, "n_partitions", address.n_partitions or 1)
        layout, n_partitions = client.execute_command("HMGET", META, "layout", "n_partitions")
    if n_partitions is None:
        raise StoreUnavailable(f"opening the online store: nothing in Redis at {address}", next_step=_BACKFILL)
    if int(layout) != LAYOUT:
        raise StoreUnavailable(
            f"opening the online store in Redis at {address}: layout {int(layout)}, this code reads {LAYOUT}",
            next_step=f"empty that database and {_BACKFILL}",
        )
    if address.n_partitions not in (0, int(n_partitions)):
        raise StoreUnavailable(
            f"opening the online store in Redis at {address}: it has {int(n_partitions)} partitions, "
            f"the address says {address.n_partitions}",
            next_step="leave partitions out of the address, or fill another database with that many",
        )
    return int(n_partitions)
