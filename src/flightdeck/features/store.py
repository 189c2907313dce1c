"""The embedded online store: memory-mapped, many reading processes, one writer (ADR 0002).

The door to LMDB. State of all views and the watermark that it reflects change in one transaction, so a reader sees a
moment of the stream and never half of one, and `kill -9` at any point leaves the last committed moment.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import lmdb

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.view import FeatureView

MAP_BYTES = 1 << 32
_WATERMARK = struct.Struct("<q")
_BACKFILL = "fill it from the event log: kedro replay --day <YYYY-MM-DD> does"


class OnlineStore:
    """Key-value state of feature views with the watermark that it reflects.

    Use `OnlineStore.open`.
    """

    def __init__(self, environment: "lmdb.Environment", path: Path) -> None:
        self._environment = environment
        self.path = path

    @classmethod
    def open(cls, path: Path, *, read_only: bool) -> "OnlineStore":
        """Open the store in the folder `path`; a writer makes it.

        Raises
        ------
        StoreUnavailable
            If a reader finds no store, or the files are damaged or not accessible.
        """
        try:
            if not read_only:
                path.mkdir(parents=True, exist_ok=True)
            elif not (path / "data.mdb").is_file():
                raise StoreUnavailable(f"opening the online store: nothing in {path}", next_step=_BACKFILL)
            environment = lmdb.open(
                str(path), map_size=MAP_BYTES, readonly=read_only, create=not read_only, max_readers=512, lock=True
            )
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(f"opening the online store {path}: {error}", next_step=_BACKFILL) from error
        environment.reader_check()
        return cls(environment, path)

    def close(self) -> None:
        """Release the memory map."""
        self._environment.close()

    @contextmanager
    def reading(self) -> Iterator["Moment"]:
        """Give one consistent moment of the store.

        Raises
        ------
        StoreUnavailable
            If the store cannot be read.
        """
        try:
            with self._environment.begin(buffers=False) as transaction:
                yield Moment(transaction)
        except lmdb.Error as error:
            raise StoreUnavailable(f"reading the online store {self.path}: {error}", next_step=_BACKFILL) from error

    @contextmanager
    def writing(self) -> Iterator["Moment"]:
        """Give a transaction that changes states and watermarks together, or not at all.

        Raises
        ------
        StoreUnavailable
            If the disk or the map is full; nothing is changed then.
        """
        try:
            with self._environment.begin(write=True) as transaction:
                yield Moment(transaction)
        except lmdb.Error as error:
            raise StoreUnavailable(
                f"writing the online store {self.path}: {error}", next_step="free disk space and start again"
            ) from error


class Moment:
    """One transaction: reads see one moment, writes become visible together."""

    def __init__(self, transaction: "lmdb.Transaction") -> None:
        self._transaction = transaction

    def watermark_us(self, view: FeatureView) -> int:
        """Return the time up to which all known events are applied to a view.

        Raises
        ------
        StoreUnavailable
            If the store has never been fed for this version of the view.
        """
        packed = self._get(_meta_key(view))
        if packed is None:
            raise StoreUnavailable(
                f"the online store holds nothing of feature view {view.name} version {view.digest[:12]}",
                next_step=_BACKFILL,
            )
        return int(_WATERMARK.unpack(packed)[0])

    def states(self, view: FeatureView, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Return the packed state of each key, None where there is none."""
        prefix = _prefix(view)
        return {key: self._get(prefix + key.encode()) for key in keys}

    def put(self, view: FeatureView, states: Mapping[str, bytes]) -> None:
        """Replace the states of some keys."""
        prefix = _prefix(view)
        for key, state in states.items():
            self._transaction.put(prefix + key.encode(), state)

    def set_watermark(self, view: FeatureView, watermark_us: int) -> None:
        """Say that all events known until `watermark_us` are applied."""
        self._transaction.put(_meta_key(view), _WATERMARK.pack(watermark_us))

    def clear(self, view: FeatureView) -> None:
        """Forget everything of one version of a view."""
        prefix = _prefix(view)
        with self._transaction.cursor() as cursor:
            found = cursor.set_range(prefix)
            while found and bytes(cursor.key()).startswith(prefix):
                found = cursor.delete()
        self._transaction.delete(_meta_key(view))

    def _get(self, key: bytes) -> bytes | None:
        found = self._transaction.get(key)
        return None if found is None else bytes(found)


def _prefix(view: FeatureView) -> bytes:
    return b"s" + bytes.fromhex(view.digest[:32])


def _meta_key(view: FeatureView) -> bytes:
    return b"w" + bytes.fromhex(view.digest[:32])
