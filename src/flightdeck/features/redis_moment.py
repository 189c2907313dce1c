"""One transaction on Redis: questions are asked at once; what is put is queued and goes out in one MULTI/EXEC."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from flightdeck.core.errors import ConfigError, StoreUnavailable, some
from flightdeck.features.redis_keys import DECLARED, filled_key, mark_key, partitions_of, state_prefix, version_of
from flightdeck.features.redis_nodes import Command, RedisNodes
from flightdeck.features.stores import Mark, mark_of
from flightdeck.features.view import FeatureView, OpenItems

EXPIRY_SLACK_S = 3600  # beyond what a view can still ask for: a feed that is behind must not lose states
_KEYS_A_COMMAND = 2_000


@dataclass
class Room:
    """Partitions that one command or transaction may span: all of a server, one of a cluster.

    Parameters
    ----------
    partitions
        Their numbers.
    pipe
        Connection that watches their epochs; None where nothing will be written.
    """

    partitions: tuple[int, ...]
    pipe: Any = None
    states: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)  # value and expiry in seconds, 0 for none
    marks: dict[bytes, bytes] = field(default_factory=dict)  # and what else lasts
    commands: list[Command] = field(default_factory=list)
    forgotten: list[bytes] = field(default_factory=list)


class RedisMoment:
    """What a `FeatureStore` of Redis gives to read and write; see `RedisStore.writing`.

    Parameters
    ----------
    nodes
        Connections.
    rooms
        Where to read and write.
    n_partitions
        Partitions of the store.
    is_expiring
        Whether states of idle entities vanish by the wall clock.
    """

    def __init__(
        self, nodes: RedisNodes, rooms: Sequence[Room], n_partitions: int, *, is_expiring: bool = False
    ) -> None:
        self._nodes = nodes
        self._rooms = rooms
        self._room_of = {partition: room for room in rooms for partition in room.partitions}
        self._n_partitions = n_partitions
        self._is_expiring = is_expiring
        self._marks: dict[str, Mark] = {}
        self._cleared: set[str] = set()
        self._declarations: list[Command] = []

    def mark(self, view: FeatureView) -> Mark:
        """Return what the states of a view reflect, the lowest where partitions differ.

        Raises
        ------
        StoreUnavailable
            If the store has never been fed for this version of the view.
        """
        if view.digest not in self._marks and view.digest not in self._cleared:
            self._load_marks([view])
        found = self._marks.get(view.digest)
        if found is None:
            raise never_fed(view)
        return found

    def states(self, view: FeatureView, keys: Sequence[str]) -> list[bytes | None]:
        """Return the packed state of each key, None where there is none; what was put before is seen.

        Raises
        ------
        StoreUnavailable
            If a key holds something else than a string.
        """
        homes = partitions_of(view, keys, self._n_partitions).tolist()
        stored = [state_prefix(p, view) + key.encode() for key, p in zip(keys, homes, strict=True)]
        found: dict[bytes, bytes | None] = {}
        for room in self._rooms:
            mine = [
                key for key, p in zip(stored, homes, strict=True) if p in room.partitions and key not in room.states
            ]
            found.update({key: room.states[key][0] for key in stored if key in room.states} if room.states else {})
            if mine and view.digest not in self._cleared:
                found.update(zip(mine, self._get(room, mine), strict=True))
        return [found.get(key) for key in stored]

    def keys(self, view: FeatureView) -> list[str]:
        """Return the entity keys that have a state in Redis; it looks at every key there."""
        found: dict[str, None] = {}
        for room in self._rooms:
            homes = b"{p%d}" % room.partitions[0] if len(room.partitions) == 1 else b"{p*}"
            cursor, pattern = 0, b"fd:%s:s:%s:*" % (homes, version_of(view))
            while True:
                cursor, keys = self._ask(room, "SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_A_COMMAND)
                found.update(dict.fromkeys(key.split(b":", 4)[4].decode() for key in keys))
                if not int(cursor):
                    break
        return list(found)

    def put(self, view: FeatureView, keys: Sequence[str], states: Sequence[bytes]) -> None:
        """Replace the states of some keys."""
        expiry_s = self._expiry_s(view)
        homes = partitions_of(view, keys, self._n_partitions).tolist()
        for key, partition, state in zip(keys, homes, states, strict=True):
            self._room_of[partition].states[state_prefix(partition, view) + key.encode()] = (state, expiry_s)

    def set_mark(self, view: FeatureView, mark: Mark) -> None:
        """Say what the states of a view reflect now, in every partition that is written."""
        packed = mark.packed()
        for partition, room in self._room_of.items():
            room.marks[mark_key(partition, view)] = packed
        self._marks[view.digest] = mark

    def clear(self, view: FeatureView) -> None:
        """Forget states and mark of one version of a view."""
        self._cleared.add(view.digest)
        self._marks.pop(view.digest, None)
        for room in self._rooms:
            for partition in room.partitions:
                prefix = state_prefix(partition, view)
                room.states = {key: value for key, value in room.states.items() if not key.startswith(prefix)}
                room.marks.pop(mark_key(partition, view), None)
                room.forgotten += [mark_key(partition, view), filled_key(partition, view.digest)]

    def declared(self) -> dict[str, FeatureView]:
        """Return every version that the store feeds, by digest.

        Raises
        ------
        StoreUnavailable
            If a declaration is not of a form that this code reads.
        """
        views = [view for digest, view in self._declared() if view.digest == digest]
        self._load_marks(views)
        return {view.digest: view for view in views}

    def outdated(self) -> tuple[FeatureView, ...]:
        """Return what code of another meaning declared, under its digest of then; see `declared`."""
        return tuple(view.under(digest) for digest, view in self._declared() if view.digest != digest)

    def _declared(self) -> list[tuple[str, FeatureView]]:
        """Return the digest under which each declaration was written, and the declaration."""
        found: dict[bytes, bytes] = self._nodes.of(DECLARED).execute_command("HGETALL", DECLARED)
        try:
            return [(d.decode(), FeatureView.from_json(msgspec.json.decode(text))) for d, text in sorted(found.items())]
        except (ConfigError, msgspec.DecodeError) as error:
            raise StoreUnavailable(
                f"reading the online store in Redis at {self._nodes.address}: {error}",
                next_step="empty that database and fill it from the event log: kedro features apply",
            ) from error

    def declare(self, view: FeatureView) -> None:
        """Feed a version from now on."""
        self._declarations.append(declaration(view))

    def forget(self, view: FeatureView) -> None:
        """Clear a version and feed it no more."""
        self.clear(view)
        self._declarations.append(("HDEL", DECLARED, view.digest))

    def set_value(self, partition: int, key: bytes, value: bytes) -> None:
        """Replace the value at a key of a partition."""
        self._room_of[partition].marks[key] = value

    def queue(self, partition: int, *command: Any) -> None:
        """Add a command on keys of a partition to the transaction."""
        self._room_of[partition].commands.append(command)

    def execute(self) -> None:
        """Write what is queued: one transaction on a server; in a cluster one per partition, then the declarations."""
        if not self._nodes.is_cluster:
            self._rooms[0].commands += self._declarations
        for room in self._rooms:
            old = self._old_keys(room)
            room.pipe.multi()
            for part in _parts(old):
                room.pipe.execute_command("UNLINK", *part)
            lasting = [item for key, (state, expiry_s) in room.states.items() if not expiry_s for item in (key, state)]
            lasting += [item for pair in room.marks.items() for item in pair]
            for part in _parts(lasting):
                room.pipe.execute_command("MSET", *part)
            for key, (state, expiry_s) in room.states.items():
                if expiry_s:
                    room.pipe.execute_command("SET", key, state, "EX", expiry_s)
            for command in room.commands:
                room.pipe.execute_command(*command)
            room.pipe.execute()
        if self._nodes.is_cluster:
            for command in self._declarations:
                self._nodes.of(DECLARED).execute_command(*command)

    def _get(self, room: Room, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the strings at some keys of a room; a key that is of another type is refused."""
        found: list[bytes | None] = self._ask(room, "MGET", *keys)
        missing = [key for key, value in zip(keys, found, strict=True) if value is None]
        if missing and self._ask(room, "EXISTS", *missing):
            kinds = [(key, self._ask(room, "TYPE", key)) for key in missing]
            wrong = [
                f"{key.decode()} holds a {kind.decode()}" for key, kind in kinds if kind not in (b"none", b"string")
            ]
            if wrong:
                raise StoreUnavailable(
                    f"reading the online store in Redis at {self._nodes.address}: {some(wrong)}",
                    next_step="something else writes there: give Flightdeck a database of its own",
                )
        return found

    def _ask(self, room: Room, *command: Any) -> Any:
        if room.pipe is not None:
            return room.pipe.execute_command(*command)
        (answer,) = self._nodes.ask([(room.partitions[0], command)])
        return answer

    def _load_marks(self, views: Sequence[FeatureView]) -> None:
        """Fetch what some views reflect, one command a room."""
        found: dict[str, list[bytes | None]] = {view.digest: [] for view in views}
        for room in self._rooms if views else ():
            keys = [mark_key(partition, view) for view in views for partition in room.partitions]
            values = iter(self._get(room, keys))
            for view in views:
                found[view.digest] += [next(values) for _ in room.partitions]
        for digest, packed in found.items():
            marks = [mark_of(value) for value in packed if value is not None]
            if len(marks) == len(packed) and digest not in self._cleared and digest not in self._marks:
                self._marks[digest] = lowest(marks)

    def _old_keys(self, room: Room) -> list[bytes]:
        """Return the keys of cleared views that are not written anew."""
        if not room.forgotten:
            return []
        versions = {digest[:32].encode() for digest in self._cleared}
        pattern = b"fd:{p%d}:s:*" % room.partitions[0] if len(room.partitions) == 1 else b"fd:{p*}:s:*"
        old, cursor = [key for key in room.forgotten if key not in room.marks], 0
        while True:
            cursor, keys = room.pipe.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_A_COMMAND)
            old += [key for key in keys if key.split(b":", 4)[3] in versions and key not in room.states]
            if not cursor:
                return old

    def _expiry_s(self, view: FeatureView) -> int:
        if not self._is_expiring or isinstance(view.compute, OpenItems):
            return 0
        return view.look_back_s + EXPIRY_SLACK_S


def declaration(view: FeatureView) -> Command:
    """Return the command that declares a version."""
    return "HSET", DECLARED, view.digest, msgspec.json.encode(view.as_json())


def lowest(marks: Sequence[Mark]) -> Mark:
    """Return the mark that holds for several partitions: the lowest watermark, and every offset.

    Where offsets differ, a version of the log would not hold for all of them: only entries of streams are named then.
    """
    reached_us = min(mark.watermark_us for mark in marks)
    offsets = list(dict.fromkeys(mark.offset for mark in marks))
    if len(offsets) > 1:
        offsets = [offset for offset in offsets if offset and "@" not in offset]
    return Mark(reached_us, " ".join(offsets))


def never_fed(view: FeatureView) -> StoreUnavailable:
    """Return the error for a version that a store holds nothing of."""
    return StoreUnavailable(
        f"the online store holds nothing of feature view {view.name} version {view.version}",
        next_step="fill it from the event log: kedro features apply",
    )


def _parts(items: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Cut a long list of arguments into commands of bounded length; an even number each."""
    return [items[start : start + 2 * _KEYS_A_COMMAND] for start in range(0, len(items), 2 * _KEYS_A_COMMAND)]
