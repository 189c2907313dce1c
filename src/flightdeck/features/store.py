"""The embedded online store: memory-mapped, many reading processes, one writer (ADR 0002).

The door to LMDB. States of all views, what they reflect and which versions are fed change in one transaction, so
a reader sees a moment of the stream and never half of one, and `kill -9` at any point leaves the last committed moment.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from pathlib import Path

import lmdb
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.core.errors import ConfigError, StoreUnavailable
from flightdeck.core.identifiers import digest_bytes
from flightdeck.features.stores import Filling, Mark, StoreEmpty, StoreRead, mark_of
from flightdeck.features.view import FeatureView

MAP_BYTES = 1 << 36  # address space, not disk: the file is as long as its content
_N_META_PAGES = 2
_BACKFILL = "fill it from the event log: kedro features apply"
_REFILL = f"remove its folder and {_BACKFILL}"


class OnlineStore:
    """States of feature views with what they reflect; a `FeatureStore`.

    Use `OnlineStore.open`.

    Notes
    -----
    Touching a mapped page beyond the end of the file kills the process (SIGBUS). Before a transaction touches more than
    the pages that tell the length, the size of the file is therefore compared with the pages that it should hold: one
    system call while the file has the size at which this moment was found whole. A file that is cut off within a
    transaction is not noticed in time.
    """

    def __init__(self, environment: "lmdb.Environment", path: Path, data: int, page_bytes: int) -> None:
        self._environment = environment
        self._data = data
        self._page_bytes = page_bytes
        self._whole = (-1, -1)  # size at which a moment was found whole, and that moment
        self.path = path

    @classmethod
    def open(cls, path: Path, *, read_only: bool, map_bytes: int = MAP_BYTES) -> "OnlineStore":
        """Open the store in the folder `path`; a writer makes it.

        Parameters
        ----------
        path
            Folder of the store.
        read_only
            Whether it is opened for reading only.
        map_bytes
            Address space that is reserved: the greatest length of the file.

        Raises
        ------
        StoreEmpty
            If a reader finds no store.
        StoreUnavailable
            If the files are damaged, cut off or not accessible.
        """
        try:
            if not read_only:
                path.mkdir(parents=True, exist_ok=True)
            elif not (path / "data.mdb").is_file():
                raise StoreEmpty(f"opening the online store: nothing in {path}", next_step=_BACKFILL)
            environment = lmdb.open(
                str(path), map_size=map_bytes, readonly=read_only, create=not read_only, max_readers=512, lock=True
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
            if not read_only:
                store._take_over()
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
    def filling(self, views: Sequence[FeatureView], until_us: int) -> Iterator[Filling]:
        """Give a transaction in which versions are filled anew; see `writing`."""
        with self.writing() as moment:
            yield Filling(moment, until_us)

    def not_filled(self, view: FeatureView, stream: str, events: pa.Table) -> pa.Table:
        """Return all of them: who feeds this store knows by its offset what was read."""
        return events

    def owns(self, view: FeatureView, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Tell which keys this store's writer feeds: all."""
        return np.ones(len(keys), dtype=bool)

    def read(self, wanted: Sequence[tuple[FeatureView, Sequence[str]]]) -> StoreRead:
        """Return states and marks of one moment.

        Raises
        ------
        StoreUnavailable
            If the store cannot be read, or holds nothing of one of the views.
        """
        named = [_names(view.digest) for view, _ in wanted]
        asked = [prefix + key.encode() for (_, prefix), (_, keys) in zip(named, wanted, strict=True) for key in keys]
        try:
            with self._begin() as transaction:
                get = _getter(transaction)
                marks = [get(mark) for mark, _ in named]
                found = map(get, _fitting(asked))
                states = [list(islice(found, len(keys))) for _, keys in wanted]
        except lmdb.Error as error:
            raise self._unreadable(error) from error
        if len(set(marks)) == 1:  # as a rule: views are fed together
            return StoreRead(states, [_mark(wanted[0][0], marks[0])] * len(marks))
        return StoreRead(states, [_mark(view, packed) for (view, _), packed in zip(wanted, marks, strict=True)])

    @contextmanager
    def reading(self) -> Iterator["Moment"]:
        """Give one consistent moment of the store.

        Raises
        ------
        StoreUnavailable
            If the store cannot be read or its file is cut off.
        """
        try:
            with self._begin() as transaction:
                yield Moment(transaction)
        except lmdb.Error as error:
            raise self._unreadable(error) from error

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
        except lmdb.MapFullError as error:
            raise StoreUnavailable(
                f"writing the online store {self.path}: the transaction does not fit into the map of "
                f"{self._environment.info()['map_size']:,} bytes; nothing of it was written",
                next_step="forget versions that nobody reads: kedro features retire; or open it with more map_bytes",
            ) from error
        except lmdb.Error as error:
            raise StoreUnavailable(
                f"writing the online store {self.path}: {error}", next_step="free disk space and start again"
            ) from error

    def _take_over(self) -> None:
        """Find a commit that a killed writer had finished and not announced: LMDB does so where its lock is next taken.

        Until then reads see the moment before, and who goes on from there applies that batch a second time.
        """
        try:
            self._environment.begin(write=True).abort()
        except lmdb.Error as error:
            raise StoreUnavailable(f"opening the online store {self.path}: {error}", next_step=_BACKFILL) from error

    def _begin(self) -> "lmdb.Transaction":
        """Begin to read a moment all of whose pages are in the file; how many those are never changes for a moment."""
        try:
            n_bytes = self._n_bytes()
            if n_bytes != self._whole[0]:
                n_bytes = self._require_whole("reading")
            transaction = self._environment.begin(buffers=False)
        except (lmdb.Error, OSError) as error:
            raise self._unreadable(error) from error
        if (n_bytes, transaction.id()) != self._whole:
            try:
                self._whole = self._require_whole("reading"), transaction.id()
            except StoreUnavailable:
                transaction.abort()
                raise
        return transaction

    def _unreadable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"reading the online store {self.path}: {error}", next_step=_BACKFILL)

    def _require_whole(self, doing: str) -> int:
        """Refuse a file that is shorter than its pages, before LMDB touches one that is not there; return its size."""
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
        return n_bytes

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
        return os.lseek(self._data, 0, os.SEEK_END)  # a third of the time of fstat

    def _needed_bytes(self) -> int:
        return (int(self._environment.info()["last_pgno"]) + 1) * self._page_bytes


