"""A drill: for a while everything, or one surface, is answered from a lower rung, to see that this works.

`kedro serve drill` writes it as a small file below the data root; every worker reads the file when it changes. A drill
ends by itself. A file that cannot be understood is no drill: serving goes on as if it were not there, with a warning.
"""

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from flightdeck.core.clock import to_us
from flightdeck.core.errors import ConfigError, nearest, some
from flightdeck.core.files import sync_folder, write_json
from flightdeck.inference.modes import Mode

REASON = "drill"
MODES = tuple(mode.label for mode in (Mode.FALLBACK, Mode.RULES, Mode.REFUSED))
MAX_LENGTH = timedelta(hours=1)
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_log = logging.getLogger(__name__)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["fallback", "rules", "refused"]
    until: Annotated[datetime, msgspec.Meta(tz=True)]
    surface: str | None


@dataclass(frozen=True)
class Drill:
    """Which rung answers, whom, until when.

    Parameters
    ----------
    mode
        The highest rung that is allowed; `REFUSED` allows none.
    until
        When it ends, UTC.
    surface
        The only surface that it is about; None for all.
    """

    mode: Mode
    until: datetime
    surface: str | None = None

    def covers(self, surface: str) -> bool:
        """Tell whether it is about a surface."""
        return self.surface is None or self.surface == surface


def plan_drill(mode: str, length: str, surface: str | None, *, surfaces: Collection[str], now: datetime) -> Drill:
    """Return the drill that begins now.

    Parameters
    ----------
    mode, length, surface
        As given on the command line: `fallback`, `60s`, `search` or None.
    surfaces
        Those that there are.
    now
        Timezone-aware time at which it begins.

    Raises
    ------
    ConfigError
        Naming everything that is wrong.
    """
    problems = []
    if mode not in MODES:
        problems.append(f"no mode {mode!r}{nearest(mode, MODES)}, use one of {some(MODES)}")
    if surface is not None and surface not in surfaces:
        problems.append(f"no surface {surface!r}{nearest(surface, surfaces)}, use one of {some(sorted(surfaces))}")
    lasts = _parse_length(length)
    if lasts is None or not timedelta(0) < lasts <= MAX_LENGTH:
        problems.append(f"length {length!r}: it is a number and s, m or h, above 0 and at most 1h")
    if problems or lasts is None:
        raise ConfigError(f"planning a drill: {'; '.join(problems)}", next_step="see kedro serve drill --help")
    return Drill(Mode[mode.upper()], now + lasts, surface)


def write_drill(path: Path, drill: Drill) -> None:
    """Put a drill in place of the one before; workers follow within their poll."""
    write_json(path, {"mode": drill.mode.label, "until": drill.until.isoformat(), "surface": drill.surface})


def stop_drill(path: Path) -> bool:
    """Remove the drill; tell whether there was one."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_folder(path.parent)
    return True


class DrillReader:
    """What a worker asks, once a tick: the drill of now. Costs one `stat`; the file is read when it changes.

    Parameters
    ----------
    path
        Where `write_drill` puts it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path
        self._seen: tuple[int, int, int] | None = None
        self._drill: Drill | None = None
        self._until_us = 0

    def current(self, now_us: int) -> Drill | None:
        """Return the drill that is on at `now_us`, microseconds since the epoch; None without one."""
        try:
            status = self._file.stat()
        except OSError:
            self._seen = self._drill = None
            return None
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen != self._seen:
            self._seen = seen
            self._read(now_us)
        return self._drill if now_us < self._until_us else None

    def _read(self, now_us: int) -> None:
        self._drill = None
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=_File)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            return self._ignore(str(error))
        until = found.until.isoformat(timespec="seconds")
        self._until_us = to_us(found.until)
        if self._until_us <= now_us:
            return self._ignore(f"it ended at {until}")
        if self._until_us > now_us + MAX_LENGTH // timedelta(microseconds=1):
            return self._ignore(f"it ends at {until}, more than an hour from now")
        self._drill = Drill(Mode[found.mode.upper()], found.until, found.surface)
        return None

    def _ignore(self, why: str) -> None:
        _log.warning("the drill in %s is ignored: %s; `kedro serve drill --stop` removes it", self._file, why)


def _parse_length(text: str) -> timedelta | None:
    found = re.fullmatch(r"([0-9]{1,6})([smh])", text)
    return timedelta(seconds=int(found[1]) * _UNITS_S[found[2]]) if found else None
