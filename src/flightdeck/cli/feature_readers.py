"""Which releases read which versions of feature views."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import Layout
from flightdeck.features.view import FeatureView
from flightdeck.monitoring.champion import read_feature_lists
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.stages import CANARY, FROZEN, PROD, SHADOW, STAGING
from flightdeck.release.state import fold

READING = (STAGING, SHADOW, CANARY, FROZEN, PROD)
ROLLBACK, ROUTED = "rollback", "routed"


@dataclass(frozen=True)
class Reader:
    """A release that reads feature views, now or after its next step.

    Parameters
    ----------
    version
        Model version.
    stage
        `staging`, `shadow`, `canary`, `frozen`, `prod`; `rollback`: the champion that a rollback would return to;
        `routed`: an archived version that a segment, an experiment or a shadow names.
    digests
        Digest of each view that it reads, by name; None where its bundle cannot be read.
    views
        The views as its bundle declares them; empty in bundles from before they were kept.
    """

    version: int
    stage: str
    digests: Mapping[str, str] | None
    views: tuple[FeatureView, ...] = ()

    def __str__(self) -> str:
        return f"version {self.version} ({self.stage})"


def list_readers(where: Layout) -> list[Reader]:
    """Return the releases whose views must stay fed, the one in prod first.

    Raises
    ------
    LedgerCorrupt
        If the ledger's chain is broken.
    """
    state = fold(released_ledger(where, SystemClock()).records())
    stages = {v.version: v.stage for v in state.versions.values() if v.stage in READING}
    stages |= {version: ROLLBACK for version in state.previous_champions[-1:] if version not in stages}
    stages |= {version: ROUTED for version in state.rules.versions if version not in stages}
    lists = read_feature_lists(where.ledger, where.bundles, SystemClock())
    found = []
    for version, stage in sorted(
        stages.items(), key=lambda item: (PROD, CANARY, FROZEN, SHADOW, ROUTED, ROLLBACK, STAGING).index(item[1])
    ):
        features = lists.get(state.versions[version].digest)
        digests = None if features is None else dict(features.get("views", {}))
        found.append(Reader(version, stage, digests, _declared(features or {}, digests or {})))
    return found


def readers_of(view: FeatureView, readers: Iterable[Reader]) -> list[Reader]:
    """Return who reads this version; a release whose bundle cannot be read may be one of them."""
    return [
        reader
        for reader in readers
        if reader.digests is None or any(digest.startswith(view.digest) for digest in reader.digests.values())
    ]


def views_to_feed(declared: Sequence[FeatureView], readers: Iterable[Reader]) -> tuple[FeatureView, ...]:
    """Return what must be fed: the declared views and the versions that releases read, each meaning once."""
    views = [*declared, *(view for reader in readers for view in reader.views)]
    return tuple({view.digest: view for view in reversed(views)}.values())[::-1]


def _declared(features: Mapping[str, object], digests: Mapping[str, str]) -> tuple[FeatureView, ...]:
    """Return the views that a bundle declares and this code understands as they were meant."""
    declarations = features.get("declarations", ())
    try:
        views = [FeatureView.from_json(one) for one in declarations] if isinstance(declarations, list) else []
    except ConfigError:
        return ()
    return tuple(view for view in views if digests.get(view.name) == view.digest)
