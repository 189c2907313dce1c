"""What a measurement costs, and whether anything else used the machine meanwhile. Linux: /proc.

CPU is counted over whole process trees: a server with workers costs what its workers cost. `Watch` compares what the
machine was busy with what the watched trees used; the rest is somebody else's, and stolen time counts as that too.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
QUIET_SHARE = 0.03  # of the machine, used by others: a run with more is disturbed
_IDLE = (3, 4)  # places of idle and iowait in /proc/stat
_N_TIMES = 8  # user nice system idle iowait irq softirq steal; guests are part of user


@dataclass(frozen=True)
class Used:
    """What some process trees used between two moments.

    Parameters
    ----------
    cpu_s
        CPU seconds of the first tree.
    others_share
        Share of the machine's CPU time that went to none of the trees, 0 to 1.
    """

    cpu_s: float
    others_share: float

    @property
    def is_disturbed(self) -> bool:
        """Whether something else used the machine."""
        return self.others_share > QUIET_SHARE


class Watch:
    """Counts from its making until `stop`.

    Parameters
    ----------
    roots
        Process ids at the roots of the trees; what this process uses itself is nobody else's either.
    """

    def __init__(self, *roots: int) -> None:
        self._roots = roots
        self._began = self._look()

    def stop(self) -> Used:
        """Return what was used since."""
        ended = self._look()
        wall_s, busy_s, own_s, *trees_s = (after - before for after, before in zip(ended, self._began, strict=True))
        others_s = busy_s - own_s - sum(trees_s)
        return Used(trees_s[0], max(others_s, 0.0) / (wall_s * (os.cpu_count() or 1)))

    def _look(self) -> list[float]:
        own = os.times()
        trees_s = [tree_cpu_s(root) for root in self._roots]
        return [time.monotonic(), _busy_s(), own.user + own.system, *trees_s]


def tree_cpu_s(root: int) -> float:
    """Return the CPU seconds of a process, its descendants and its session, ended children that were waited for too."""
    stats = _read_stats()
    members = _members(root, {pid: (int(stat[1]), int(stat[3])) for pid, stat in stats.items()})
    return sum(sum(map(int, stats[pid][11:15])) for pid in members) * TICK_S


def tree_rss_bytes(root: int) -> int:
    """Return the resident memory of a process and its descendants; pages that they share count for each of them."""
    stats = _read_stats()
    members = _members(root, {pid: (int(stat[1]), int(stat[3])) for pid, stat in stats.items()})
    return sum(int(stats[pid][21]) for pid in members) * os.sysconf("SC_PAGE_SIZE")


def _members(root: int, families: dict[int, tuple[int, int]]) -> set[int]:
    """Return who belongs to the tree, of `(parent, session)` by process id."""
    members = {pid for pid, (_, session) in families.items() if pid == root or session == root}
    while True:
        more = {pid for pid, (parent, _) in families.items() if parent in members} - members
        if not more:
            return members
        members |= more


def _read_stats() -> dict[int, list[str]]:
    """Return the fields of /proc/<pid>/stat from the state on, by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                found[int(folder.name)] = (folder / "stat").read_text().rpartition(")")[2].split()
    return found


def _busy_s() -> float:
    times = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1 : 1 + _N_TIMES]
    return sum(int(value) for place, value in enumerate(times) if place not in _IDLE) * TICK_S
