"""How much memory this process may still take: what the kernel, and the process's control groups, have left.

Page cache counts as free, because the kernel gives it up, except for the file pages that this process has mapped: the
weights of a model that answers are such pages, and giving them up means reading them from the disk again and again.
"""

from collections.abc import Iterator
from pathlib import Path

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_FILES = {2: ("memory.max", "memory.current", ""), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")}


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """Return the bytes that can be taken without swapping or being killed; None where the system does not tell.

    The lowest counts: `MemAvailable` of the machine, and for each control group above this process (version 1 or 2)
    its limit less what it uses, page cache not counted.

    Parameters
    ----------
    proc, cgroup
        Where the kernel's tables are.
    """
    machine = _table(proc / "meminfo").get("MemAvailable")
    if machine is None:
        return None
    lowest = min([machine * 1024, *_left_in_groups(proc / "self" / "cgroup", cgroup)])
    mapped = _table(proc / "self" / "status").get("RssFile", 0) * 1024
    return max(0, lowest - mapped)


def _left_in_groups(membership: Path, cgroup: Path) -> Iterator[int]:
    """Yield what each limited group has left, from the process's own up to the root."""
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        _, controllers, name = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        version, root = (1, cgroup / "memory") if controllers else (2, cgroup)
        group = root / name.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            left = _left(folder, version)
            if left is not None:
                yield left


def _left(folder: Path, version: int) -> int | None:
    limit, usage, prefix = _FILES[version]
    if not (folder / limit).is_file() or not (folder / usage).is_file():
        return None
    ceiling = (folder / limit).read_text().strip()
    if ceiling == "max":
        return None
    statistics = _table(folder / "memory.stat")
    cached = sum(statistics.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
    return int(ceiling) - int((folder / usage).read_text()) + cached


def _table(path: Path) -> dict[str, int]:
    """Return the numbers of a kernel table by name, without their unit."""
    lines = (line.replace(":", " ").split() for line in path.read_text().splitlines()) if path.is_file() else ()
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}
