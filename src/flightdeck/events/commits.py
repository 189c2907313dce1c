"""What one commit of a stream added: its files, how many events they hold, and the digest of the version.

Delta's log is one JSON file a commit (https://github.com/delta-io/delta/blob/master/PROTOCOL.md). Reading the one that
is asked for takes the same time whatever came before; asking for the table's history reads all of them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
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
    oldest_us
        No event in them became known earlier, UTC microseconds; None where the log does not say.
    """

    version: int
    digest: str
    n_rows: int
    files: tuple[Path, ...]
    n_added: int
    newest_us: int | None
    oldest_us: int | None = None


def read_commit(stream_folder: Path, version: int) -> Commit | None:
    """Return a version's commit, None if the log does not hold it."""
    try:
        lines = (stream_folder / LOG_FOLDER / f"{version:020d}.json").read_bytes().splitlines()
    except FileNotFoundError:
        return None
    added: list[dict[str, Any]] = []
    info: dict[str, str] = {}
    for action in map(json.loads, lines):
        info = action.get("commitInfo", info)
        if "add" in action and action["add"]["dataChange"]:
            added.append(action["add"])
    statistics = [json.loads(one.get("stats") or "{}") for one in added]
    newest = [_known_us(one, "maxValues") for one in statistics]
    oldest = [_known_us(one, "minValues") for one in statistics]
    newest_us = None if None in newest else max((at + _MILLISECOND_US for at in newest if at is not None), default=-1)
    oldest_us = None if None in oldest else min((at for at in oldest if at is not None), default=None)
    return Commit(
        version,
        str(info["digest"]),
        int(info["n_rows"]),
        tuple(stream_folder / unquote(one["path"]) for one in added),
        sum(int(one.get("numRecords", 0)) for one in statistics),
        int(info["newest_us"]) if "newest_us" in info else newest_us,
        int(info["oldest_us"]) if "oldest_us" in info else oldest_us,
    )


def _known_us(statistics: Mapping[str, Any], bound: str) -> int | None:
    """Return a file's bound of the time of knowledge, None where it has none or one beyond the calendar."""
    try:
        return to_us(datetime.fromisoformat(statistics[bound]["created_timestamp"]))
    except (KeyError, ValueError):
        return None


def latest_commit(stream_folder: Path, known: int = -1) -> int:
    """Return the number of the latest commit, -1 if there is none; `known` is one that is there already."""
    if known < 0:
        names = (path.stem for path in (stream_folder / LOG_FOLDER).glob("*.json"))
        known = max((int(name) for name in names if name.isdigit()), default=-1)
    while known >= 0 and (stream_folder / LOG_FOLDER / f"{known + 1:020d}.json").exists():
        known += 1
    return known
