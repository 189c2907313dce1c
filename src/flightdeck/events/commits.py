"""What one commit of a stream added: its files, how many events they hold, and the digest of the version.

Delta's log is one JSON file a commit (https://github.com/delta-io/delta/blob/master/PROTOCOL.md). Reading the one that
is asked for takes the same time whatever came before; asking for the table's history reads all of them.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

from flightdeck.core.clock import to_us

LOG_FOLDER = "_delta_log"
_MILLISECOND_US = 1000  # statistics of instants may be cut down to whole milliseconds


@dataclass(frozen=True)
class Commit:
    """One version of a stream.

    Parameters
    ----------
    version
        Number of the commit, from 0.
    digest
        SHA-256 chain over all batches up to this version.
    n_rows
        Number of events in the stream at this version.
    files
        Data files that it added.
    n_added
        Number of events in them.
    newest_us
        No event in them became known later, UTC microseconds; None where the log does not say.
    """

    version: int
    digest: str
    n_rows: int
    files: tuple[Path, ...]
    n_added: int
    newest_us: int | None


def read_commit(stream_folder: Path, version: int) -> Commit | None:
    """Return a version's commit, None if the log does not hold it."""
    try:
        lines = (stream_folder / LOG_FOLDER / f"{version:020d}.json").read_bytes().splitlines()
    except FileNotFoundError:
        return None
    files, n_added = [], 0
    newest_us: int | None = -1
    is_bounded = True
    info: dict[str, str] = {}
    for action in map(json.loads, lines):
        info = action.get("commitInfo", info)
        added = action.get("add")
        if added and added["dataChange"]:
            statistics = json.loads(added.get("stats") or "{}")
            files.append(stream_folder / unquote(added["path"]))
            n_added += int(statistics.get("numRecords", 0))
            newest = statistics.get("maxValues", {}).get("created_timestamp")
            is_bounded &= newest is not None
            if newest is not None:
                newest_us = max(newest_us or 0, to_us(datetime.fromisoformat(newest)) + _MILLISECOND_US)
    if "newest_us" in info:
        newest_us = int(info["newest_us"])
    elif not is_bounded:
        newest_us = None
    return Commit(version, str(info["digest"]), int(info["n_rows"]), tuple(files), n_added, newest_us)


def latest_commit(stream_folder: Path, known: int = -1) -> int:
    """Return the number of the latest commit, -1 if there is none; `known` is one that is there already."""
    if known < 0:
        names = (path.stem for path in (stream_folder / LOG_FOLDER).glob("*.json"))
        known = max((int(name) for name in names if name.isdigit()), default=-1)
    while known >= 0 and (stream_folder / LOG_FOLDER / f"{known + 1:020d}.json").exists():
        known += 1
    return known
