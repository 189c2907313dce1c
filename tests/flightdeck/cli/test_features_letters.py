"""`kedro features letters` on a real log and store, and on a real Redis stream."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flightdeck.cli import features_materialize
from flightdeck.cli.features import features
from flightdeck.cli.features_letters import letters_of
from flightdeck.core.layout import layout
from flightdeck.events.delivery import Reception
from flightdeck.events.incoming import Rules
from flightdeck.events.log import EventLog
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.features.redis_keys import stream_key
from flightdeck.features.redis_publish import RedisPublisher
from pipelines.ingestion.streams import DEPARTED, STREAMS
from tests.event_streams import MINUTE_US, NOON_US, between, random_events, write_log
from tests.redis_server import redis_server

HALF_US = NOON_US - 90 * MINUTE_US
EVENTS = random_events(5, 400, first_us=NOON_US - 180 * MINUTE_US, last_us=NOON_US)
LATE_ROWS = between(EVENTS, HALF_US, NOON_US)["departed"].to_pylist()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    """A data root whose log knows the first half; the second half are letters, as the door's clock was behind."""
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "220")
    for name in ("KEDRO_ENV", "FLIGHTDECK_ONLINE_STORE", "FLIGHTDECK_EVENT_STREAM"):
        monkeypatch.delenv(name, raising=False)
    log = write_log(layout().event_log, between(EVENTS, 0, HALF_US))
    taking = Reception(letters_of(layout()), SchemaHistory(tmp_path / "schemas"))
    rows = [{**LATE_ROWS[0], "event_id": "", "dep_delay_min": "twelve"}, *LATE_ROWS]
    taken = taking.take_in(
        DEPARTED, rows, rules=Rules(now_us=HALF_US, skew_us=0), offsets=[f"9#{i}" for i in range(len(rows))]
    )
    assert len(taken.dead) == len(rows)
    return log


def kedro_features(*arguments: str) -> Result:
    return CliRunner().invoke(features, arguments)


def test_letters_are_listed_by_stream_and_reason(log: EventLog) -> None:
    told = kedro_features("letters")
    assert told.exit_code == 0
    (many,) = [
        line for line in told.output.splitlines() if "lies in the future" in line and f" {len(LATE_ROWS)} " in line
    ]
    newest = max(row["created_timestamp"] for row in LATE_ROWS)
    assert "departed" in many and newest.isoformat() in many
    (one,) = [line for line in told.output.splitlines() if "dep_delay_min" in line]
    assert "event_id is empty" in one and " 1 " in one


def test_a_replay_sends_each_letter_once_and_the_store_counts_it(log: EventLog) -> None:
    assert kedro_features("apply", "--until", "2013-09-12T10:30:00Z").exit_code == 0
    before = log.version("departed").n_rows
    told = kedro_features("letters", "replay", "departed")
    assert told.exit_code == 0, told.output
    assert f"departed: {len(LATE_ROWS)} sent in, 1 still break the rules" in told.output
    assert log.version("departed").n_rows == before + len(LATE_ROWS)
    (left,) = letters_of(layout()).waiting("departed")
    assert "dep_delay_min" in left.reason and "future" not in left.reason  # the reason of today
    assert "departed: 0 sent in, 1 still" in kedro_features("letters", "replay", "departed").output
    assert log.version("departed").n_rows == before + len(LATE_ROWS)
    assert kedro_features("materialize").exit_code == 0
    assert kedro_features("verify", "--rows", "50").exit_code == 0


def test_a_replay_of_one_reason_leaves_the_others(log: EventLog) -> None:
    told = kedro_features("letters", "replay", "departed", "--reason", "event_id is empty")
    assert "departed: 0 sent in, 1 still break the rules" in told.output
    assert len(letters_of(layout()).waiting("departed")) == len(LATE_ROWS) + 1
    told = kedro_features("letters", "replay", "departed", "--reason", "future")
    assert f"departed: {len(LATE_ROWS)} sent in, 0 still break the rules" in told.output


def test_what_the_log_holds_already_is_said(log: EventLog) -> None:
    log.append(DEPARTED, between(EVENTS, HALF_US, NOON_US)["departed"].slice(0, 3))
    told = kedro_features("letters", "replay", "departed")
    assert "3 of those sent in were in the log already" in told.output and "kedro features backfill" in told.output


def test_where_events_come_from_redis_they_are_published_too(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server() as server:
        monkeypatch.setenv("FLIGHTDECK_ONLINE_STORE", server.url)
        monkeypatch.setenv("FLIGHTDECK_EVENT_STREAM", server.url)
        assert kedro_features("apply", "--until", "2013-09-12T10:30:00Z").exit_code == 0
        before = log.version("departed").n_rows
        told = kedro_features("letters", "replay", "departed")
        assert f"departed: {len(LATE_ROWS)} sent in, 1 still break the rules" in told.output
        with server.client() as client:
            assert client.xlen(stream_key(0)) == 1
        assert log.version("departed").n_rows == before + len(LATE_ROWS)
        fed = kedro_features("materialize")
        assert fed.exit_code == 0 and f"{len(LATE_ROWS):,} events in 1 transactions" in fed.output
        assert kedro_features("verify", "--rows", "50").exit_code == 0, kedro_features("verify").output


def test_events_of_a_stream_that_is_declared_later_are_sent_in(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    came = between(EVENTS, HALF_US, NOON_US)["departed"]
    with redis_server() as server:
        monkeypatch.setenv("FLIGHTDECK_ONLINE_STORE", server.url)
        monkeypatch.setenv("FLIGHTDECK_EVENT_STREAM", server.url)
        assert kedro_features("apply", "--until", "2013-09-12T10:30:00Z").exit_code == 0
        publisher = RedisPublisher.open(server.url)
        publisher.publish("departed", came)
        publisher.publish("depart", came.slice(0, 2))
        publisher.close()
        with monkeypatch.context() as before:
            before.setattr(features_materialize, "STREAMS", [one for one in STREAMS if one.name != "departed"])
            assert f"{len(came) + 2:,} were refused" in kedro_features("materialize").output
        told = kedro_features("letters", "replay", "undeclared", "--reason", "'departed'")
        assert told.output.strip() == f"departed: {len(came):,} sent in, 0 still break the rules"
        assert f"{len(came):,} events in 1 transactions" in kedro_features("materialize").output
    assert [letter.named for letter in letters_of(layout()).waiting("undeclared")] == ["depart"] * 2
    refused = kedro_features("letters", "replay", "undeclared")
    assert refused.exit_code == 1 and "nobody declares 'depart'" in refused.output and "streams.py" in refused.output


def test_letters_of_undeclared_streams_are_sent_with_those_of_the_stream(log: EventLog) -> None:
    strangers = between(EVENTS, HALF_US, NOON_US)["arrived"]
    taking = Reception(letters_of(layout()), SchemaHistory(log.root.parent / "schemas"))
    assert taking.refuse("arrived", strangers, ["departed"]) == len(strangers) > 0
    assert f"arrived: {len(strangers):,} sent in, 0" in kedro_features("letters", "replay", "arrived").output
    assert letters_of(layout()).waiting("undeclared") == []
    assert "arrived: 0 sent in, 0" in kedro_features("letters", "replay", "arrived").output


def test_nothing_waits_and_an_unknown_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    assert "no dead letters wait" in kedro_features("letters").output
    refused = kedro_features("letters", "replay", "departd")
    assert refused.exit_code == 1 and "did you mean 'departed'" in refused.output and "next step" in refused.output
