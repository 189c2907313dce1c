"""What is left of memory: the kernel's own figure, control groups of both versions, pages that a model needs."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from flightdeck.core.memory import available_bytes

MB = 1 << 20


def tables(root: Path, groups: Mapping[str, str], membership: str) -> tuple[Path, Path]:
    """Write kernel tables: 8 GB available, 100 MB mapped by this process, and the given files of control groups."""
    proc, cgroup = root / "proc", root / "cgroup"
    files = {
        proc / "meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nHugePages_Total: 0\n",
        proc / "self" / "status": "Name:\tserve\nRssFile:\t  102400 kB\n",
        proc / "self" / "cgroup": membership,
        **{cgroup / name: content for name, content in groups.items()},
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return proc, cgroup


V2 = {
    "a/memory.max": f"{1000 * MB}\n",
    "a/memory.current": f"{700 * MB}\n",
    "a/memory.stat": f"anon {500 * MB}\nactive_file {50 * MB}\ninactive_file {150 * MB}\n",
    "a/b/memory.max": "max\n",
    "a/b/memory.current": f"{700 * MB}\n",
}
V1 = {
    "memory/a/memory.limit_in_bytes": f"{1000 * MB}\n",
    "memory/a/memory.usage_in_bytes": f"{700 * MB}\n",
    "memory/a/memory.stat": f"active_file 0\ntotal_active_file {50 * MB}\ntotal_inactive_file {150 * MB}\n",
}


@pytest.mark.parametrize(
    ("groups", "membership", "left_mb"),
    [
        ({}, "0::/\n", 8192),
        (V2, "0::/a/b\n", 500),
        (V1, "8:pids:/x\n4:memory:/a\n0::/\n", 500),
        ({**V2, "a/memory.max": f"{99_000 * MB}\n"}, "0::/a/b\n", 8192),
        ({"memory.max": f"{60 * MB}\n", "memory.current": "0\n"}, "0::/\n", 100),
    ],
    ids=["no group", "version 2", "version 1", "a limit above the machine", "less than is mapped"],
)
def test_the_lowest_counts_less_what_is_mapped(
    tmp_path: Path, groups: dict[str, str], membership: str, left_mb: int
) -> None:
    assert available_bytes(*tables(tmp_path, groups, membership)) == (left_mb - 100) * MB


def test_a_system_without_tables_does_not_tell(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path) is None


def test_this_machine_tells_a_figure_below_its_memory() -> None:
    left = available_bytes()
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert left is not None
    assert 0 < left < int(total.split()[1]) * 1024
