"""Which answers of a busy surface the prediction log keeps: all of some units, none of the others.

A unit is kept if its position by a keyed hash lies below the rate of the surface; the key is the log's own, so the
sample is independent of arms. A kept record weighs `1 / rate`: it stands for so many.

What that does to figures. Sums and means by weight are unbiased over units. Their spread is not that of as many records
drawn one by one: all items of a unit come or stay away together, so the effective number of observations is nearer to
the number of units, and confidence bounds must resample units. A group with few units (a rare route, a new client) may
be missing whole or be counted `1 / rate` times what it is; one unit with very many requests moves the total of a
surface by all of them or not at all. A unit that is out is always out, at every hour and release, so rare units are not
seen by waiting; a higher rate keeps all units that a lower one had. Rates of different surfaces nest: a unit kept at 1
% on one surface is kept wherever the rate is higher, so journeys across surfaces stay whole at the lowest rate. Figures
that ignore weights overstate the surfaces with higher rates.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flightdeck.core.errors import ConfigError
from flightdeck.inference.positions import position
from flightdeck.inference.prediction_log_batch import LogBatch

SALT = "prediction-log"


class Sample(NamedTuple):
    """What is kept of a batch.

    Parameters
    ----------
    batch
        The rows to log.
    weights
        Items that each row stands for, shape `(n,)`; None: one each.
    """

    batch: LogBatch
    weights: npt.NDArray[np.float64] | None


class Sampling:
    """Keeps a share of the units of some surfaces.

    Parameters
    ----------
    rates
        Share of units to keep, in (0, 1], by surface; a surface that is not named is kept whole.

    Raises
    ------
    ConfigError
        If a rate is not in (0, 1]; all such are named.
    """

    def __init__(self, rates: Mapping[str, float]) -> None:
        wrong = {surface: rate for surface, rate in rates.items() if not 0.0 < rate <= 1.0}
        if wrong:
            raise ConfigError(
                f"sampling the prediction log: a rate lies in (0, 1], got {wrong}",
                next_step="give 1 to log every answer of a surface",
            )
        self._rates = {surface: float(rate) for surface, rate in rates.items() if rate < 1.0}

    def select(self, batch: LogBatch) -> Sample:
        """Return the rows to keep, in their order."""
        if self._rates.keys().isdisjoint(batch.surface):
            return Sample(batch, None)
        rates = [self._rates.get(surface or "", 1.0) for surface in batch.surface]
        places: dict[str, float] = {}
        kept = []
        for row, (unit, rate) in enumerate(zip(batch.unit_id, rates, strict=True)):
            unit_id = unit or ""
            if rate < 1.0:
                if unit_id not in places:
                    places[unit_id] = position(unit_id, SALT)
                if places[unit_id] >= rate:
                    continue
            kept.append(row)
        weights = 1.0 / np.array([rates[row] for row in kept], dtype=np.float64)
        return Sample(batch if len(kept) == len(batch) else batch.take(np.array(kept, dtype=np.intp)), weights)
