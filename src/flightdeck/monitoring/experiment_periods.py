"""From when until when each experiment had the arms that it has: only units met in that time are compared.

Units are dealt to the arms by their slots. Within a period each unit that is met lies in an arm with the probability
that the arm's share says; over a change of the shares that no longer holds, so evidence begins anew there.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from flightdeck.inference.experiments import Experiment
from flightdeck.release.record import Record
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold


class Period(msgspec.Struct, frozen=True):
    """An experiment while its arms stayed the same.

    Parameters
    ----------
    experiment
        Its arms.
    seq, since
        Record of the ledger that gave it these arms, and when.
    until
        When it ended; None while it runs.
    """

    experiment: Experiment
    seq: int
    since: datetime
    until: datetime | None = None


def experiment_periods(records: Iterable[Record]) -> list[Period]:
    """Return the newest period of every experiment that ever ran, those that run first, then by name.

    Raises
    ------
    LedgerCorrupt
        If the records cannot be: see `release.state.fold`.

    Notes
    -----
    One pass over the records.
    """
    state, newest = ReleaseState(), dict[str, Period]()
    for record in records:
        before, state = state, fold([record], state)
        if state.rules is not before.rules:
            _turn(newest, {one.name: one for one in state.rules.experiments}, record)
    return sorted(newest.values(), key=lambda period: (period.until is not None, period.experiment.name))


def _turn(newest: dict[str, Period], running: dict[str, Experiment], record: Record) -> None:
    """Begin the periods of new and changed experiments, end those of experiments that are gone."""
    for name, period in newest.items():
        if name not in running and period.until is None:
            newest[name] = msgspec.structs.replace(period, until=record.recorded_at)
    for name, experiment in running.items():
        known = newest.get(name)
        if known is None or known.until is not None or known.experiment != experiment:
            newest[name] = Period(experiment, record.seq, record.recorded_at)
