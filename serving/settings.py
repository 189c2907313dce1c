"""What the service takes from its environment, read once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flightdeck.core.errors import ConfigError, nearest
from flightdeck.core.layout import Layout, layout
from flightdeck.features.store_config import read_stores
from serving.traces import TraceSettings, read_traces

CLOCK = "FLIGHTDECK_CLOCK"
WORKERS = "FLIGHTDECK_WORKERS"
KEYS, KEYS_OFF, KEYS_REQUIRED = "FLIGHTDECK_KEYS", "off", "required"
_CLOCKS = ("system", "event")


@dataclass(frozen=True)
class ServingSettings:
    """Where things lie and which time the service runs on.

    Parameters
    ----------
    layout
        Folders of ledger, bundles, online store and prediction log.
    is_event_time
        Whether requests carry their time (a replay) instead of being asked now.
    online_store_url
        Address of the online store; empty for the embedded one.
    n_workers
        How many processes answer together.
    requires_keys
        Whether requests need an API key.
    traces
        Where traces go, and of how many requests.
    """

    layout: Layout
    is_event_time: bool = False
    online_store_url: str = ""
    n_workers: int = 1
    requires_keys: bool = True
    traces: TraceSettings = field(default_factory=TraceSettings)

    @property
    def online_store(self) -> Path | str:
        """Folder or address of the online store."""
        return self.online_store_url or self.layout.online_store


def read_settings(environment: Mapping[str, str] | None = None) -> ServingSettings:
    """Return the settings of this process.

    They are `FLIGHTDECK_DATA` (data root), `FLIGHTDECK_CLOCK` (system or event), `FLIGHTDECK_WORKERS` and
    `FLIGHTDECK_KEYS` (both set by the command that starts them; without it, keys are required), `FLIGHTDECK_TRACES`
    (where traces go), and what conf/*/stores.yml and conf/*/traces.yml say for `KEDRO_ENV`.

    Raises
    ------
    ConfigError
        If the clock is neither, the number of workers is none, the stores are not configured, or traces are wrongly.
    """
    given = os.environ if environment is None else environment
    clock, workers = given.get(CLOCK, "system"), given.get(WORKERS, "1")
    if clock not in _CLOCKS:
        raise ConfigError(
            f"reading {CLOCK}: {clock!r} is no clock{nearest(clock, _CLOCKS)}", next_step="set it to system or event"
        )
    if not workers.isdecimal() or int(workers) < 1:
        raise ConfigError(
            f"reading {WORKERS}: {workers!r} is no number of processes", next_step="leave it to kedro serve"
        )
    stores = read_stores(environment=environment)
    requires_keys = given.get(KEYS, KEYS_REQUIRED) != KEYS_OFF
    traces = read_traces(given)
    return ServingSettings(layout(), clock == "event", stores.online_store_url, int(workers), requires_keys, traces)
