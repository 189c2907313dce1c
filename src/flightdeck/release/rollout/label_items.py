"""Items that wait for their labels: what two versions said about the same items, or about those of their own units.

An item that both scored, one as the answer and one as a shadow, is compared with itself. Answers of the canary's and
of the champion's units count for themselves while there is a canary, and of each share as many of one arm as of the
other are kept: else a day on which the share rises would compare the morning's flights with the evening's.

What is kept is decided by a hash of the unit and by nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from flightdeck.core.clock import SECOND_US, to_us
from flightdeck.inference.routes import CANARY, CHAMPION
from flightdeck.release.judge.evidence import Floats, LabelledItems
from flightdeck.release.rollout.label_period import LabelPeriod

MAX_WAITING = 200_000
HALF, BITS = 1 << 32, 32
UNPAIRED_FOR_US = 600 * SECOND_US  # the other version's record comes within seconds, or not at all
Item = list[Any]
AT_S, LOGGED_US, UNIT, NAME, IS_ALONE, SCORES = range(6)


@dataclass
class WaitingItems:
    """Items by request and place; plain values, so that JSON holds them.

    Parameters
    ----------
    items
        Time of the request (s), when it was logged (us), key of the unit, what the label is of, whether it counts with
        one score alone, and the probabilities of the champion and of the version (None: not scored).
    kept_share
        Share of the units whose items are kept, a power of one half.
    """

    items: dict[str, Item] = field(default_factory=dict)
    kept_share: float = 1.0

    def add(self, records: pa.Table, period: LabelPeriod) -> None:
        """Take in what either version scored, in the answers or as a shadow; a record without probability is none."""
        for key, place, score, item in _scored(records, period):
            if (item[UNIT] % HALF) / HALF >= self.kept_share:
                continue
            kept = self.items.setdefault(key, item)
            kept[SCORES][place] = score
            kept[IS_ALONE] |= item[IS_ALONE]
        while len(self.items) > MAX_WAITING:
            self.kept_share /= 2
            self.items = {k: one for k, one in self.items.items() if (one[UNIT] % HALF) / HALF < self.kept_share}

    def forget_unpaired(self, before_us: int) -> None:
        """Drop the items that only one version scored and that do not count so."""
        self.items = {k: one for k, one in self.items.items() if one[LOGGED_US] >= before_us or counts(one)}

    def ready(self) -> list[str]:
        """Return the keys of the items that count."""
        return [key for key, one in self.items.items() if counts(one)]

    def take(self, keys: list[str], labels: Floats) -> LabelledItems:
        """Remove items and return them with their labels, shape `(n,)`; one without a label (NaN) is left out."""
        rows = [self.items.pop(key) for key in keys]
        rows = [row for row, label in zip(rows, labels, strict=True) if label == label]
        scores = np.array([row[SCORES] for row in rows], dtype=np.float64).reshape(-1, 2)  # None becomes NaN
        return LabelledItems(
            np.array([row[AT_S] for row in rows], dtype=np.float64),
            np.array([row[UNIT] for row in rows], dtype=np.uint64),
            np.asarray(labels[~np.isnan(labels)], dtype=np.float64),
            scores[:, 0].copy(),
            scores[:, 1].copy(),
        )


def counts(item: Item) -> bool:
    """Tell whether an item is evidence: scored by both, or an answer of an arm."""
    return bool(item[IS_ALONE]) or None not in item[SCORES]


def _scored(records: pa.Table, period: LabelPeriod) -> Iterator[tuple[str, int, float, Item]]:
    """Yield key, place among the scores, probability and new item of each record of either version."""
    probability = records.column("probability").cast(pa.float64()).to_numpy(zero_copy_only=False)
    logged_us = records.column("logged_at").cast(pa.int64()).to_numpy(zero_copy_only=False)
    version = records.column("model_version").to_numpy(zero_copy_only=False)
    mode = records.column("mode").to_numpy(zero_copy_only=False)
    places = {str(period.champion): 0, str(period.version): 1}
    rows = np.flatnonzero(
        np.isin(version.astype(str), list(places))
        & np.isin(mode.astype(str), ("model", "shadow"))
        & (probability >= 0)
        & (probability <= 1)
        & (logged_us >= to_us(period.began_at))
    )
    names = ("request_id", "item", "request_us", "unit_id", "flight_id", "arm")
    taken = records.select(names).take(pa.array(rows)).to_pydict()
    arms = ((period.champion, CHAMPION), (period.version, CANARY))
    for n, row in enumerate(rows.tolist()):
        place, at_us, unit = places[version[row]], int(logged_us[row]), _unit_key(taken["unit_id"][n] or "")
        is_alone = (
            mode[row] == "model"
            and taken["arm"][n] == arms[place][1]
            and (unit >> BITS) / HALF < _kept(_share_at(period, at_us), is_canary=place == 1)
        )
        item = [taken["request_us"][n] / SECOND_US, at_us, unit, taken["flight_id"][n], is_alone, [None, None]]
        yield f"{taken['request_id'][n]}/{taken['item'][n]}", place, float(probability[row]), item


def _share_at(period: LabelPeriod, at_us: int) -> float:
    return next((share for since, share in reversed(period.shares) if to_us(since) <= at_us), 0.0)


def _kept(share: float, *, is_canary: bool) -> float:
    """Return which part of an arm's units is kept, so that both arms keep the same number; none without a canary.

    Examples
    --------
    >>> round(_kept(0.2, is_canary=False), 3), _kept(0.2, is_canary=True), _kept(0.0, is_canary=False)
    (0.25, 1.0, 0.0)
    """
    if not share:
        return 0.0
    own, other = (share, 1 - share) if is_canary else (1 - share, share)
    return min(1.0, other / own)


def _unit_key(unit: str) -> int:
    """Return 64 bits that stand for a unit, and have nothing to do with how units are dealt to arms."""
    return int.from_bytes(blake2b(unit.encode(), digest_size=8, person=b"labels").digest(), "little")
