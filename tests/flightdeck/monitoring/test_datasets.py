"""Kedro's door: empty places give empty values, and what is read is never written."""

from pathlib import Path

import pytest
from kedro.io import DatasetError

from flightdeck.features.materializer import Materializer
from flightdeck.features.store import OnlineStore
from flightdeck.monitoring.datasets import (
    AlertLedgerDataset,
    EventLogDataset,
    PredictionLogDataset,
    WatermarksDataset,
)
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


def test_reading_places_are_not_written(tmp_path: Path) -> None:
    for dataset in (PredictionLogDataset(filepath=str(tmp_path)), EventLogDataset(filepath=str(tmp_path))):
        with pytest.raises(DatasetError):
            dataset.save(None)
    with pytest.raises(DatasetError):
        AlertLedgerDataset(ledger=str(tmp_path / "ledger.sqlite")).load()
