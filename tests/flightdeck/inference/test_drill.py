import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flightdeck.core.clock import to_us
from flightdeck.core.errors import ConfigError
from flightdeck.inference.drill import Drill, DrillReader, plan_drill, stop_drill, write_drill
from flightdeck.inference.modes import Mode

NOW = datetime(2013, 9, 12, 12, 0, tzinfo=UTC)
NOW_US = to_us(NOW)
SURFACES = ("alerts", "itinerary", "search")
LATER = (NOW + timedelta(minutes=1)).isoformat()


def test_a_drill_is_on_from_its_writing_to_its_end(tmp_path: Path) -> None:
    path, reader = tmp_path / "models" / "drill.json", DrillReader(tmp_path / "models" / "drill.json")
    assert reader.current(NOW_US) is None
    planned = plan_drill("fallback", "60s", "search", surfaces=SURFACES, now=NOW)
    write_drill(path, planned)
    assert planned == Drill(Mode.FALLBACK, NOW + timedelta(seconds=60), "search")
    assert reader.current(NOW_US) == planned == reader.current(NOW_US + 59_999_999)
    assert reader.current(NOW_US + 60_000_000) is None
    assert planned.covers("search") and not planned.covers("alerts")


def test_a_new_drill_replaces_the_one_before_and_a_stop_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "drill.json"
    reader = DrillReader(path)
    for mode in ("rules", "refused"):
        write_drill(path, plan_drill(mode, "1h", None, surfaces=SURFACES, now=NOW))
        found = reader.current(NOW_US)
        assert found is not None and found.mode.label == mode and found.covers("alerts")
    assert stop_drill(path) and not stop_drill(path)
    assert reader.current(NOW_US) is None


def test_everything_wrong_with_a_plan_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as found:
        plan_drill("fallbck", "61m", "serch", surfaces=SURFACES, now=NOW)
    for said in ("did you mean 'fallback'", "did you mean 'search'", "'61m'"):
        assert said in found.value.message


@pytest.mark.parametrize("length", ["0s", "60", "-1s", "2h", "", "1d", "1e3s", "٣s", "3601s"])
def test_a_length_that_does_not_end_soon_is_refused(length: str) -> None:
    with pytest.raises(ConfigError, match="at most 1h"):
        plan_drill("rules", length, None, surfaces=SURFACES, now=NOW)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[]",
        b'{"mode": "model", "until": "%s", "surface": null}' % LATER.encode(),
        b'{"mode": "rules", "until": "%s", "surface": 3}' % LATER.encode(),
        b'{"mode": "rules", "until": "2013-09-12T12:01:00", "surface": null}',
        b'{"mode": "rules", "until": "tomorrow", "surface": null}',
        b'{"mode": "rules", "until": "2013-09-12T11:59:00+00:00", "surface": null}',
        b'{"mode": "rules", "until": "2013-09-12T13:00:01+00:00", "surface": null}',
        b'{"mode": "rules", "until": "%s"}' % LATER.encode(),
        b'{"mode": "rules", "until": "%s", "surface": null, "more": 1}' % LATER.encode(),
    ],
)
def test_a_file_that_is_no_drill_of_now_is_ignored_with_one_warning(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "drill.json"
    path.write_bytes(content)
    reader = DrillReader(path)
    with caplog.at_level(logging.WARNING):
        assert [reader.current(NOW_US) for _ in range(3)] == [None] * 3
    assert len(caplog.records) == 1 and "kedro serve drill --stop" in caplog.text


def test_a_file_that_is_damaged_while_it_is_on_ends_the_drill(tmp_path: Path) -> None:
    path = tmp_path / "drill.json"
    write_drill(path, plan_drill("rules", "5m", None, surfaces=SURFACES, now=NOW))
    reader = DrillReader(path)
    assert reader.current(NOW_US) is not None
    path.write_bytes(b"{")
    assert reader.current(NOW_US) is None


def test_a_file_is_read_again_only_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "drill.json"
    write_drill(path, plan_drill("rules", "5m", None, surfaces=SURFACES, now=NOW))
    reader = DrillReader(path)
    first, status = reader.current(NOW_US), path.stat()
    path.write_bytes(b"x" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert reader.current(NOW_US) is first is not None
