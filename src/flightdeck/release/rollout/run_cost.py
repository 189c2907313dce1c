"""What a run of a model costs, made comparable between runs of few and of many items.

A run has a part of its own and a part of each item. The champion is given many items at once and its canary few, so
neither the time of a run nor the time of an item compares them: the time of a run divided by `items + fixed` does,
where `fixed` is the run's own part in units of an item. It is fitted to what the champion took before the step began,
and kept for the step: a number that no run of the step has a say in cannot spoil a test of them.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.inference.prediction_log_folder import list_sources
from flightdeck.inference.prediction_log_read import read_rest
from flightdeck.inference.prediction_log_table import to_tables
from flightdeck.inference.routes import CHAMPION

LEAST, MOST, USUAL = 0.0, 200.0, 9.0
N_RUNS_AT_LEAST = 50
N_FRAMES, N_RECORDS = 2000, 5000
Floats = npt.NDArray[np.float64]


def run_sizes(records: pa.Table) -> npt.NDArray[np.int64]:
    """Return for each record how many items its model was given in the same run; shape `(n,)`.

    A frame of the log is one batch, and the items of an arm in it that one version answered are one run.
    """
    if not len(records):
        return np.zeros(0, dtype=np.int64)
    names = ("segment", "frame_at", "arm", "mode", "model_version")
    codes = [
        records.column(name).combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for name in names
    ]
    _, place, counts = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True, return_counts=True)
    sizes: npt.NDArray[np.int64] = counts[place.reshape(-1)]
    return sizes


def fit_fixed(n_items: npt.NDArray[np.int64], took_ms: Floats) -> float:
    """Return the part of a run that does not depend on its items, in units of an item.

    Parameters
    ----------
    n_items, took_ms
        Items and milliseconds of each run, shape `(n_runs,)`; NaN is left out.

    Returns
    -------
    float
        Between 0 and 200; `USUAL` where fewer than 50 runs, or runs of one size only, are known.

    Examples
    --------
    >>> sizes = np.tile([1, 2, 8, 20], 20)
    >>> round(fit_fixed(sizes, 0.04 + 0.005 * sizes), 3)
    8.0
    """
    known = np.isfinite(took_ms) & (took_ms > 0)
    n_items, took_ms = n_items[known], took_ms[known]
    sizes = np.unique(n_items)
    if len(n_items) < N_RUNS_AT_LEAST or len(sizes) < 2:
        return USUAL
    typical = np.array([np.median(took_ms[n_items == size]) for size in sizes])  # a stalled run has no say
    weights = np.sqrt([np.count_nonzero(n_items == size) for size in sizes]) / typical
    slope, fixed = np.polyfit(sizes.astype(float), typical, 1, w=weights)
    if slope <= 0:
        return MOST
    return float(np.clip(fixed / slope, LEAST, MOST))


def fit_before(log: Path, until_us: int) -> float:
    """Return `fit_fixed` of the champion's runs in the newest records of a prediction log before `until_us`."""
    found: list[tuple[npt.NDArray[np.int64], Floats]] = []
    for source in reversed(list_sources(log)):
        if source.path is None or sum(len(sizes) for sizes, _ in found) >= N_RECORDS:
            continue
        for records in to_tables(source.name, read_rest(source.path, 0).frames[-N_FRAMES:]):
            at_us = records.column("logged_at").cast(pa.int64()).to_numpy(zero_copy_only=False)
            arm = records.column("arm").to_numpy(zero_copy_only=False)
            took_ms = records.column("model_ms").to_numpy(zero_copy_only=False)
            rows = (at_us < until_us) & (arm == CHAMPION)
            found.append((run_sizes(records)[rows], took_ms[rows]))
    if not found:
        return USUAL
    return fit_fixed(np.concatenate([sizes for sizes, _ in found]), np.concatenate([took for _, took in found]))


def comparable_ms(took_ms: Floats, n_items: npt.NDArray[np.int64], fixed: float) -> Floats:
    """Return what each run took for an item, its own part shared among them, milliseconds; shape `(n,)`."""
    shared: Floats = took_ms / (n_items + fixed)
    return shared
