"""Kedro's door to released bundles: looked up by name when a node asks."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from flightdeck.core.clock import SystemClock
from flightdeck.release.released import ReleasedBundles


class ReleasedBundlesDataset(AbstractDataset[None, ReleasedBundles]):
    """The sealed bundles in the folder `bundles` that the ledger in the file `ledger` knows."""

    def __init__(self, *, ledger: str, bundles: str) -> None:
        self._released = ReleasedBundles(Path(ledger), Path(bundles), SystemClock())

    def load(self) -> ReleasedBundles:
        """Return the look-up; nothing is read yet."""
        return self._released

    def save(self, data: None) -> None:
        """Refuse: a bundle is made by sealing a draft."""
        raise DatasetError("released bundles are read, never written by a pipeline: kedro run --pipelines release")

    def _describe(self) -> dict[str, Any]:
        return {"ledger": str(self._released.ledger), "bundles": str(self._released.bundles)}
