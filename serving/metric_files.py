"""Metrics of several worker processes, also of those that are gone: files that one scrape adds up.

Each worker keeps its numbers in memory-mapped files of its own (prometheus_client's multiprocess mode), so that a kill
loses none. A worker that ended leaves its files behind; the supervisor folds them into one file a kind, or a hundred
kills would leave hundreds of files that each scrape reads. Counters stay monotone through a fold, whatever is killed
when: it is one rename, a journal says which files it made superfluous, and scrapes wait for it.
"""

import fcntl
import json
import logging
import os
import struct
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from flightdeck.core.files import write_atomically

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
KINDS = ("counter", "histogram")
FOLDED = 0  # the process id that no process has
_JOURNAL, _LOCK = "folding.json", ".lock"
_DAMAGES = (ValueError, TypeError, KeyError, AttributeError, OSError, IndexError, RuntimeError, struct.error)
_log = logging.getLogger(__name__)


def render(folder: Path) -> bytes:
    """Return the metrics of all processes in the Prometheus text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    with _locked(folder, fcntl.LOCK_SH):
        if not (folder / _JOURNAL).exists() and all(map(_has_an_end, folder.glob("*.db"))):
            try:
                return generate_latest(registry)
            except _DAMAGES as error:
                _log.error("metrics: a scrape failed: %r", error)
    with _locked(folder, fcntl.LOCK_EX):
        _finish(folder)
        for path in sorted(folder.glob("*.db")):
            _read(path)
        return generate_latest(registry)


def fold(folder: Path, alive: Collection[int]) -> int:
    """Fold the files of processes that are not `alive` into one a kind, and drop their gauges.

    Returns
    -------
    int
        How many files went.
    """
    with _locked(folder, fcntl.LOCK_EX):
        _finish(folder)
        gone = [path for path in sorted(folder.glob("*.db")) if _pid(path) not in {*alive, FOLDED}]
        values: dict[str, list[tuple[Path, dict[str, tuple[float, float]]]]] = {kind: [] for kind in KINDS}
        for path in gone:
            kind = path.name.partition("_")[0]
            if kind in values:
                content = _read(path)
                if content is not None:
                    values[kind].append((path, content))
            else:
                path.unlink()
        for kind, files in values.items():
            if files:
                _fold_kind(folder, kind, files)
    return len(gone)


def _fold_kind(folder: Path, kind: str, files: list[tuple[Path, dict[str, tuple[float, float]]]]) -> None:
    target = folder / f"{kind}_{FOLDED}.db"
    totals = dict((_read(target) or {}) if target.exists() else {})
    for _, content in files:
        for key, (value, at) in content.items():
            before, since = totals.get(key, (0.0, 0.0))
            totals[key] = before + value, max(since, at)
    fresh = folder / f"{kind}.new"
    fresh.unlink(missing_ok=True)
    written = MmapedDict(str(fresh))
    for key, (value, at) in totals.items():
        written.write_value(key, value, at)
    written.close()
    write_atomically(
        folder / _JOURNAL, json.dumps({"new": fresh.name, "gone": [path.name for path, _ in files]}).encode()
    )
    fresh.rename(target)
    _finish(folder)


def _finish(folder: Path) -> None:
    """End a fold that was cut off: its new file is in place or it is not, and the journal says what follows."""
    journal = folder / _JOURNAL
    if not journal.exists():
        return
    entry = json.loads(journal.read_bytes())
    fresh = folder / entry["new"]
    if fresh.exists():
        fresh.unlink()  # not in place: what it was made of is still there
    else:
        for name in entry["gone"]:
            (folder / name).unlink(missing_ok=True)
    journal.unlink()


def _read(path: Path) -> dict[str, tuple[float, float]] | None:
    """Return value and time by key; a file that is damaged is set aside, or every scrape would fail on it."""
    try:
        if not _has_an_end(path):
            raise ValueError("a key of negative length")
        content = {key: (value, at) for key, value, at, _ in MmapedDict.read_all_values_from_file(str(path))}
        for key in content:
            _, _, labels, _ = json.loads(key)
            labels.items()
    except _DAMAGES as error:
        _log.error("metrics: %s is damaged (%s); it is set aside, what it counted is lost", path, error)
        path.rename(path.with_suffix(".damaged"))
        return None
    return content


def _has_an_end(path: Path) -> bool:
    """Tell whether reading a file ends: prometheus_client steps backwards over a key of negative length, for ever."""
    content = path.read_bytes()
    place, end = 8, min(_number(content, 0), len(content) - 4)
    while place < end:
        n_bytes = _number(content, place)
        if n_bytes < 0:
            return False
        place += 4 + n_bytes + 8 - (n_bytes + 4) % 8 + 16
    return True


def _number(content: bytes, place: int) -> int:
    return int.from_bytes(content[place : place + 4], sys.byteorder, signed=True)


def _pid(path: Path) -> int:
    number = path.stem.rpartition("_")[2]
    return int(number) if number.isdigit() else -1


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
