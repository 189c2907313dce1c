"""Cutting a log into batches: what is next for views that stand at some place, and until when all is read then.

A batch takes the next appends, and of all that it has read what is known at its watermark; the rest waits for its time.
The watermark stays below whatever is known of appends that are still unread.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.clock import from_us
from flightdeck.events.commits import Commit
from flightdeck.events.log import EventLog
from flightdeck.events.stream import INSTANT
from flightdeck.features.log_position import Position

HORIZON_US = 6 * 3600 * 1_000_000  # of a log that is replayed, so much is read at once
LOOK_AHEAD_US = 60_000_000  # what becomes known so soon is looked for once
FOREVER_US = 2**62
MOST_HELD = 200_000  # rows that wait in memory; more are read again
Times = npt.NDArray[np.int64]
Versions = dict[str, int]
Tables = dict[str, pa.Table]


class Cut(NamedTuple):
    """One batch.

    Parameters
    ----------
    events
        Events by stream, all known at the watermark; streams without any are left out.
    versions
        Versions of the streams that are read after it.
    watermark_us
        Everything known until then is read after it.
    """

    events: Tables
    versions: Versions
    watermark_us: int


class _Held(NamedTuple):
    """All events of some versions that became known after a watermark, kept so that they need not be read again."""

    versions: Versions
    watermark_us: int
    rows: Tables


class LogBatches:
    """Cuts one log into batches; remembers what its commits say.

    Parameters
    ----------
    log
        Event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._commits: dict[tuple[str, int], Commit] = {}
        self._newest_us: dict[str, list[int]] = {}
        self._quiet: tuple[Versions, int] = ({}, 0)  # of these versions nothing becomes known before that time
        self._held: _Held | None = None

    def cut(self, start: Position, end: Versions, until_us: int, max_events: int, *, follows: bool) -> Cut:
        """Return the next batch.

        Parameters
        ----------
        start
            Where the views stand.
        end
            Versions to read up to.
        until_us
            Events that become known later wait.
        max_events
            Most events, but for those of the same microsecond and late ones of one append.
        follows
            Whether the watermark is the time of the newest event, instead of `until_us`.

        Raises
        ------
        NotFoundError
            If the log lacks a version.
        """
        self._commits = {key: one for key, one in self._commits.items() if one.version > start.versions.get(key[0], -1)}
        versions = self._next_versions(start.versions, end, max_events)
        after_us = start.watermark_us
        limit_us = max(after_us, min(until_us, self._unread_from(versions, end, after_us) - 1))
        rows, is_all = self._in_hand(start, versions)
        asks = not is_all and self.waits(start, limit_us)
        if asks and not follows:
            limit_us = min(limit_us, after_us + HORIZON_US)
        waiting_us = self._becoming_known(start, limit_us) if asks else np.empty(0, dtype=np.int64)
        times = np.concatenate([waiting_us, *map(_created_us, rows.values())])
        limit_us = _cut_off(times, after_us, limit_us, max_events, follows=follows)
        known = {stream: [_until(table, limit_us)] for stream, table in rows.items()}
        for stream, version in start.versions.items() if len(waiting_us) else ():
            if self.newest_us(stream, version) > after_us:
                table = self._log.read(stream, version=version, created_after_us=after_us, created_until_us=limit_us)
                known.setdefault(stream, []).append(table)
        self._hold(rows if is_all or not self._any_beyond(start.versions, limit_us) else None, versions, limit_us)
        events = {stream: pa.concat_tables(tables) for stream, tables in known.items()}
        return Cut({stream: table for stream, table in events.items() if table.num_rows}, versions, limit_us)

    def waits(self, start: Position, until_us: int) -> bool:
        """Tell whether an event of the versions that views stand at may have become known since."""
        if until_us <= start.watermark_us or (self._quiet[0] == start.versions and until_us < self._quiet[1]):
            return False
        return self._any_beyond(start.versions, start.watermark_us)

    def n_known(self, versions: Versions, after_us: int, until_us: int) -> int:
        """Return how many events of some versions became known in (after_us, until_us]."""
        held = self._held
        if held is not None and (held.versions, held.watermark_us) == (versions, after_us):
            return sum(int((_created_us(table) <= until_us).sum()) for table in held.rows.values())
        return sum(len(self._known_between(s, version, after_us, until_us)) for s, version in versions.items())

    def newest_us(self, stream: str, version: int) -> int:
        """Return a time after which no event of a stream's version became known."""
        found = self._newest_us.setdefault(stream, [])
        while len(found) <= version:
            newest_us = self._log.commit(stream, len(found)).newest_us
            found.append(max(found[-1] if found else 0, FOREVER_US if newest_us is None else newest_us))
        return found[version] if version >= 0 else 0

    def _next_versions(self, start: Versions, end: Versions, max_events: int) -> Versions:
        """Return up to which versions a batch reads: at least one append further, if there is one."""
        versions, n_taken = dict(start), 0
        while n_taken < max_events:
            nexts = {s: self._commit(s, v + 1) for s, v in versions.items() if v < end[s]}
            if not nexts:
                break
            stream = min(nexts, key=lambda name: nexts[name].newest_us or 0)
            if n_taken and n_taken + nexts[stream].n_added > max_events:
                break
            versions[stream] += 1
            n_taken += nexts[stream].n_added
        return versions

    def _unread_from(self, versions: Versions, end: Versions, watermark_us: int) -> int:
        """Return a time before which nothing became known that a batch leaves unread, but for what is late anyway."""
        unread = [self._commit(s, number) for s, v in versions.items() for number in range(v + 1, end[s] + 1)]
        newer = [one for one in unread if one.newest_us is None or one.newest_us > watermark_us]
        return min((0 if one.oldest_us is None else one.oldest_us for one in newer), default=FOREVER_US)

    def _in_hand(self, start: Position, versions: Versions) -> tuple[Tables, bool]:
        """Return the rows of the next appends with those that are held; and whether nothing waits beside them."""
        rows: dict[str, list[pa.Table]] = {}
        for stream, version in versions.items():
            if version > start.versions[stream]:
                rows[stream] = [self._log.read_since(stream, start.versions[stream], until=version)[0]]
        is_held = self._held is not None and self._held[:2] == (start.versions, start.watermark_us)
        for stream, table in self._held.rows.items() if self._held and is_held else ():
            rows.setdefault(stream, []).append(table)
        is_all = is_held or not self._any_beyond(start.versions, start.watermark_us)
        return {stream: pa.concat_tables(tables) for stream, tables in rows.items()}, is_all

    def _hold(self, rows: Mapping[str, pa.Table] | None, versions: Versions, watermark_us: int) -> None:
        """Keep what waits after a batch, where it is all at hand and not too much."""
        self._held = None
        if rows is not None:
            after = pc.field("created_timestamp") > pa.scalar(from_us(watermark_us), INSTANT)
            waiting = {stream: table.filter(after) for stream, table in rows.items()}
            if sum(table.num_rows for table in waiting.values()) <= MOST_HELD:
                kept = {stream: table for stream, table in waiting.items() if table.num_rows}
                self._held = _Held(versions, watermark_us, kept)

    def _any_beyond(self, versions: Versions, at_us: int) -> bool:
        return any(self.newest_us(stream, version) > at_us for stream, version in versions.items())

    def _becoming_known(self, start: Position, limit_us: int) -> Times:
        """Return when events of the versions that views stand at became known after their watermark until a time."""
        ahead_us = limit_us + LOOK_AHEAD_US
        found = [self._known_between(s, v, start.watermark_us, ahead_us) for s, v in start.versions.items()]
        times = np.concatenate([np.empty(0, dtype=np.int64), *found])
        is_known = times <= limit_us
        if not is_known.any():
            self._quiet = dict(start.versions), int(times.min(initial=ahead_us))
        return times[is_known]

    def _known_between(self, stream: str, version: int, after_us: int, until_us: int) -> Times:
        """Return when the events of a version became known in (after_us, until_us]."""
        if until_us <= after_us or self.newest_us(stream, version) <= after_us:
            return np.empty(0, dtype=np.int64)
        bounds = {"created_after_us": after_us, "created_until_us": until_us}
        return _created_us(self._log.read(stream, version=version, columns=["created_timestamp"], **bounds))

    def _commit(self, stream: str, version: int) -> Commit:
        if (stream, version) not in self._commits:
            self._commits[stream, version] = self._log.commit(stream, version)
        return self._commits[stream, version]


def _cut_off(times: Times, after_us: int, limit_us: int, max_events: int, *, follows: bool) -> int:
    """Return the latest watermark at which at most `max_events` of some events are known, and at least one time."""
    n_most = max(1, max_events - int((times <= after_us).sum()))
    times = np.sort(times[(times > after_us) & (times <= limit_us)])
    if len(times) > n_most:
        return int(times[n_most - 1])
    if follows:
        return int(times[-1]) if len(times) else after_us
    return limit_us


def _until(table: pa.Table, until_us: int) -> pa.Table:
    return table.filter(pc.field("created_timestamp") <= pa.scalar(from_us(until_us), INSTANT))


def _created_us(table: pa.Table) -> Times:
    return np.asarray(table["created_timestamp"].cast(pa.int64()).to_numpy(), dtype=np.int64)
