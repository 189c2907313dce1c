"""Kedro's door: empty places give empty values, and what is read is never written."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
from kedro.io import DatasetError

from flightdeck.core.clock import SystemClock
from flightdeck.events.schema_history import SchemaChange, SchemaHistory
from flightdeck.features.materializer import Materializer
from flightdeck.features.store import OnlineStore
from flightdeck.monitoring.datasets import (
    AlertLedgerDataset,
    EventLogDataset,
    PredictionLogDataset,
    WatermarksDataset,
)
from flightdeck.release.ledger import open_ledger
from pipelines.features.views import VIEWS
from tests.event_streams import NOON_US, random_events, write_log

DECLARED = "pipelines.features.views:VIEWS"


def test_watermarks_of_a_missing_a_fresh_and_a_fed_store(tmp_path: Path) -> None:
    dataset = WatermarksDataset(filepath=str(tmp_path / "store"), views=DECLARED)
    assert dataset.load() == {}
    OnlineStore.open(tmp_path / "store", read_only=False).close()
    assert dataset.load() == {}
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    log = write_log(tmp_path / "log", random_events(1, 5, first_us=NOON_US - 10, last_us=NOON_US))
    Materializer(store, VIEWS).backfill(log, NOON_US)
    store.close()
    assert dataset.load() == {view.name: NOON_US for view in VIEWS}


def test_a_view_whose_new_declaration_is_not_applied_yet_has_the_watermark_of_its_fed_version(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", random_events(1, 5, first_us=NOON_US - 10, last_us=NOON_US))
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, [replace(VIEWS[0], ttl_s=1)]).backfill(log, NOON_US)
    store.close()
    assert WatermarksDataset(filepath=str(tmp_path / "store"), views=DECLARED).load() == {VIEWS[0].name: NOON_US}


def test_reading_places_are_not_written(tmp_path: Path) -> None:
    for dataset in (PredictionLogDataset(filepath=str(tmp_path)), EventLogDataset(filepath=str(tmp_path))):
        with pytest.raises(DatasetError):
            dataset.save(None)
    with pytest.raises(DatasetError):
        AlertLedgerDataset(ledger=str(tmp_path / "ledger.sqlite"), schemas=str(tmp_path)).load()


def test_a_changed_source_is_an_alert_in_the_ledger(tmp_path: Path) -> None:
    changes = [SchemaChange("weather.csv", "breaking", "missing column wind_speed")]
    SchemaHistory(tmp_path).record(changes, at=dt.datetime(2013, 9, 12, tzinfo=dt.UTC))
    dataset = AlertLedgerDataset(ledger=str(tmp_path / "ledger.sqlite"), schemas=str(tmp_path))
    dataset.save([])
    dataset.save([])
    records = open_ledger(tmp_path / "ledger.sqlite", SystemClock()).records()
    assert [record.action for record in records] == ["alert"]
