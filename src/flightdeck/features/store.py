"""The embedded online store: memory-mapped, many reading processes, one writer (ADR 0002).

The door to LMDB. State of all views and the watermark that it reflects change in one transaction, so a reader sees a
moment of the stream and never half of one, and `kill -9` at any point leaves the last committed moment.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import lmdb

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.view import FeatureView

MAP_BYTES = 1 << 32
_WATERMARK = struct.Struct("<q")
_N_META_PAGES = 2
_BACKFILL = "fill it from the event log: kedro replay --day <YYYY-MM-DD> does"
_REFILL = f"remove its folder and {_BACKFILL}"


class OnlineStore:
    """Key-value state of feature views with the watermark that it reflects.

    Use `OnlineStore.open`.

    Notes
    -----
    Touching a mapped page beyond the end of the file kills the process (SIGBUS). Before every transaction the size of
    the file is therefore compared with the pages that it should hold: two system calls. A file that is cut off within
    a transaction is not noticed in time.
    """

    def __init__(self, environment: "lmdb.Environment", path: Path, data: int, page_bytes: int) -> None:
        self._environment = environment
        self._data = data
        self._page_bytes = page_bytes
        self.path = path

    @classmethod
    def open(cls, path: Path, *, read_only: bool) -> "OnlineStore":
        """Open the store in the folder `path`; a writer makes it.

        Raises
        ------
        StoreUnavailable
            If a reader finds no store, or the files are damaged, cut off or not accessible.
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
        try:
            data = os.open(path / "data.mdb", os.O_RDONLY if read_only else os.O_RDWR)
        except OSError as error:
            environment.close()
            raise StoreUnavailable(f"opening the online store {path}: {error}", next_step=_BACKFILL) from error
        store = cls(environment, path, data, environment.stat()["psize"])
        try:
            store._require_whole("opening")
        except StoreUnavailable:
            store.close()
            raise
        environment.reader_check()
        return store

    def close(self) -> None:
        """Release the memory map; closing again does nothing."""
        self._environment.close()
        if self._data >= 0:
            os.close(self._data)
        self._data = -1

    @contextmanager
    def reading(self) -> Iterator["Moment"]:
        """Give one consistent moment of the store.

        Raises
        ------
        StoreUnavailable
            If the store cannot be read or its file is cut off.
        """
        self._require_whole("reading")
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
            If the disk or the map is full, or the file is cut off; nothing is changed then.
        """
        self._require_whole("writing")
        try:
            with self._environment.begin(write=True) as transaction:
                yield Moment(transaction)
            self._fill_up()
        except lmdb.Error as error:
            raise StoreUnavailable(
                f"writing the online store {self.path}: {error}", next_step="free disk space and start again"
            ) from error

    def _require_whole(self, doing: str) -> None:
        """Refuse a file that is shorter than its pages, before LMDB touches one that is not there."""
        needed = _N_META_PAGES * self._page_bytes  # the pages that tell the length
        try:
            n_bytes = self._n_bytes()
            if n_bytes >= needed:
                needed = self._needed_bytes()
                n_bytes = n_bytes if n_bytes >= needed else self._n_bytes()  # it may have grown in between
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(f"{doing} the online store {self.path}: {error}", next_step=_BACKFILL) from error
        if n_bytes < needed:
            raise StoreUnavailable(
                f"{doing} the online store {self.path}: data.mdb is cut off, {n_bytes:,} of {needed:,} bytes are there",
                next_step=_REFILL,
            )

    def _fill_up(self) -> None:
        """Make the file as long as its pages: LMDB does not write the last ones if the transaction freed them again."""
        try:
            needed = self._needed_bytes()
            if self._n_bytes() < needed:
                os.posix_fallocate(self._data, needed - 1, 1)  # unlike truncate it can never shorten or overwrite
        except OSError as error:
            raise StoreUnavailable(
                f"writing the online store {self.path}: all is written, but data.mdb cannot grow: {error}",
                next_step="free disk space and start again",
            ) from error

    def _n_bytes(self) -> int:
        return os.fstat(self._data).st_size

    def _needed_bytes(self) -> int:
        return (int(self._environment.info()["last_pgno"]) + 1) * self._page_bytes


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
