"""What the champion was released with: the reference that the present is compared with."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from flightdeck.core.clock import Clock
from flightdeck.core.errors import BundleRefused, NotFoundError
from flightdeck.core.identifiers import digest_bytes
from flightdeck.inference.bundle import MANIFEST, Manifest, open_bundle
from flightdeck.release.ledger_config import ledger_at
from flightdeck.release.state import fold

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChampionReference:
    """The champion's reference; all empty where there is no champion, and but for its name where there is a `problem`.

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
    problem
        Why its bundle cannot be read, or empty.
    """

    version: int | None = None
    digest: str = ""
    features: Mapping[str, Any] = field(default_factory=dict)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    days: pd.DataFrame = field(default_factory=pd.DataFrame)
    problem: str = ""


def read_champion(ledger_path: Path, bundles: Path, clock: Clock) -> ChampionReference:
    """Find the champion in the ledger, verify its bundle and read its reference.

    A bundle that is gone or altered is named with the reason: what needs no reference is watched all the same.

    Raises
    ------
    LedgerCorrupt
        If the ledger's chain is broken.
    """
    state = fold(ledger_at(ledger_path, clock).records())
    if state.champion is None:
        logger.warning("no model version is in prod: quality and drift have nothing to be compared with")
        return ChampionReference()
    digest = state.versions[state.champion].digest
    try:
        bundle = open_bundle(bundles / digest[:16], expected_digest=digest)
    except (NotFoundError, BundleRefused) as error:
        logger.warning("%s", error)
        return ChampionReference(state.champion, digest, problem=error.message)
    return ChampionReference(
        state.champion,
        digest,
        bundle.read_json("features.json"),
        pd.read_parquet(bundle.path / "reference" / "features.parquet"),
        pd.read_parquet(bundle.path / "reference" / "days.parquet"),
    )


def read_feature_lists(ledger_path: Path, bundles: Path, clock: Clock) -> dict[str, dict[str, Any]]:
    """Return the parsed `features.json` of every released bundle that is still there and sound, by bundle digest."""
    found: dict[str, dict[str, Any]] = {}
    for version in fold(ledger_at(ledger_path, clock).records()).versions.values():
        path = bundles / version.digest[:16] / "features.json"
        if not path.is_file():
            continue
        content = path.read_bytes()
        if digest_bytes(content) == _sealed_digest(path, version.digest):
            found[version.digest] = msgspec.json.decode(content)
        else:
            logger.warning("%s is not what was sealed: answers of version %d are not audited", path, version.version)
    return found


def _sealed_digest(path: Path, bundle_digest: str) -> str:
    """Return the digest that the bundle's manifest gives a file; empty if the manifest is gone or altered."""
    manifest = path.with_name(MANIFEST)
    content = manifest.read_bytes() if manifest.is_file() else b""
    if digest_bytes(content) != bundle_digest:
        return ""
    return msgspec.json.decode(content, type=Manifest).files[path.name].sha256
