"""Which ledger this process uses and where its checkpoints lie: `ledger.yml` of conf/base and of the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from flightdeck.core.clock import Clock
from flightdeck.core.config import read_settings
from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.release.checkpoints import CheckpointLog, checkpoint_folder
from flightdeck.release.ledger import SCHEMES, Ledger, open_ledger

EMBEDDED = "embedded"
OVERRIDES = {
    "ledger": "FLIGHTDECK_LEDGER",
    "checkpoints": "FLIGHTDECK_CHECKPOINTS",
    "signing_key": "FLIGHTDECK_SIGNING_KEY",
}


class _File(msgspec.Struct, frozen=True):
    ledger: str = EMBEDDED
    checkpoints: str = EMBEDDED
    signing_key: str = EMBEDDED


@dataclass(frozen=True)
class LedgerPlaces:
    """Where the ledger, its checkpoints and the key that signs them are.

    Parameters
    ----------
    url
        Address in PostgreSQL; empty for the SQLite file below the data root.
    checkpoints, signing_key
        Folder and file; None for those below the data root.
    """

    url: str = ""
    checkpoints: Path | None = None
    signing_key: Path | None = None

    def ledger(self, path: Path) -> Path | str:
        """Return what `open_ledger` opens: the address, or else the file at `path`."""
        return self.url or path

    def checkpoint_log(self, where: Layout) -> CheckpointLog:
        """Return the checkpoints."""
        return CheckpointLog(self.checkpoints or where.audit, self.signing_key or where.audit / "signing.key")


def read_ledger_places(
    env: str | None = None, *, conf: Path = PROJECT / "conf", environment: Mapping[str, str] | None = None
) -> LedgerPlaces:
    """Return the places of an environment; parameters as of `flightdeck.core.config.read_settings`.

    Raises
    ------
    ConfigError
        If there is no such environment, a file has an unknown key, or a value names no place.
    """
    found = read_settings("ledger.yml", _File, env, variables=OVERRIDES, conf=conf, environment=environment)
    if found.ledger != EMBEDDED and not found.ledger.startswith(SCHEMES):
        raise ConfigError(
            "reading ledger.yml: ledger is neither 'embedded' nor an address of PostgreSQL",
            next_step=f"write {EMBEDDED}, or an address that begins with {' or '.join(SCHEMES)}",
        )
    return LedgerPlaces(
        "" if found.ledger == EMBEDDED else found.ledger,
        None if found.checkpoints == EMBEDDED else checkpoint_folder(found.checkpoints),
        None if found.signing_key == EMBEDDED else PROJECT / found.signing_key,
    )


def released_ledger(where: Layout, clock: Clock) -> Ledger:
    """Open the ledger of this process with its checkpoints: for whoever decides, and for whoever follows decisions."""
    places = read_ledger_places()
    ledger = open_ledger(places.ledger(where.ledger), clock, checkpoints=places.checkpoint_log(where))
    ledger.orders = where.orders
    return ledger


def ledger_at(path: Path, clock: Clock) -> Ledger:
    """Open the ledger of this process to look at it or to append alerts: the file at `path`, or PostgreSQL's."""
    return open_ledger(read_ledger_places().ledger(path), clock)
