"""The online store at scale: Redis or Redis Cluster, many reading machines, one writer per partition (ADR 0012).

States are small strings; what a partition reflects lies beside them and changes in the same MULTI/EXEC. A writer is
fenced by the partition's epoch: who was taken over in the meantime writes nothing.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.redis_entry import ids_of
from flightdeck.features.redis_filled import FilledIds, RedisFilling, waiting_ids
from flightdeck.features.redis_keys import (
    DECLARED,
    LAYOUT,
    META,
    PAUSE,
    epoch_key,
    mark_key,
    owner_key,
    partitions_of,
    state_prefix,
    stream_key,
)
from flightdeck.features.redis_moment import RedisMoment, Room, declaration, lowest, never_fed
from flightdeck.features.redis_nodes import ERRORS, Command, LeaseLost, RedisAddress, RedisAway, RedisNodes
from flightdeck.features.reflected import ahead_of
from flightdeck.features.stores import Filling, Mark, StoreEmpty, StoreRead, mark_of
from flightdeck.features.view import FeatureView

_BACKFILL = "fill it from the event log: kedro features apply"
_PAUSE_S = 120
_HAND_OVER_S = 15.0


class RedisStore:
    """States of feature views with what they reflect; a `FeatureStore`.

    Use `RedisStore.open`.

    Notes
    -----
    `read` of a store with one partition is one MGET, hence one moment. With several partitions each is fed to a moment
    of its own; `StoreRead.watermarks_us` and the offset (`reflected.py`) say which. `reading` gives no snapshot: each
    of its questions does.
    """

    def __init__(self, nodes: RedisNodes, n_partitions: int) -> None:
        self._nodes = nodes
        self.n_partitions = n_partitions
        self._bound: int | None = None
        self._epochs: dict[int, int] = {}
        self._renewal: tuple[bytes, int] = (b"", 0)
        self._filled: Mapping[str, FilledIds] = {}

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

    def bind(
        self, partition: int, epoch: int, owner: bytes, lease_ms: int, filled: Mapping[str, FilledIds] | None = None
    ) -> None:
        """Feed this partition only, under a lease, until the next `bind`; its transactions also renew the lease.

        `filled` says by digest what versions contain there from their filling.
        """
        self._bound = partition
        self._filled = filled or {}
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
        states, marks = [], []
        for (view, keys), home in zip(wanted, homes, strict=True):
            marks.append({p: self._mark(p, view, found[mark_key(p, view)]) for p in dict.fromkeys(home)})
            states.append([found[state_prefix(p, view) + key.encode()] for key, p in zip(keys, home, strict=False)])
        lowest_mark = lowest([mark for by_home in marks for mark in by_home.values()])
        reached_us = [{p: mark.watermark_us for p, mark in by_home.items()} for by_home in marks]
        views = [view for view, _ in wanted]
        ahead = ahead_of(lowest_mark.watermark_us, list(zip(views, reached_us, strict=True)), self.n_partitions)
        if not ahead:
            return StoreRead(states, [lowest_mark] * len(wanted))
        stamp = Mark(lowest_mark.watermark_us, f"{lowest_mark.offset} {ahead}".strip())
        by_key = [
            [us[p] for _, p in zip(keys, home, strict=False)]
            for (_, keys), home, us in zip(wanted, homes, reached_us, strict=True)
        ]
        return StoreRead(states, [stamp] * len(wanted), by_key)

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
        with self._nodes.asking("writing the online store in"), ExitStack() as stack:
            if self._bound is None:
                stack.enter_context(self._consumers_pausing())
            yield stack.enter_context(self._transaction())

    @contextmanager
    def filling(self, views: Sequence[FeatureView], until_us: int) -> Iterator[Filling]:
        """Give a transaction in which versions are filled anew, while consumers pause; see `writing`.

        Notes
        -----
        Every event counts once because of three things. What is published from now on also goes to the partitions of
        the new versions, and what was published before is known until `Filling.until_us` or is `waiting`. Producers
        append to the log first, so what was published is in the log that is read now. What is counted now is noted.
        """
        with (
            self._nodes.asking("filling the online store in"),
            self._consumers_pausing(),
            self._transaction() as moment,  # it fails should a consumer commit after the questions that follow
        ):
            waiting: Mapping[str, npt.NDArray[np.uint64]] = {}
            if self._has_streams():
                if self.n_partitions > 1:
                    self._declare(views)
                    streams = {source for view in views for source in view.sources}
                    waiting = waiting_ids(self._nodes, self.n_partitions, sorted(streams))
                until_us = max([until_us, *self._reached_us()])
            seconds, micros = self._nodes.of(META).execute_command("TIME")
            made_ms = int(seconds) * 1000 + int(micros) // 1000
            filling = RedisFilling(moment, until_us, waiting, self.n_partitions, made_ms)
            yield filling
            filling.write(moment)

    def not_filled(self, view: FeatureView, stream: str, events: pa.Table) -> pa.Table:
        """Return the events that the version does not contain from its filling, in the partition that is fed."""
        filled = self._filled.get(view.digest)
        if filled is None:
            return events
        return events.filter(pa.array(~np.isin(ids_of(stream, events), filled.ids)))

    @contextmanager
    def _transaction(self) -> Iterator[RedisMoment]:
        partitions = range(self.n_partitions) if self._bound is None else (self._bound,)
        with ExitStack() as stack:
            rooms = []
            for room in self._nodes.rooms(partitions):
                pipe = stack.enter_context(self._nodes.of_partition(room[0]).pipeline(transaction=True))
                pipe.watch(*(epoch_key(partition) for partition in room))
                if self._bound is None:
                    pipe.watch(*(owner_key(partition) for partition in room))
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

    def _has_streams(self) -> bool:
        """Tell whether anything was ever published."""
        return any(self._nodes.ask([(p, ("EXISTS", stream_key(p))) for p in range(self.n_partitions)]))

    def _declare(self, views: Sequence[FeatureView]) -> None:
        """Let producers send events to the partitions of some versions, which are not filled yet."""
        for view in views:
            self._nodes.of(DECLARED).execute_command(*declaration(view))

    def _reached_us(self) -> list[int]:
        """Return until when events were delivered, by version and partition."""
        with self.reading() as moment:
            views = list(moment.declared().values())
        keys = [(p, mark_key(p, view)) for view in views for p in range(self.n_partitions)]
        packed = self._nodes.ask([(p, ("GET", key)) for p, key in keys]) if keys else []
        return [mark_of(value).watermark_us for value in packed if value is not None]

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
        raise StoreEmpty(f"opening the online store: nothing in Redis at {address}", next_step=_BACKFILL)
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
