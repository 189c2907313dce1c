"""Following Redis streams into Redis: consumers share the partitions, and an event counts once whatever is killed when.

Each partition has a stream of its own, read by a consumer group in the name of whoever holds the partition's lease.
States, marks, acknowledgement and the ids of the events commit in one MULTI/EXEC, fenced by the partition's epoch. A
new holder claims what the old one had read and not acknowledged.
"""

import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress

import pyarrow as pa

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.redis_entry import Entry, Rows, decode, joined, kept
from flightdeck.features.redis_filled import FilledIds, load_filled
from flightdeck.features.redis_keys import counters_key, filled_key, stream_key
from flightdeck.features.redis_lease import Leases
from flightdeck.features.redis_moment import RedisMoment
from flightdeck.features.redis_nodes import LeaseLost
from flightdeck.features.redis_seen import SeenIds
from flightdeck.features.redis_store import RedisStore
from flightdeck.features.stores import Moment
from flightdeck.features.streaming import Batch, BatchOutdated, Lag

GROUP = "materializer"
_ENTRIES_A_READ = 64
_LONGEST_BLOCK_MS = 1_000
_LOOK_AGAIN_S = 0.005


@dataclass(frozen=True)
class _Read:
    """What a batch was made of."""

    partition: int
    epoch: int
    entries: tuple[Entry, ...]