class Moment:
    """One transaction: reads see one moment, writes become visible together."""

    def __init__(self, transaction: "lmdb.Transaction") -> None:
        self._transaction = transaction

    def mark(self, view: FeatureView) -> Mark:
        """Return what the states of a view reflect.

        Raises
        ------
        StoreUnavailable
            If the store has never been fed for this version of the view.
        """
        return _mark(view, _getter(self._transaction)(_key(_MARK, view)))

    def watermark_us(self, view: FeatureView) -> int:
        """Return the time up to which all known events are applied to a view; `StoreUnavailable` if never fed."""
        return self.mark(view).watermark_us

    def states(self, view: FeatureView, keys: Sequence[str]) -> list[bytes | None]:
        """Return the packed state of each key, None where there is none."""
        return list(map(_getter(self._transaction), _stored(view, keys)))

    def keys(self, view: FeatureView) -> list[str]:
        """Return the entity keys that have a state; those that a digest stands for are left out."""
        prefix, found = _key(_STATE, view), []
        with self._transaction.cursor() as cursor:
            is_there = cursor.set_range(prefix)
            while is_there and bytes(cursor.key()).startswith(prefix):
                found.append(bytes(cursor.key())[len(prefix) :])
                is_there = cursor.next()
        return [key.decode() for key in found if not key.startswith(b"\xff")]

    def put(self, view: FeatureView, keys: Sequence[str], states: Sequence[bytes]) -> None:
        """Replace the states of some keys."""
        items = sorted(zip(_stored(view, keys), states, strict=True), key=itemgetter(0))
        with self._transaction.cursor() as cursor:
            cursor.putmulti(items)

    def set_mark(self, view: FeatureView, mark: Mark) -> None:
        """Say what the states of a view reflect now."""
        self._transaction.put(_key(_MARK, view), mark.packed())

    def set_watermark(self, view: FeatureView, watermark_us: int) -> None:
        """Say that all events known until `watermark_us` are applied; the offset is not known."""
        self.set_mark(view, Mark(watermark_us))

    def clear(self, view: FeatureView) -> None:
        """Forget states and mark of one version of a view."""
        self._delete(_key(_STATE, view))
        self._transaction.delete(_key(_MARK, view))

    def declared(self) -> dict[str, FeatureView]:
        """Return every version that the store feeds, by digest.

        Raises
        ------
        StoreUnavailable
            If a declaration is not of a form that this code reads.
        """
        return {view.digest: view for digest, view in self._declarations() if view.digest.startswith(digest)}

    def outdated(self) -> tuple[FeatureView, ...]:
        """Return what code of another meaning declared, under its digest of then; see `declared`."""
        found = self._declarations()
        return tuple(view.under(digest) for digest, view in found if not view.digest.startswith(digest))

    def _declarations(self) -> list[tuple[str, FeatureView]]:
        """Return the beginning of the digest under which each declaration was written, and the declaration."""
        found_views = []
        with self._transaction.cursor() as cursor:
            found = cursor.set_range(_DECLARED)
            while found and bytes(cursor.key()).startswith(_DECLARED):
                try:
                    view = FeatureView.from_json(msgspec.json.decode(cursor.value()))
                except (ConfigError, msgspec.DecodeError) as error:
                    raise StoreUnavailable(f"reading the online store: {error}", next_step=_REFILL) from error
                found_views.append((bytes(cursor.key())[len(_DECLARED) :].hex(), view))
                found = cursor.next()
        return found_views

    def declare(self, view: FeatureView) -> None:
        """Feed a version from now on."""
        self._transaction.put(_key(_DECLARED, view), msgspec.json.encode(view.as_json()))

    def forget(self, view: FeatureView) -> None:
        """Clear a version and feed it no more."""
        self.clear(view)
        self._transaction.delete(_key(_DECLARED, view))

    def _delete(self, prefix: bytes) -> None:
        with self._transaction.cursor() as cursor:
            found = cursor.set_range(prefix)
            while found and bytes(cursor.key()).startswith(prefix):
                found = cursor.delete()


