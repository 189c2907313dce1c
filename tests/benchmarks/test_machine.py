"""CPU is counted over a whole process tree, and what others use is noticed."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.machine import Watch, tree_cpu_s, tree_rss_bytes

BURN = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True); input()"
PARENT = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])"


@pytest.fixture
def burning() -> Iterator["subprocess.Popen[str]"]:
    """A process that does nothing itself; its child has burnt 0.4 s of CPU and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.communicate("\n")


def test_a_tree_costs_what_its_children_cost_while_they_live_and_after(burning: "subprocess.Popen[str]") -> None:
    assert 0.3 < tree_cpu_s(burning.pid) < 2.0


def test_the_memory_of_a_tree_holds_that_of_its_children() -> None:
    hold = "held = bytearray(b'x') * 50_000_000; print(flush=True); input()"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {hold!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert 50_000_000 < tree_rss_bytes(process.pid) < 200_000_000
    process.communicate("\n")
    assert tree_rss_bytes(process.pid) == 0


def test_a_process_that_is_gone_costs_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert tree_cpu_s(process.pid) == 0.0


def test_what_is_not_watched_is_others() -> None:
    idle = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    blind, seeing = Watch(idle.pid), None
    other = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    seeing = Watch(idle.pid, other.pid)
    assert other.stdout is not None
    other.stdout.readline()
    without, with_it = blind.stop(), seeing.stop()
    for process in (idle, other):
        process.communicate(b"\n")
    assert without.others_share > with_it.others_share
    assert without.is_disturbed
