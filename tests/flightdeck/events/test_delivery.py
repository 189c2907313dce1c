"""What a batch leaves behind: letters once, schema changes once, alerts once a day."""

from pathlib import Path

import pyarrow as pa
import pytest

from flightdeck.core.clock import VirtualClock, from_us
from flightdeck.events.dead_letters import DeadLetter, DeadLetters
from flightdeck.events.delivery import Mend, Reception, replay_letters
from flightdeck.events.incoming import Rules
from flightdeck.events.log import EventLog
from flightdeck.events.schema_history import SchemaHistory
from pipelines.ingestion.streams import DEPARTED
from tests.event_streams import MINUTE_US, NOON_US, random_events

ROWS = random_events(1, 50, first_us=NOON_US - 60 * MINUTE_US, last_us=NOON_US)["departed"].to_pylist()
LETTER = DeadLetter("departed", "7", "a", "b is null", "{}")


def reception(folder: Path) -> tuple[Reception, VirtualClock]:
    clock = VirtualClock(from_us(NOON_US))
    return Reception(DeadLetters(folder), SchemaHistory(folder), clock), clock


def test_a_letter_is_kept_once_and_until_it_is_settled(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path)
    assert (letters.add([LETTER, LETTER]), letters.add([LETTER])) == (1, 0)
    assert letters.waiting("departed") == [LETTER]
    letters.settle([LETTER], "dropped: a test")
    assert letters.waiting("departed") == []
    assert letters.streams() == ["departed"]


def test_a_line_that_a_crash_cut_off_harms_no_other(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path)
    letters.add([LETTER])
    with (tmp_path / "departed.jsonl").open("a") as file:
        file.write('{"key": "cut o')
    other = DeadLetter("departed", "8", "b", "b is null", "\ud800 no json")
    letters.add([other])
    assert letters.waiting("departed") == [LETTER, other]


def test_a_new_column_is_recorded_once_with_the_time_it_was_first_seen(tmp_path: Path) -> None:
    taking, clock = reception(tmp_path)
    for minutes in range(2):
        clock.advance_to(from_us(NOON_US + minutes * MINUTE_US))
        assert taking.take_in(DEPARTED, [{**row, "gate": "B4"} for row in ROWS]).accepted.num_rows == 50
    (change,) = taking.history.changes()
    assert (change["where"], change["kind"], change["what"]) == ("departed", "additive", "new column gate")
    assert (change["first_seen"], change["offset"]) == (from_us(NOON_US).isoformat(), "0")
    assert taking.history.alerts() == []


def test_a_column_that_is_gone_is_an_alert_once_a_day(tmp_path: Path) -> None:
    taking, clock = reception(tmp_path)
    rows = [{name: value for name, value in row.items() if name != "is_late"} for row in ROWS]
    for day in (0, 0, 1):
        clock.advance_to(from_us(NOON_US + day * 1440 * MINUTE_US))
        assert len(taking.take_in(DEPARTED, rows).dead) == 50
    assert [change["kind"] for change in taking.history.changes()] == ["breaking"]
    alerts = taking.history.alerts()
    assert [alert["day"] for alert in alerts] == ["2013-09-12", "2013-09-13"]
    assert alerts[0]["runbook"] == "docs/runbooks/alert-schema-change.md"
    assert Path(str(alerts[0]["runbook"])).is_file()
    assert len(taking.letters.waiting("departed")) == 50


def test_a_few_bad_events_alone_are_no_schema_change_until_more_follow(tmp_path: Path) -> None:
    taking, _ = reception(tmp_path)
    bad = [{name: value for name, value in row.items() if name != "is_late"} for row in ROWS]
    taking.take_in(DEPARTED, bad[:9])
    taking.take_in(DEPARTED, ROWS[10:])
    taking.take_in(DEPARTED, bad[:9])
    assert taking.history.changes() == []
    taking.take_in(DEPARTED, bad[9:10])
    assert len(taking.history.changes()) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda row: {name: value for name, value in row.items() if name != "is_late"}, "column is_late is missing"),
        (lambda row: {**row, "dep_delay_min": str(row["dep_delay_min"])}, "column dep_delay_min has become str"),
    ],
)
def test_one_producer_of_two_that_breaks_the_schema_is_an_alert(tmp_path: Path, change: Mend, what: str) -> None:
    taking, _ = reception(tmp_path)
    both = [row for old, new in zip(ROWS[:4], ROWS[4:8], strict=True) for row in (old, change(new))]
    for n_batches in (1, 2, 3):
        rows = [{**row, "event_id": f"{row['event_id']}/{n_batches}"} for row in both]
        incoming = taking.take_in(DEPARTED, [*rows, "no object"])
        assert (incoming.accepted.num_rows, len(incoming.dead)) == (4, 5)
        assert [alert["about"] for alert in taking.history.alerts()] == ["departed: " + what] * (n_batches == 3)
    assert [found["what"] for found in taking.history.changes()] == [what]


def test_a_mended_event_that_the_log_holds_needs_an_id_of_its_own(tmp_path: Path) -> None:
    taking, _ = reception(tmp_path)
    log = EventLog(tmp_path / "log")
    taking.take_in(DEPARTED, [{**ROWS[0], "dep_delay_min": "12"}])
    log.append(DEPARTED, taking.take_in(DEPARTED, ROWS).accepted)

    def same_id(row: dict[str, object]) -> dict[str, object]:
        return {**row, "dep_delay_min": 12_345}

    def own_id(row: dict[str, object]) -> dict[str, object]:
        return {**same_id(row), "event_id": f"{row['event_id']}/mended"}

    sent = replay_letters(taking.letters, DEPARTED, lambda table: log.append(DEPARTED, table), mend=same_id)
    assert sent == (0, 1)
    (waiting,) = taking.letters.waiting("departed")
    assert "come with another content" in waiting.reason
    sent = replay_letters(taking.letters, DEPARTED, lambda table: log.append(DEPARTED, table), mend=own_id)
    assert sent == (1, 0)
    assert log.version("departed").n_rows == 51


def test_what_is_refused_harms_no_other_and_waits_with_its_new_reason(tmp_path: Path) -> None:
    taking, _ = reception(tmp_path)
    log = EventLog(tmp_path / "log")
    log.append(DEPARTED, taking.take_in(DEPARTED, ROWS[:1]).accepted)
    too_long = [{**row, "carrier": "x" * 600} for row in ROWS[:3]]
    assert len(taking.take_in(DEPARTED, [*too_long, {**ROWS[3], "origin": 7}]).dead) == 4
    rules, sent = Rules(longest_text=1000), []

    def send(events: pa.Table) -> None:
        log.append(DEPARTED, events)
        sent.extend(events["event_id"].to_pylist())

    assert replay_letters(taking.letters, DEPARTED, send, rules=rules, reason="no such reason") == (0, 0)
    assert replay_letters(taking.letters, DEPARTED, send, rules=rules, reason="longer than") == (2, 1)
    assert sent == [row["event_id"] for row in ROWS[1:3]]
    reasons = [letter.reason for letter in taking.letters.waiting("departed")]
    assert "come with another content" in reasons[0] and "origin" in reasons[1]
    assert replay_letters(taking.letters, DEPARTED, send, rules=rules) == (0, 2)
    assert log.version("departed").n_rows == 3
