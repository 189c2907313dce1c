"""Which online store and event stream this process uses: `conf/base/stores.yml`, overridden by an environment's."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flightdeck.core.config import read_settings
from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import PROJECT, Layout

EMBEDDED = "embedded"
SCHEMES = ("redis://", "rediss://", "redis+cluster://")
OVERRIDES = {"online_store": "FLIGHTDECK_ONLINE_STORE", "event_stream": "FLIGHTDECK_EVENT_STREAM"}


class _File(msgspec.Struct, frozen=True):
    online_store: str = EMBEDDED
    event_stream: str = EMBEDDED


@dataclass(frozen=True)
class Stores:
    """Where features are served from and where events come from.

    Parameters
    ----------
    online_store_url, event_stream_url
        Address in Redis; empty for the embedded one.
    """

    online_store_url: str = ""
    event_stream_url: str = ""

    def online_store(self, where: Layout) -> Path | str:
        """Return what `open_store` opens: the address, or the folder below the data root."""
        return self.online_store_url or where.online_store


def read_stores(
    env: str | None = None, *, conf: Path = PROJECT / "conf", environment: Mapping[str, str] | None = None
) -> Stores:
    """Return the stores of an environment; parameters as of `flightdeck.core.config.read_settings`.

    Raises
    ------
    ConfigError
        If there is no such environment, a file has an unknown key, or a value is neither `embedded` nor an address.
    """
    found = read_settings("stores.yml", _File, env, variables=OVERRIDES, conf=conf, environment=environment)
    return Stores(_address("online_store", found.online_store), _address("event_stream", found.event_stream))


def _address(key: str, value: str) -> str:
    if value == EMBEDDED:
        return ""
    if not value.startswith(SCHEMES):
        raise ConfigError(
            f"reading stores.yml: {key} is {value!r}",
            next_step=f"write {EMBEDDED}, or an address that begins with {', '.join(SCHEMES)}",
        )
    return value
