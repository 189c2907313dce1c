"""Metrics outlive the processes that counted them: exactly once, in few files, whatever is damaged."""

import multiprocessing.pool
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from flightdeck.core.layout import PROJECT
from serving.metric_files import fold, render

KEYS = {
    "counter": '["a_total", "a_total", {"kind": "%s"}, "Some"]',
    "histogram": '["took", "took_sum", {"kind": "%s"}, "Some"]',
    "gauge_livemax": '["now", "now", {"kind": "%s"}, "Some"]',
}


def write(folder: Path, pid: int, value: float, kinds: tuple[str, ...] = ("x",)) -> None:
    """Leave the files of a process that counted `value` of each kind and is gone."""
    for name, key in KEYS.items():
        content = MmapedDict(str(folder / f"{name}_{pid}.db"))
        for kind in kinds:
            content.write_value(key % kind, value, 0.0)
        content.close()


def values(folder: Path) -> dict[str, float]:
    """Return what a scrape says, by sample name, over all labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(render(folder).decode()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def test_a_fold_keeps_what_was_counted_and_drops_what_was_shown(tmp_path: Path) -> None:
    for pid in (101, 102, 103):
        write(tmp_path, pid, 2.0, ("x", "y"))
    assert values(tmp_path) == {"a_total": 12.0, "took_sum": 12.0, "now": 4.0}
    assert fold(tmp_path, {103}) == 6
    assert values(tmp_path) == {"a_total": 12.0, "took_sum": 12.0, "now": 4.0}
    assert sorted(path.name for path in tmp_path.glob("*.db")) == [
        "counter_0.db", "counter_103.db", "gauge_livemax_103.db", "histogram_0.db", "histogram_103.db",
    ]  # fmt: skip
    assert fold(tmp_path, set()) == 3
    assert values(tmp_path) == {"a_total": 12.0, "took_sum": 12.0}
    assert fold(tmp_path, set()) == 0


@pytest.fixture(scope="module")
def n_steps(tmp_path_factory: pytest.TempPathFactory) -> int:
    folder = tmp_path_factory.mktemp("whole")
    stage(folder)
    return int(run_fold(folder, 0).stdout)


def stage(folder: Path) -> None:
    """Leave one fold behind and three more processes to fold."""
    folder.mkdir(exist_ok=True)
    write(folder, 100, 1.0)
    fold(folder, set())
    for pid in (101, 102, 103):
        write(folder, pid, 2.0)


def run_fold(folder: Path, fatal: int) -> "subprocess.CompletedProcess[str]":
    code = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
    return subprocess.run(
        [sys.executable, "-m", "tests.serving.metric_process", str(folder), str(fatal)],
        env={**os.environ, "PYTHONPATH": code}, cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_fold_that_is_killed_between_any_two_steps_counts_everything_once(tmp_path: Path, n_steps: int) -> None:
    assert n_steps >= 10
    folders = [tmp_path / str(fatal) for fatal in range(1, n_steps + 1)]
    for folder in folders:
        stage(folder)
    with multiprocessing.pool.ThreadPool(2) as pool:
        done = pool.starmap(run_fold, [(folder, int(folder.name)) for folder in folders])
    assert [process.returncode for process in done] == [-signal.SIGKILL] * n_steps
    for folder in folders:
        expected = {"a_total": 7.0, "took_sum": 7.0}
        found = values(folder)
        assert {name: found[name] for name in expected} == expected, f"scraped after a kill at step {folder.name}"
        write(folder, 104, 3.0)
        fold(folder, set())
        assert values(folder) == {"a_total": 10.0, "took_sum": 10.0}, f"after a kill at step {folder.name}"


def test_counters_only_grow_over_a_hundred_killed_workers_and_the_files_stay_few(tmp_path: Path) -> None:
    seen = 0.0
    for n in range(100):
        write(tmp_path, 1000 + n, float(n))
        before = values(tmp_path)["a_total"]
        fold(tmp_path, set())
        after = values(tmp_path)["a_total"]
        assert after == before >= seen
        seen = after
    assert seen == sum(range(100))
    assert len(list(tmp_path.iterdir())) <= 4


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Path]:
    for pid in (101, 102):
        write(tmp_path, pid, 2.0)
    yield tmp_path


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", b"\xff" * 64, os.urandom(512), b"\x00" * 4096, (4096).to_bytes(4, "little") + b"\x00" * 60],
)
def test_a_damaged_file_is_set_aside_and_the_rest_is_shown(damaged: Path, content: bytes) -> None:
    (damaged / "counter_101.db").write_bytes(content)
    assert values(damaged)["a_total"] == 2.0
    assert values(damaged)["took_sum"] == 4.0
    fold(damaged, set())
    assert values(damaged) == {"a_total": 2.0, "took_sum": 4.0}


def test_no_flipped_or_cut_byte_makes_a_scrape_fail(damaged: Path) -> None:
    path = damaged / "counter_101.db"
    whole = path.read_bytes()
    used = int.from_bytes(whole[:4], "little")
    source = random.Random(4)
    for _ in range(150):
        content = bytearray(whole[: source.choice([used, source.randrange(used), len(whole)])])
        for _ in range(source.randrange(3)):
            place = source.randrange(max(min(used, len(content)), 1))
            content[place : place + 1] = bytes([source.randrange(256)])
        shutil.rmtree(damaged)
        damaged.mkdir()
        for pid in (101, 102):
            write(damaged, pid, 2.0)
        path.write_bytes(content)
        assert values(damaged)["took_sum"] == 4.0
        fold(damaged, set())
        assert values(damaged)["took_sum"] == 4.0


def test_scrapes_at_the_same_moment_agree_about_a_damaged_file(damaged: Path) -> None:
    (damaged / "counter_101.db").write_bytes(b"\xff" * 64)
    found: list[float] = []
    scrapes = [threading.Thread(target=lambda: found.append(values(damaged)["a_total"])) for _ in range(8)]
    for scrape in scrapes:
        scrape.start()
    for scrape in scrapes:
        scrape.join()
    assert found == [2.0] * 8


@pytest.mark.parametrize("n_bytes", [-1, -4, -24, -28, -(1 << 31)])
@pytest.mark.parametrize("entry", [0, 1])
def test_a_negative_length_ends_no_scrape_and_no_fold(damaged: Path, n_bytes: int, entry: int) -> None:
    write(damaged, 101, 2.0, ("x", "y"))
    path = damaged / "counter_101.db"
    content = bytearray(path.read_bytes())
    first = int.from_bytes(content[8:12], sys.byteorder)
    place = 8 if entry == 0 else 8 + 4 + first + 8 - (first + 4) % 8 + 16
    content[place : place + 4] = n_bytes.to_bytes(4, sys.byteorder, signed=True)
    for step in ("render(folder)", "fold(folder, ())"):
        path.write_bytes(content)
        code = f"from pathlib import Path; from serving.metric_files import *; folder = Path({str(damaged)!r}); {step}"
        subprocess.run([sys.executable, "-c", code], cwd=PROJECT, timeout=60, check=True, capture_output=True)
        assert path.with_suffix(".damaged").read_bytes() == content
    assert values(damaged) == {"a_total": 2.0, "took_sum": 6.0}, "what the other files counted"
