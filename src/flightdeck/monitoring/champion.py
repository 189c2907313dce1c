"""What the champion was released with: the reference that the present is compared with."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from flightdeck.core.clock import Clock
from flightdeck.inference.bundle import open_bundle
from flightdeck.release.ledger import Ledger
from flightdeck.release.state import fold

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChampionReference:
    """The champion's reference; all empty where there is no champion.

    Parameters
    ----------
    version
        Model version, None without a champion.
    digest
        Digest of its bundle, 64 characters.
    features
        Parsed `features.json`.
    rows
        Sample of training rows with `request_timestamp` and `probability`.
    days
        Quality of each test day.
    """

    version: int | None = None
    digest: str = ""
    features: Mapping[str, Any] = field(default_factory=dict)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    days: pd.DataFrame = field(default_factory=pd.DataFrame)


def read_champion(ledger_path: Path, bundles: Path, clock: Clock) -> ChampionReference:
    """Find the champion in the ledger, verify its bundle and read its reference.

    Raises
    ------
    LedgerCorrupt
        If the ledger's chain is broken.
    NotFoundError, BundleRefused
        If the champion's bundle is gone or altered.
    """
    state = fold(Ledger(ledger_path, clock).records())
    if state.champion is None:
        logger.warning("no model version is in prod: quality and drift have nothing to be compared with")
        return ChampionReference()
    digest = state.versions[state.champion].digest
    bundle = open_bundle(bundles / digest[:16], expected_digest=digest)
    return ChampionReference(
        state.champion,
        digest,
        bundle.read_json("features.json"),
        pd.read_parquet(bundle.path / "reference" / "features.parquet"),
        pd.read_parquet(bundle.path / "reference" / "days.parquet"),
    )


def read_feature_lists(ledger_path: Path, bundles: Path, clock: Clock) -> dict[str, dict[str, Any]]:
    """Return the parsed `features.json` of every released bundle that is still there, by bundle digest."""
    found: dict[str, dict[str, Any]] = {}
    for version in fold(Ledger(ledger_path, clock).records()).versions.values():
        path = bundles / version.digest[:16] / "features.json"
        if path.is_file():
            found[version.digest] = msgspec.json.decode(path.read_bytes())
    return found
