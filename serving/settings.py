"""What the service takes from its environment, read once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from flightdeck.core.errors import ConfigError, nearest
from flightdeck.core.layout import Layout, layout

CLOCK = "FLIGHTDECK_CLOCK"
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
    """

    layout: Layout
    is_event_time: bool = False


def read_settings(environment: Mapping[str, str] | None = None) -> ServingSettings:
    """Return the settings of this process: `FLIGHTDECK_DATA` (data root) and `FLIGHTDECK_CLOCK` (system or event).

    Raises
    ------
    ConfigError
        If the clock is neither.
    """
    clock = (os.environ if environment is None else environment).get(CLOCK, "system")
    if clock not in _CLOCKS:
        raise ConfigError(
            f"reading {CLOCK}: {clock!r} is no clock{nearest(clock, _CLOCKS)}", next_step="set it to system or event"
        )
    return ServingSettings(layout(), clock == "event")
