"""Kedro's door to what monitoring reads and writes: prediction log, watermarks, champion, alerts."""

import logging
from collections.abc import Sequence
from contextlib import closing, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import StoreUnavailable
from flightdeck.events.log import EventLog
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.features.store_config import read_stores
from flightdeck.features.stores import open_store
from flightdeck.features.view import FeatureView
from flightdeck.monitoring.alerts import record_alerts
from flightdeck.monitoring.champion import ChampionReference, read_champion
from flightdeck.monitoring.experiment_periods import Period, experiment_periods
from flightdeck.monitoring.prediction_log import read_predictions
from flightdeck.monitoring.served_models import read_served_models
from flightdeck.monitoring.skew import ServedModel
from flightdeck.release.ledger_config import ledger_at

logger = logging.getLogger(__name__)


class _ReadOnlyDataset(AbstractDataset[None, Any]):
    """A place that monitoring looks at and never writes."""

    def save(self, data: None) -> None:
        """Refuse: monitoring only reads this."""
        raise DatasetError(f"{type(self).__name__} is read, never written by a pipeline")


class PredictionLogDataset(_ReadOnlyDataset):
    """All predictions of the log in the folder `filepath`, as `read_predictions` gives them."""

    def __init__(self, *, filepath: str) -> None:
        self._folder = Path(filepath)

    def load(self) -> pd.DataFrame:
        """Return one row an answered item; an empty log gives no rows."""
        return read_predictions(self._folder)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}


class EventLogDataset(_ReadOnlyDataset):
    """The event log in the folder `filepath` itself, to be read by time."""

    def __init__(self, *, filepath: str) -> None:
        self._log = EventLog(Path(filepath))

    def load(self) -> EventLog:
        """Return the log; nothing is read yet."""
        return self._log

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._log.root)}


class WatermarksDataset(_ReadOnlyDataset):
    """Watermark of each feature view in the online store, by view name; empty without a store.

    Of a view whose present declaration has not been applied yet it is that of the version that is still fed.

    Parameters
    ----------
    filepath
        Folder of the store; where stores.yml names a Redis for `KEDRO_ENV`, that is looked at.
    views
        Where the views are declared, as `module:NAME`.
    """

    def __init__(self, *, filepath: str, views: str) -> None:
        self._path = Path(filepath)
        self._views = views

    def load(self) -> dict[str, int]:
        """Return the watermarks, UTC microseconds; a view that was never fed is left out."""
        module, _, name = self._views.partition(":")
        views: Sequence[FeatureView] = getattr(import_module(module), name)
        found: dict[str, int] = {}
        try:
            store = open_store(read_stores().online_store_url or self._path, read_only=True)
            with closing(store), store.reading() as moment:
                for view in (*moment.declared().values(), *views):  # what is declared now comes last
                    with suppress(StoreUnavailable):
                        found[view.name] = moment.mark(view).watermark_us
        except StoreUnavailable as error:
            logger.warning("%s", error)
        names = {view.name for view in views}
        return {name: watermark_us for name, watermark_us in found.items() if name in names}

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path), "views": self._views}


class ChampionReferenceDataset(_ReadOnlyDataset):
    """The reference in the bundle of the champion that the ledger names."""

    def __init__(self, *, ledger: str, bundles: str) -> None:
        self._ledger = Path(ledger)
        self._bundles = Path(bundles)

    def load(self) -> ChampionReference:
        """Return the reference, empty without a champion."""
        return read_champion(self._ledger, self._bundles, SystemClock())

    def _describe(self) -> dict[str, Any]:
        return {"ledger": str(self._ledger), "bundles": str(self._bundles)}


class ServedModelsDataset(_ReadOnlyDataset):
    """The model of every released bundle, by bundle digest: what it reads, and the graph that computes it."""

    def __init__(self, *, ledger: str, bundles: str) -> None:
        self._ledger = Path(ledger)
        self._bundles = Path(bundles)

    def load(self) -> dict[str, ServedModel]:
        """Return the models; each is opened when it is first asked."""
        return read_served_models(self._ledger, self._bundles, SystemClock())

    def _describe(self) -> dict[str, Any]:
        return {"ledger": str(self._ledger), "bundles": str(self._bundles)}


class ExperimentPeriodsDataset(_ReadOnlyDataset):
    """The experiments that the ledger in the file `ledger` knows, each since its arms are what they are."""

    def __init__(self, *, ledger: str) -> None:
        self._ledger = Path(ledger)

    def load(self) -> list[Period]:
        """Return the newest period of each experiment; none without a ledger."""
        ledger = ledger_at(self._ledger, SystemClock())
        return experiment_periods(ledger.records()) if ledger.exists() else []

    def _describe(self) -> dict[str, Any]:
        return {"ledger": str(self._ledger)}


class AlertLedgerDataset(AbstractDataset[list[dict[str, object]], None]):
    """The ledger's alerts: saving appends those that it does not hold yet, and those of changed sources."""

    def __init__(self, *, ledger: str, schemas: str) -> None:
        self._ledger = Path(ledger)
        self._schemas = Path(schemas)

    def load(self) -> None:
        """Refuse: ask the ledger."""
        raise DatasetError("alerts are read from the ledger: kedro release list")

    def save(self, data: list[dict[str, object]]) -> None:
        """Append new alerts."""
        record_alerts(ledger_at(self._ledger, SystemClock()), [*data, *SchemaHistory(self._schemas).alerts()])

    def _describe(self) -> dict[str, Any]:
        return {"ledger": str(self._ledger)}
