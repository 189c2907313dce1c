"""Since when and against which champion the labels of each version count, as the ledger says. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from flightdeck.release.record import Record
from flightdeck.release.stages import CANARY, PROD, SHADOW, STAGING, ReleaseState

LABEL_CHECK = "label_check"


@dataclass(frozen=True)
class LabelPeriod:
    """A version that is in shadow or canary, or has become champion, and the champion that it is compared with.

    Parameters
    ----------
    version, champion
        Which two models.
    began_seq, began_at
        Record that brought the version into shadow or canary, whichever came first after staging, and when.
    shares
        From when on it decided for what share of the units that both decide for: 0 as a shadow and as champion.
    promoted_at
        When it became champion; None before.
    """

    version: int
    champion: int
    began_seq: int
    began_at: datetime
    shares: tuple[tuple[datetime, float], ...]
    promoted_at: datetime | None

    @property
    def name(self) -> str:
        """Name of its file: another attempt and another champion are another check."""
        return f"{self.version}-{self.began_seq}-labels-{self.champion}"


def label_periods(state: ReleaseState, records: Sequence[Record]) -> list[LabelPeriod]:
    """Return the periods that are under way and have no record of their end.

    Parameters
    ----------
    state
        What is live.
    records
        At least the records `promoted` and `label_check`, in order.
    """
    former = state.previous_champions[-1] if state.previous_champions else None
    pairs = [(state.canary, state.champion), (state.shadow, state.champion), (state.champion, former)]
    found = [
        _period(version, champion, records)
        for version, champion in pairs
        if version is not None and champion is not None
    ]
    return [period for period in found if period is not None and not _has_ended(period, records)]


def _period(version: int, champion: int, records: Sequence[Record]) -> LabelPeriod | None:
    began: Record | None = None
    promoted_at: datetime | None = None
    shares: list[tuple[datetime, float]] = []
    for record in records:
        if record.action != "promoted" or record.subject != str(version):
            continue
        to = record.detail["to"]
        if to == STAGING:
            began, promoted_at, shares = None, None, []
        elif to in (SHADOW, CANARY, PROD):
            began = began or record
            promoted_at = record.recorded_at if to == PROD else None
            shares.append((record.recorded_at, float(record.detail["share"]) if to == CANARY else 0.0))
    if began is None:
        return None
    return LabelPeriod(version, champion, began.seq, began.recorded_at, tuple(shares), promoted_at)


def _has_ended(period: LabelPeriod, records: Sequence[Record]) -> bool:
    about = {"began_seq": period.began_seq, "champion": period.champion}
    return any(
        record.action == LABEL_CHECK
        and record.subject == str(period.version)
        and about.items() <= record.detail.items()
        for record in records
    )
