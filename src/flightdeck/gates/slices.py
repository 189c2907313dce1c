"""Draft against champion, slice by slice: no origin, carrier or month may pay for a better total.

The total is held against the upper end of its interval (`checks.champion_checks`): a draft must show that it is not
worse. A slice is held against the lower end of its own: it must not be *shown* to be worse than its margin. Were all
slices asked to show that they are not, many healthy drafts would fail at one of them (ADR 0026 has the figures).
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flightdeck.core.errors import ConfigError, nearest
from flightdeck.gates.bounds import at_most, nothing_to_hold
from flightdeck.gates.checks import shared_rows
from flightdeck.gates.evidence import Evidence, day_number
from flightdeck.gates.metrics import day_block_interval, log_losses
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check

CHANCE = 0.05  # that a draft with every slice at its margin fails at any of them; a share of it for each slice
N_RESAMPLES = 10_000  # the tail of one slice is 0.2 % wide: 20 of them


def slice_checks(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check, by each column that slices, that no slice is shown to be worse than the champion's beyond its margin."""
    margins = thresholds.slice_log_loss_excess_at_most
    if evidence.champion is None:
        return [_uncompared(evidence, column, margin, thresholds) for column, margin in margins.items()]
    table = slice_table(evidence, thresholds)
    return [_worst(table[table["column"] == column], column, thresholds) for column in margins]


def slice_table(evidence: Evidence, thresholds: Thresholds) -> pd.DataFrame:
    """Return `column`, `slice`, `rows`, `excess` log loss and its interval `low`, `high` of slices with enough rows.

    Raises
    ------
    ConfigError
        If the predictions lack a column that the policy slices by.
    """
    shared = shared_rows(evidence)
    label = shared["label"].to_numpy(np.int64)
    ours, theirs = (shared[name].to_numpy(np.float64) for name in ("probability", "champion_probability"))
    excess, day = log_losses(label, ours) - log_losses(label, theirs), day_number(shared)
    slices = [
        (column, value, rows)
        for column in thresholds.slice_log_loss_excess_at_most
        for value, rows in sorted(_values(evidence, shared, column).items())
        if len(rows) >= thresholds.n_rows_a_month_at_least
    ]
    level = 1 - 2 * CHANCE / max(len(slices), 1)
    found = [
        (column, value, len(rows), *day_block_interval(excess[rows], day[rows], n_resamples=N_RESAMPLES, level=level))
        for column, value, rows in slices
    ]
    return pd.DataFrame(found, columns=["column", "slice", "rows", "excess", "low", "high"])


def _values(evidence: Evidence, shared: pd.DataFrame, column: str) -> dict[str, NDArray[np.intp]]:
    if column == "month":
        values = replace(evidence, predictions=shared).month
    elif column in shared.columns:
        values = shared[column]
    else:
        raise ConfigError(
            f"slicing by {column!r}{nearest(column, shared.columns)}: the predictions have no such column",
            next_step="correct slice_log_loss_excess_at_most in conf/base/policies.yml",
        )
    return {str(value): np.asarray(rows) for value, rows in values.groupby(values.to_numpy()).indices.items()}


def _worst(table: pd.DataFrame, column: str, thresholds: Thresholds) -> Check:
    name, margin = f"slice_{column}", thresholds.slice_log_loss_excess_at_most[column]
    if table.empty:
        detail = f"no {column} has {thresholds.n_rows_a_month_at_least} rows that the champion predicted too"
        return at_most(name, np.nan, margin, thresholds, detail)
    worst = table.loc[table["low"].idxmax()]
    detail = (
        f"log loss above the champion's in {worst['slice']}, the worst of {len(table)} slices by {column}: "
        f"{worst['excess']:+.4f} nats on {worst['rows']:,} shared rows, interval [{worst['low']:+.4f}, "
        f"{worst['high']:+.4f}] wide enough for all slices together; low end counts"
    )
    return at_most(name, float(worst["low"]), margin, thresholds, detail)


def _uncompared(evidence: Evidence, column: str, margin: float, thresholds: Thresholds) -> Check:
    name, problem = f"slice_{column}", evidence.champion_problem
    if problem:
        return at_most(name, np.nan, margin, thresholds, f"the champion cannot be compared with: {problem}")
    return nothing_to_hold(name, margin, thresholds, "no champion yet: nothing to compare with")
