"""The law of point-in-time, checked on the draft's own training rows: a feature knows nothing of what came later.

The rows are rebuilt from the recorded versions of the event log by the code that made the training set, and must come
out as the draft has them, bit by bit. Then everything that became known after a row is tampered with, and nothing of
the row may change. A check that cannot fail says nothing: requests an hour later, which may see the tampered events,
must get other answers, or the check could not run.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ContractViolation, some
from flightdeck.core.layout import layout
from flightdeck.events.log import EventLog
from flightdeck.gates.bounds import at_most
from flightdeck.gates.evidence import Evidence
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from pipelines.evaluation.reference_rows import ReferenceRows, read_reference_rows
from pipelines.evaluation.tampering import TAMPERINGS, known_until, tamper

N_ROWS = 1_000
N_MOMENTS = 8
LATER_US = 3_600 * SECOND_US
REACH_US = 86_400 * SECOND_US  # of the tampering: what leaks sees the next day first


def point_in_time(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check that training rows come out of the log as the draft has them, whatever became known after them.

    Raises
    ------
    ContractViolation
        If no request sees the tampering, however late; or as `read_reference_rows` says.
    ConfigError, NotFoundError
        As `read_reference_rows` says.
    """
    rows = read_reference_rows(evidence, EventLog(layout().event_log), N_ROWS)
    return [_as_recorded(rows, thresholds), _unmoved_by_the_future(rows, thresholds)]


def _as_recorded(rows: ReferenceRows, thresholds: Thresholds) -> Check:
    """Compare the rows of the draft with what the log gives."""
    windowed, numeric = rows.rebuild()
    n_wrong = _n_different(rows.inputs[windowed.columns], windowed)
    n_wrong |= _n_different(rows.features[numeric.columns], numeric)
    return at_most(
        "point_in_time_columns",
        len(n_wrong),
        0,
        thresholds,
        f"columns of {len(rows.inputs):,} training rows that the event log does not give again bit by bit: "
        f"{_listed(n_wrong)}",
    )


def _unmoved_by_the_future(rows: ReferenceRows, thresholds: Thresholds) -> Check:
    """Tamper with what became known after some of the rows, and compare these and all earlier ones with before."""
    known_until_us = rows.inputs["request_us"].to_numpy() - rows.lag_us
    places = np.linspace(0, len(known_until_us) - 1, N_MOMENTS, dtype=np.int64)
    moments = np.unique(known_until_us[places]).tolist()
    moved: dict[str, int] = {}
    seen: dict[str, set[str]] = {how: set() for how in TAMPERINGS}
    for moment_us in moments:
        asked, honest = rows.inputs[known_until_us == moment_us], rows.inputs[known_until_us <= moment_us]
        both = pd.concat([honest, asked.assign(request_us=asked["request_us"] + LATER_US)], ignore_index=True)
        events = known_until(rows.events, moment_us + REACH_US)
        before = rows.join(both, events)
        for how in TAMPERINGS:
            after = rows.join(both, tamper(events, moment_us, asked, how))
            moved |= _n_different(before[: len(honest)], after[: len(honest)])
            seen[how] |= set(_n_different(before[len(honest) :], after[len(honest) :]))
    _require_seen(seen)
    n_seen, n_columns = len(set().union(*seen.values())), sum(len(view.columns) for view in rows.views)
    detail = (
        f"columns of {len(moments)} training rows and all earlier ones that change when what became known later is "
        f"{', '.join(TAMPERINGS)}: {_listed(moved)}; an hour later {n_seen} of {n_columns} do"
    )
    return at_most("point_in_time_future", len(moved), 0, thresholds, detail)


def _require_seen(seen: Mapping[str, set[str]]) -> None:
    unseen = [how for how, columns in seen.items() if not columns]
    if unseen:
        raise ContractViolation(
            f"tampering with events: requests an hour later do not see what was {some(unseen)}: no leak could be found",
            next_step="compare the views in features.json of the draft with the streams of the event log",
        )


def _n_different(one: pd.DataFrame, other: pd.DataFrame) -> dict[str, int]:
    """Return in how many rows the bits of two frames' columns differ, by name, where they do; one NaN is like another.

    Examples
    --------
    >>> one = pd.DataFrame({"a": [0.0, np.nan], "b": [0.0, 1.0]})
    >>> _n_different(one, one.assign(b=[-0.0, 1.0]))
    {'b': 1}
    """
    found = {}
    for name in one.columns:
        left, right = one[name].to_numpy(), other[name].to_numpy()
        if left.dtype != right.dtype:
            found[str(name)] = len(one)
            continue
        bits = f"i{left.dtype.itemsize}"
        n = int(((left.view(bits) != right.view(bits)) & ~(np.isnan(left) & np.isnan(right))).sum())
        if n:
            found[str(name)] = n
    return found


def _listed(n_rows: Mapping[str, int]) -> str:
    return some(f"{name} ({n} rows)" for name, n in sorted(n_rows.items(), key=lambda item: -item[1])) or "none"
