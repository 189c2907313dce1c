"""Bundles with a second copy behind them: the artifacts of the MLflow run that made each (`Registry.register`).

A bundle that is missing or altered in the folder is brought back from there, byte for byte, when somebody needs it: a
promotion whose way back it is, or a rollback that returns to it.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flightdeck.core.errors import BundleRefused, FlightdeckError, NotFoundError
from flightdeck.inference.bundle import Bundle, open_bundle
from flightdeck.inference.delivery import fetch_bundle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackedShelf:
    """Sealed bundles in a folder, each with a second copy.

    Parameters
    ----------
    folder
        Where they are.
    copy_of
        Returns where the second copy of a digest is; it may put it into the folder that it is given. It raises
        `NotFoundError` where there is none, and `RegistryUnavailable` where that cannot be known.
    """

    folder: Path
    copy_of: Callable[[str, Path], Path]

    def open(self, digest: str) -> Bundle:
        """Return the verified bundle of a digest, from its second copy where the first is not whole.

        Raises
        ------
        BundleRefused
            If neither is, saying what is wrong with each.
        """
        try:
            return open_bundle(self.folder / digest[:16], expected_digest=digest)
        except (BundleRefused, NotFoundError) as damage:
            try:
                return self._brought_back(digest, damage.message)
            except (FlightdeckError, OSError) as error:
                said = error.message if isinstance(error, FlightdeckError) else str(error)
                raise BundleRefused(f"{damage.message}; its second copy: {said}") from error

    def _brought_back(self, digest: str, damage: str) -> Bundle:
        place = self.folder / digest[:16]
        with TemporaryDirectory() as name:
            origin = Path(name) / digest[:16]
            origin.symlink_to(self.copy_of(digest, Path(name)))
            open_bundle(origin, expected_digest=digest)  # before anything is moved
            if place.exists():
                place.rename(place.with_name(f".{place.name}.damaged.{os.getpid()}"))
            found = fetch_bundle(Path(name), self.folder, digest=digest).bundle
        logger.warning("%s: brought back from its second copy", damage)
        return found
