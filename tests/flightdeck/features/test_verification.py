from pathlib import Path

import pytest

from flightdeck.core.errors import ConfigError
from flightdeck.events.log import EventLog
from flightdeck.features.materializer import Materializer
from flightdeck.features.store import OnlineStore
from flightdeck.features.verification import (
    NEVER_SEEN,
    chosen_engines,
    sample_entities,
    verify_offline,
    verify_online,
)
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return write_log(tmp_path / "log", random_events(2, 300, first_us=NOON_US - 300 * MINUTE_US, last_us=NOON_US))


def test_the_sample_holds_known_unknown_and_never_seen_entities(log: EventLog) -> None:
    entities = sample_entities(VIEWS, log, NOON_US, 40)
    assert set(entities) == {"origin", "carrier", "dest", "tailnum"}
    assert {NEVER_SEEN, "", "EWR"} <= set(entities["origin"])
    assert len({len(values) for values in entities.values()}) == 1
    assert sample_entities(VIEWS, log, NOON_US, 40)["origin"].tolist() == entities["origin"].tolist()


@pytest.mark.parametrize("views", [VIEWS, [view for view in VIEWS if not view.entity]], ids=["all", "everything"])
def test_a_fed_store_equals_the_log_and_a_wrong_one_is_found(log: EventLog, tmp_path: Path, views: list) -> None:  # type: ignore[type-arg]
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, views).backfill(log, NOON_US)
    entities = sample_entities(views, log, NOON_US, 50)
    found = verify_online(store, views, log, entities)
    assert [dict(one.mismatches) for one in found] == [{}] * len(views)
    assert sum(one.n_known or 0 for one in found) > 0
    with store.writing() as moment:
        keys = ["EWR"] if views[0].entity else [""]
        (state,) = moment.states(views[0], keys)
        (other,) = moment.states(views[0], ["JFK"] if views[0].entity else [""])
        assert state is not None and other is not None
        if views[0].entity:
            moment.put(views[0], keys, [other])
        else:
            moment.clear(views[0])
            moment.set_mark(views[0], moment.mark(views[1]))
    wrong = verify_online(store, views, log, entities)
    assert [one.view for one in wrong if one.mismatches] == [f"{views[0].name}@{views[0].version}"]
    store.close()


def test_another_offline_engine_agrees(log: EventLog) -> None:
    pytest.importorskip("duckdb")
    found = verify_offline("duckdb", VIEWS[:2], log, 50)
    assert [dict(one.mismatches) for one in found] == [{}, {}] and found[0].n_compared == 50 * len(VIEWS[0].columns)


def test_engines_are_named() -> None:
    assert chosen_engines(" numpy, online,online ") == ("online",)
    for text in ("numpy", "numpi,online", ""):
        with pytest.raises(ConfigError):
            chosen_engines(text)
