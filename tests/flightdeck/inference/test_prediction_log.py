import errno
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import PROJECT
from flightdeck.inference.prediction_log import Appended, PredictionLogWriter
from flightdeck.inference.prediction_log_folder import is_left
from flightdeck.inference.prediction_log_read import read_log
from tests.flightdeck.inference.log_process import BATCH, started
from tests.predictions import log_batch, read_records

CLOCK = VirtualClock(datetime(2013, 9, 12, 12, tzinfo=UTC))
NUMBERED = [f"r{n}" for n in range(100)]


def batch(first: int, n: int) -> list[dict[str, object]]:
    return [{"request_id": name} for name in NUMBERED[first : first + n]]


def read(folder: Path) -> list[str]:
    return [record["request_id"] for record in read_records(folder)]


def test_records_are_readable_before_the_call_returns(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path / "log", CLOCK)
    assert log.append(log_batch(batch(0, 3))) == Appended(n_written=3, n_sampled_out=0, n_dropped=0)
    assert read(tmp_path / "log") == NUMBERED[:3]
    log.close()


def test_an_empty_batch_is_no_frame(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK)
    whole = log_batch(batch(0, 3))
    assert log.append(whole.take(whole.item[:0])) == (0, 0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_segment_is_named_by_start_and_process(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK)
    log.append(log_batch(batch(0, 1)))
    assert [path.name for path in tmp_path.iterdir()] == [f"20130912T120000.000000Z-{os.getpid()}-0000.frames"]
    log.close()


def test_a_full_segment_is_followed_by_the_next_and_no_batch_is_split(tmp_path: Path) -> None:
    probe = PredictionLogWriter(tmp_path / "probe", CLOCK)
    probe.append(log_batch(batch(0, 2)))
    size = next((tmp_path / "probe").iterdir()).stat().st_size
    log = PredictionLogWriter(tmp_path / "log", CLOCK, segment_bytes=2 * size + size // 2)
    for first in range(0, 12, 2):
        log.append(log_batch(batch(first, 2)))
    log.sync()
    log.close()
    probe.close()
    assert len(list((tmp_path / "log").iterdir())) == 6 // 2
    assert read(tmp_path / "log") == NUMBERED[:12]
    assert read_log(tmp_path / "log").lost == (0, 0, 0, 0)


def test_a_segment_larger_than_the_limit_is_still_written(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK, segment_bytes=10)
    log.append(log_batch(batch(0, 5)))
    log.close()
    assert read(tmp_path) == NUMBERED[:5]


def test_an_old_segment_is_left_although_nothing_is_asked(tmp_path: Path) -> None:
    clock = VirtualClock(CLOCK.now())
    log = PredictionLogWriter(tmp_path, clock, segment_s=60)
    log.append(log_batch(batch(0, 1)))
    (first,) = tmp_path.iterdir()
    clock.advance_to(CLOCK.now() + timedelta(seconds=59))
    log.sync()
    assert not is_left(first)
    clock.advance_to(CLOCK.now() + timedelta(seconds=60))
    log.sync()
    assert is_left(first)
    log.append(log_batch(batch(1, 1)))
    assert len(list(tmp_path.iterdir())) == 2 and read(tmp_path) == NUMBERED[:2]
    log.close()


def test_a_deleted_segment_is_noticed(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK)
    log.append(log_batch(batch(0, 1)))
    for path in tmp_path.iterdir():
        path.unlink()
    log.append(log_batch(batch(1, 1)))
    log.close()
    assert read(tmp_path) == NUMBERED[1:2]


def test_a_folder_that_cannot_be_made_drops_and_counts_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way", encoding="utf-8")
    log = PredictionLogWriter(tmp_path / "log", CLOCK)
    assert log.append(log_batch(batch(0, 4))) == (0, 0, 4)
    (tmp_path / "log").unlink()
    assert log.append(log_batch(batch(4, 2))) == (2, 0, 0)
    assert (log.n_written, log.n_dropped) == (2, 4)
    log.close()
    assert read(tmp_path / "log") == NUMBERED[4:6]
    assert read_log(tmp_path / "log").lost.n_dropped == 4, "the log itself says what it lost"


@pytest.mark.parametrize("bad", [{"reason": "\ud800"}, {"unit_id": object()}])
def test_what_cannot_be_encoded_is_dropped_and_counted(tmp_path: Path, bad: dict[str, object]) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK)
    assert log.append(log_batch([bad, {}])) == (0, 0, 2)
    assert log.append(log_batch(batch(0, 1))) == (1, 0, 0)
    log.close()
    assert read(tmp_path) == NUMBERED[:1]


def test_a_batch_whose_columns_differ_in_length_is_dropped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from msgspec.structs import replace

    log = PredictionLogWriter(tmp_path, CLOCK)
    whole = log_batch(batch(0, 3))
    assert log.append(replace(whole, probability=whole.probability[:2])).n_dropped == 3
    assert "probability has 2 values for 3 rows" in caplog.text
    log.close()


def test_a_full_disk_leaves_whole_frames_and_counts_the_rest(tmp_path: Path) -> None:
    """A file size limit makes the kernel write a part and then refuse, as a full disk does."""
    code = f"""
import resource, json
from pathlib import Path
from flightdeck.core.clock import SystemClock
from flightdeck.inference.prediction_log import PredictionLogWriter
from tests.predictions import log_batch
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
log = PredictionLogWriter(Path({str(tmp_path)!r}), SystemClock())
for n in range(20):
    log.append(log_batch([{{"request_id": f"r{{n}}"}}]))
log.close()
print(json.dumps([log.n_written, log.n_dropped]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    n_written, n_dropped = json.loads(found.stdout)
    assert n_written + n_dropped == 20
    assert n_written > 0 and n_dropped > 0
    assert read(tmp_path) == NUMBERED[:n_written]
    assert read_log(tmp_path).lost[:2] == (0, 0)
    assert found.stderr.count("records are dropped") == 1


def test_dev_full_is_a_disk_that_is_always_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_full(path: Path, flags: int, mode: int = 0o777) -> int:
        assert flags & os.O_APPEND
        return real_open("/dev/full", os.O_WRONLY)

    real_open = os.open
    monkeypatch.setattr(os, "open", open_full)
    log = PredictionLogWriter(tmp_path, CLOCK)
    assert log.append(log_batch(batch(0, 2))).n_dropped == 2
    assert log.n_dropped == 2
    log.close()


def test_a_failed_flush_begins_a_new_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK)
    log.append(log_batch(batch(0, 1)))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        log.sync()
    log.append(log_batch(batch(1, 1)))
    log.sync()
    log.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert read(tmp_path) == NUMBERED[:2]


@pytest.mark.parametrize("n_acknowledged", [1, 7, 120, 403])
def test_kill_9_loses_and_repeats_nothing_that_was_acknowledged(tmp_path: Path, n_acknowledged: int) -> None:
    with started("write", tmp_path, "a", 20_000) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(n_acknowledged)]
        process.kill()
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    found = [(record["request_id"], record["item"]) for record in read_records(tmp_path)]
    assert len(found) == len(set(found))
    assert set(found) >= {(f"a-{number}", item) for number in told for item in range(BATCH)}
    assert len(found) <= BATCH * (len(told) + 1), "at most the one that was being acknowledged"
    assert read_log(tmp_path).lost.n_damaged == 0


def test_sampling_accounts_for_every_item(tmp_path: Path) -> None:
    log = PredictionLogWriter(tmp_path, CLOCK, sampling_rates={"search": 0.25, "alerts": 1.0})
    surfaces = ("search", "alerts", "itinerary")
    records = [{"unit_id": f"u{n}", "surface": surfaces[n % 3]} for n in range(600)]
    total = [log.append(log_batch(records[first : first + 10])) for first in range(0, 600, 10)]
    log.close()
    assert all(sum(done) == 10 for done in total)
    assert (log.n_written, log.n_sampled_out, log.n_dropped) == tuple(map(sum, zip(*total, strict=True)))
    found = read_records(tmp_path)
    assert len(found) == log.n_written
    assert {record["weight"] for record in found if record["surface"] == "search"} == {4.0}
    assert [record["weight"] for record in found if record["surface"] != "search"] == [1.0] * 400
    log_says = read_log(tmp_path).lost
    assert 0 < log_says.n_sampled_out <= log.n_sampled_out


@pytest.mark.parametrize("rate", [0.0, -0.5, 1.5, float("nan")])
def test_a_rate_outside_its_range_is_refused(tmp_path: Path, rate: float) -> None:
    with pytest.raises(ConfigError, match="search"):
        PredictionLogWriter(tmp_path, CLOCK, sampling_rates={"search": rate})
