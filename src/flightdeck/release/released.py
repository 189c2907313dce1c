"""Released bundles by what people call them: champion, canary, or the number of a version."""

from dataclasses import dataclass
from pathlib import Path

from flightdeck.core.clock import Clock
from flightdeck.core.errors import NotFoundError, some
from flightdeck.inference.bundle import Bundle, open_bundle
from flightdeck.release.ledger_config import ledger_at
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold

CHAMPION, CANARY = "champion", "canary"


@dataclass(frozen=True)
class ReleasedBundles:
    """The bundles that the ledger knows; nothing is read before `find`.

    Parameters
    ----------
    ledger
        File of the ledger, where `ledger.yml` names no other.
    bundles
        Folder of the sealed bundles.
    clock
        Of the ledger; nothing is appended.
    """

    ledger: Path
    bundles: Path
    clock: Clock

    def find(self, which: str | int) -> tuple[int, Bundle]:
        """Return version and verified bundle of `champion`, `canary` or a version.

        Raises
        ------
        NotFoundError
            If there is none of that name.
        BundleRefused
            If its bundle does not verify.
        """
        state = fold(ledger_at(self.ledger, self.clock).records())
        version = self._version(state, str(which))
        digest = state.versions[version].digest
        return version, open_bundle(self.bundles / digest[:16], expected_digest=digest)

    def _version(self, state: ReleaseState, which: str) -> int:
        live = {CHAMPION: state.champion, CANARY: state.canary}
        version = live[which] if which in live else int(which) if which.isdecimal() else None
        if version is None or version not in state.versions:
            known = [*(name for name in live if live[name] is not None), *map(str, sorted(state.versions))]
            raise NotFoundError(
                f"no released bundle is called {which!r}; there are {some(known, 20) or 'none at all'}",
                next_step="name champion, canary or a version of: kedro release list",
            )
        return version