class RedisConsumer:
    """A source of events for a materializer; an `EventSource`.

    Use `RedisConsumer.open`. Its `store` is the one to give to the materializer: during `applying` it is bound to the
    partition of the batch.

    Parameters
    ----------
    store
        Store opened for writing, of this consumer alone.
    leases
        The partitions that it feeds.
    remember_s
        An event id that is published again within this time counts once; up to twice as long are ids kept.
    """

    def __init__(self, store: RedisStore, leases: Leases, remember_s: int) -> None:
        self.store = store
        self._leases = leases
        self._seen = SeenIds(store.nodes, remember_s)
        self._waiting: dict[int, deque[Entry]] = {}
        self._epochs: dict[int, int] = {}
        self._accepted: Mapping[str, Rows] | None = None
        self._filled: dict[int, dict[str, FilledIds]] = {}  # by partition, then by digest
        self._horizon_ms = 2000 * remember_s

    @classmethod
    def open(
        cls,
        url: str,
        *,
        name: str = "",
        partitions: tuple[int, ...] | None = None,
        lease_s: float = 10.0,
        remember_s: int = 3600,
    ) -> "RedisConsumer":
        """Connect to the Redis at an address.

        Parameters
        ----------
        url
            Address of the store.
        name
            What people see as the owner of a lease; this process's number and a random part are added.
        partitions
            Partitions that it may feed (default: all).
        lease_s
            After so long without a sign of life it is replaced.
        remember_s
            Horizon within which an event that is published twice counts once.
        """
        store = RedisStore.open(url, read_only=False)
        full_name = f"{name or socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        chosen = tuple(range(store.n_partitions)) if partitions is None else partitions
        return cls(store, Leases(store.nodes, chosen, full_name, lease_s), remember_s)

    @property
    def partitions(self) -> tuple[int, ...]:
        """Partitions that it feeds now."""
        return tuple(self._leases.epochs)

    def acquire(self, timeout_s: float) -> bool:
        """Renew the leases and take free partitions; wait at most `timeout_s` for the first one."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._leases.refresh()
            if self._leases.epochs or time.monotonic() >= deadline:
                return bool(self._leases.epochs)
            time.sleep(min(_LOOK_AGAIN_S * 10, self._leases.lease_ms / 4000))

    def poll(self, max_events: int, timeout_s: float) -> Batch | None:
        """Return the next events of one partition, None when nothing came within `timeout_s`.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self.acquire(0.0)
            try:
                with self.store.nodes.asking("following events in"):
                    batch = self._next(max_events, max(0.0, deadline - time.monotonic()))
            except StoreUnavailable:
                self._epochs = {}  # an answer may be lost: read again what is not acknowledged
                raise
            if batch is not None:
                return batch
            if time.monotonic() >= deadline:
                return None

    @contextmanager
    def applying(self, batch: Batch) -> Iterator[RedisMoment]:
        """Give the transaction in which a batch is applied and acknowledged.

        Raises
        ------
        BatchOutdated
            If the partition was taken over; nothing was written.
        StoreUnavailable
            If Redis does not answer: the next poll finds out what was committed.
        """
        read = batch.token
        assert isinstance(read, _Read)  # noqa: S101 - a batch of another source is a bug
        if self._leases.epochs.get(read.partition) != read.epoch:
            raise BatchOutdated
        filled = self._filled.get(read.partition)
        self.store.bind(read.partition, read.epoch, self._leases.name, self._leases.lease_ms, filled)
        self._accepted = None
        try:
            with self.store.writing() as moment:
                yield moment
                self._acknowledge(moment, read, batch)
        except LeaseLost as error:
            self._leases.drop(read.partition)
            raise BatchOutdated from error
        except BaseException:
            self._epochs.pop(read.partition, None)  # read again what is not acknowledged
            raise
        waiting = self._waiting[read.partition]
        for _ in read.entries:
            waiting.popleft()
        for digest in self._outlived(read):
            del self._filled[read.partition][digest]

    def remember(self, moment: Moment, accepted: Mapping[str, pa.Table]) -> None:
        """Count only these events as seen: a rejected one may come again, mended."""
        self._accepted = accepted

    def lag(self) -> Lag:
        """Return how far the partitions of this consumer are behind."""
        with self.store.nodes.asking("following events in"):
            questions = [
                question
                for p in self.partitions
                for question in (
                    (p, ("HMGET", counters_key(p), "published", "applied", "newest_us", "applied_us")),
                    (p, ("XLEN", stream_key(p))),
                )
            ]
            answers = self.store.nodes.ask(questions) if questions else []
        n_events, seconds = 0, 0.0
        for counted, n_entries in zip(answers[::2], answers[1::2], strict=True):
            published, applied, newest_us, applied_us = (int(value or 0) for value in counted)
            n_events += max(published - applied, n_entries) if n_entries else 0
            seconds = max(seconds, (newest_us - applied_us) / SECOND_US if n_entries and applied_us else 0.0)
        return Lag(n_events, seconds)

    def close(self) -> None:
        """Give the partitions back, so that a standby takes over at once; closing again does nothing."""
        try:
            with self.store.nodes.asking("leaving"):
                self._leases.leave()
        except StoreUnavailable:
            self._leases.epochs = {}  # the leases end by themselves
        self.store.close()

    def _next(self, max_events: int, longest_s: float) -> Batch | None:
        """Return a batch of what is there, after one look at the streams."""
        self._enter_partitions()
        if not any(self._waiting.values()):
            self._read(longest_s)
        for partition in list(self._waiting):
            if self._waiting[partition]:
                self._waiting[partition] = entries = self._waiting.pop(partition)  # the others come first next time
                return self._batch(partition, entries, max_events)
        return None

    def _enter_partitions(self) -> None:
        """Claim in newly held partitions what was read and not acknowledged; drop what is not held any more."""
        held = self._leases.epochs
        self._waiting = {
            p: entries for p, entries in self._waiting.items() if p in held and held[p] == self._epochs.get(p)
        }
        for partition, epoch in held.items():
            if self._epochs.get(partition) == epoch and partition in self._waiting:
                continue
            client, key = self.store.nodes.of_partition(partition), stream_key(partition)
            if not client.execute_command("EXISTS", key) or not client.execute_command("XINFO", "GROUPS", key):
                client.execute_command("XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM")
            claimed, cursor = deque[Entry](), b"0-0"
            while True:
                command = ("XAUTOCLAIM", key, GROUP, self._leases.name, 0, cursor, "COUNT", _ENTRIES_A_READ)
                cursor, found, *_ = client.execute_command(*command, parse_justid=False)
                claimed.extend(_entry(item) for item in found)
                if cursor in (b"0-0", "0-0"):
                    break
            with self.store.reading() as moment:
                views = moment.declared().values()
            self._filled[partition] = load_filled(self.store.nodes, partition, views)
            self._waiting[partition], self._epochs[partition] = claimed, epoch

    def _read(self, longest_s: float) -> None:
        """Read what is new: one round trip per node; wait on the server where there is only one partition."""
        held = list(self._leases.epochs)
        if not held:
            time.sleep(min(longest_s, _LOOK_AGAIN_S * 10))
            return
        command = ["XREADGROUP", "GROUP", GROUP, self._leases.name, "COUNT", _ENTRIES_A_READ]
        if len(held) == 1:
            block_ms = int(min(longest_s * 1000, _LONGEST_BLOCK_MS, self._leases.lease_ms / 4))
            command += ["BLOCK", block_ms] if block_ms else []
        questions = [(p, (*command, "STREAMS", stream_key(p), ">")) for p in held]
        is_empty = True
        for partition, answer in zip(held, self.store.nodes.ask(questions), strict=True):
            for _, found in answer or ():
                self._waiting[partition].extend(_entry(item) for item in found)
                is_empty = False
        if is_empty and len(held) > 1:
            time.sleep(min(longest_s, _LOOK_AGAIN_S))

    def _batch(self, partition: int, entries: deque[Entry], max_events: int) -> Batch:
        """Make a batch of the first entries that fit together, without the events that were applied before."""
        parts: dict[str, list[Rows]] = {}
        chosen: list[Entry] = []
        n_events = 0
        for entry in entries:
            same = parts.get(entry.stream)
            if chosen and (n_events + len(entry.rows) > max_events or (same and not entry.fits(same[0]))):
                break
            chosen.append(entry)
            n_events += len(entry.rows)
            if len(entry.rows):
                parts.setdefault(entry.stream, []).append(entry.rows)
        delivered = {stream: joined(rows) for stream, rows in parts.items()}
        unseen = self._seen.unseen(partition, chosen, delivered)
        events = {stream: kept(rows, unseen[stream]) for stream, rows in delivered.items() if unseen[stream].any()}
        offset = f"{partition}:{chosen[-1].entry_id.decode()}"
        offsets = {
            stream: list(compress(_places(partition, stream, chosen), unseen[stream].tolist()))
            for stream, rows in events.items()
            if isinstance(rows, list)
        }
        read = _Read(partition, self._epochs[partition], tuple(chosen))
        told_us = max((entry.watermark_us for entry in chosen if entry.watermark_us is not None), default=None)
        return Batch(events, told_us, offset, offsets=offsets, token=read)

    def _acknowledge(self, moment: RedisMoment, read: _Read, batch: Batch) -> None:
        """Queue what belongs to a batch beside its states."""
        partition, ids = read.partition, [entry.entry_id for entry in read.entries]
        milliseconds, _, number = ids[-1].partition(b"-")
        key = stream_key(partition)
        moment.queue(partition, "XACK", key, GROUP, *ids)
        moment.queue(partition, "XTRIM", key, "MINID", b"%s-%d" % (milliseconds, int(number) + 1))
        counted = sum(entry.n_counted for entry in read.entries)
        moment.queue(partition, "HINCRBY", counters_key(partition), "applied", counted)
        if batch.watermark_us is not None:
            moment.queue(partition, "HSET", counters_key(partition), "applied_us", batch.watermark_us)
        accepted = batch.events if self._accepted is None else self._accepted
        self._seen.remember(moment, partition, read.entries, accepted)
        for digest in self._outlived(read):
            moment.queue(partition, "UNLINK", filled_key(partition, digest))

    def _outlived(self, read: _Read) -> list[str]:
        """Return the versions none of whose events comes any more that they contain from their filling."""
        last_ms = int(read.entries[-1].entry_id.partition(b"-")[0])
        filled = self._filled.get(read.partition, {})
        return [digest for digest, one in filled.items() if last_ms > one.made_ms + self._horizon_ms]


def _places(partition: int, stream: str, entries: Sequence[Entry]) -> list[str]:
    """Return where each row of a stream came from."""
    return [
        f"{partition}:{entry.entry_id.decode()}#{number}"
        for entry in entries
        if entry.stream == stream
        for number in range(len(entry.rows))
    ]


def _entry(item: tuple[bytes, Mapping[bytes, bytes]]) -> Entry:
    entry_id, fields = item
    return decode(entry_id, fields or {})