_STATE, _MARK, _DECLARED = b"T", b"N", b"E"  # layouts before had S, M, D and s, w: they are never read as this one
MAX_KEY_BYTES = 511  # of LMDB
_N_PREFIX = 17  # bytes of kind and version before the entity key


def _key(kind: bytes, view: FeatureView) -> bytes:
    return _digest_key(kind, view.digest)


@lru_cache(maxsize=4096)
def _digest_key(kind: bytes, digest: str) -> bytes:
    return kind + bytes.fromhex(digest[: 2 * (_N_PREFIX - 1)])


@lru_cache(maxsize=4096)
def _names(digest: str) -> tuple[bytes, bytes]:
    """Return the key of a version's mark and what the keys of its states begin with."""
    return _digest_key(_MARK, digest), _digest_key(_STATE, digest)


def _getter(transaction: "lmdb.Transaction") -> Callable[[bytes], bytes | None]:
    return transaction.get  # type: ignore[return-value]  # no buffers asked


def _mark(view: FeatureView, packed: bytes | None) -> Mark:
    if packed is None:
        raise StoreUnavailable(
            f"the online store holds nothing of feature view {view.name} version {view.version}", next_step=_BACKFILL
        )
    return mark_of(packed)


def _stored(view: FeatureView, keys: Sequence[str]) -> list[bytes]:
    """Return the keys of states."""
    prefix = _key(_STATE, view)
    return _fitting([prefix + key.encode() for key in keys])


def _fitting(stored: list[bytes]) -> list[bytes]:
    """Return keys, those that are too long for LMDB with a digest in place of the entity key."""
    if len(b"".join(stored)) <= MAX_KEY_BYTES or max(map(len, stored)) <= MAX_KEY_BYTES:  # the first is told sooner
        return stored
    return [key if len(key) <= MAX_KEY_BYTES else _digested(key) for key in stored]


def _digested(stored: bytes) -> bytes:
    prefix, key = stored[:_N_PREFIX], stored[_N_PREFIX:]
    return prefix + b"\xff" + digest_bytes(key).encode()  # no UTF-8 text begins with this byte
