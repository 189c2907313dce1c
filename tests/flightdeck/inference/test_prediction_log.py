import errno
import json
import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.inference.prediction_log import PredictionLogWriter

CLOCK = VirtualClock(datetime(2013, 9, 12, 12, tzinfo=UTC))


def read(folder: Path) -> list[int]:
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line)["n"] for line in lines]


def records(first: int, n: int, pad: int = 0) -> list[dict[str, object]]:
    return [{"n": first + i, "pad": "x" * pad} for i in range(n)]


def test_records_are_readable_before_the_call_returns(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path / "log", CLOCK)
    assert log.append(records(0, 3)) == 0
    assert read(tmp_path / "log") == [0, 1, 2]
    assert log.append([]) == 0
    log.append([{"n": 3, "p": float("nan")}])
    assert '"p":null' in next((tmp_path / "log").iterdir()).read_text("utf-8")
    log.close()


def test_a_segment_is_named_by_start_and_process(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK)
    log.append(records(0, 1))
    assert [path.name for path in tmp_path.iterdir()] == [f"20130912T120000.000000Z-{os.getpid()}-0000.jsonl"]
    log.close()


def test_a_full_segment_is_followed_by_the_next_and_no_batch_is_split(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK, segment_bytes=200)
    for batch in range(6):
        log.append(records(2 * batch, 2, pad=30))
    log.sync()
    log.close()
    segments = sorted(tmp_path.iterdir())
    assert len(segments) == 6 // 2
    assert read(tmp_path) == list(range(12))
    assert all(len(path.read_text("utf-8").splitlines()) % 2 == 0 for path in segments)


def test_a_segment_larger_than_the_limit_is_still_written(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK, segment_bytes=10)
    log.append(records(0, 5))
    log.close()
    assert read(tmp_path) == list(range(5))


def test_a_deleted_segment_is_noticed(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK)
    log.append(records(0, 1))
    for path in tmp_path.iterdir():
        path.unlink()
    log.append(records(1, 1))
    log.close()
    assert read(tmp_path) == [1]


def test_a_folder_that_cannot_be_made_drops_and_counts_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way", encoding="utf-8")
    log = PredictionLogWriter(tmp_path / "log", CLOCK)
    assert log.append(records(0, 4)) == 4
    (tmp_path / "log").unlink()
    assert log.append(records(4, 2)) == 0
    assert (log.n_written, log.n_dropped) == (2, 4)
    log.close()
    assert read(tmp_path / "log") == [4, 5]


def test_a_full_disk_leaves_whole_lines_and_counts_the_rest(tmp_path: Path) -> None:
    """A file size limit makes the kernel write a part and then refuse, as a full disk does."""
    code = f"""
import resource, json
from pathlib import Path
from flightdeck.core.clock import SystemClock
from flightdeck.inference.prediction_log import PredictionLogWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = PredictionLogWriter(Path({str(tmp_path)!r}), SystemClock())
for n in range(20):
    log.append([{{"n": n, "pad": "x" * 90}}])
log.close()
print(json.dumps([log.n_written, log.n_dropped]))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n_written, n_dropped = json.loads(found.stdout)
    assert n_written + n_dropped == 20
    assert n_dropped > 0
    content = b"".join(path.read_bytes() for path in tmp_path.glob("*.jsonl"))
    assert content.endswith(b"\n")
    assert read(tmp_path) == list(range(n_written))
    assert found.stderr.count("records are dropped") == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_dev_full_is_a_disk_that_is_always_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_full(path: Path, flags: int, mode: int = 0o777) -> int:
        assert flags & os.O_APPEND
        return real_open("/dev/full", os.O_WRONLY)

    real_open = os.open
    monkeypatch.setattr(os, "open", open_full)
    log = PredictionLogWriter(tmp_path, CLOCK)
    assert log.append(records(0, 2)) == 2
    assert log.n_dropped == 2
    log.close()


def test_a_failed_flush_begins_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK)
    log.append(records(0, 1))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        log.sync()
    log.append(records(1, 1))
    log.sync()
    log.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert read(tmp_path) == [0, 1]
