"""Log loss, once labels arrive: whether the canary's is larger than the champion's by more than a margin.

Days are not made of independent flights: one day of 920 flights is worth about 40. So the evidence is a vote a block,
by default a day: the units' mean differences of loss, their mean over the block, and whether that exceeds the margin.
Under the null hypothesis (given the past, a block exceeds the margin with probability at most one half) the vote is a
Bernoulli of at most one half, however the items of the block depend on each other. This is the sign test made
sequential: it needs no variance, no symmetry and no bound, and pays for that in blocks.

Items that both versions scored are compared with themselves; otherwise the arms' units are compared within the block,
so that the day's level cancels. A block votes when its labels are complete: early labels are a biased sample.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from flightdeck.gates.judge_policy import LogLossRule
from flightdeck.release.judge.betting import Bettor, Floats, vote_stakes
from flightdeck.release.judge.evidence import Keys, LabelledItems
from flightdeck.release.judge.standing import Standing, State

WORSE = (1.5, 3.0, 9.0, 99.0)  # odds ratios of the alternatives
FINE = tuple(1 / ratio for ratio in WORSE)
CLIP = 1e-3  # a probability is at least this far from 0 and 1: one item costs at most 6.9 nats
COLUMNS = ("at_s", "unit", "label", "champion", "canary")


class LogLossTest:
    """Sequential test of the log loss, block by block.

    Parameters
    ----------
    rule
        Margin, length of a block and what it must hold.
    bar
        Logarithm of the e-value that fails the version.

    Attributes
    ----------
    n_worse
        Blocks that voted against the version.
    """

    def __init__(self, rule: LogLossRule, bar: float) -> None:
        self.standing = Standing(bar)
        self._rule = rule
        self._worse = Bettor(vote_stakes(0.5, WORSE))
        self._fine = Bettor(vote_stakes(0.5, FINE))
        self._open = _table({name: [] for name in COLUMNS})
        self._closed_until_s = float("-inf")
        self.n_worse = 0

    def update(self, items: LabelledItems | None, complete_until_s: float) -> None:
        """Keep new items, and let the blocks vote that end by `complete_until_s`; items of blocks that voted are late.

        Late items are dropped: that labels are complete was a promise, and a vote is not taken back.
        """
        if items is not None:
            self._keep(items)
        blocks = np.floor(self._open.at_s / self._rule.block_s)
        ends_s = (blocks + 1) * self._rule.block_s
        closing = ends_s <= complete_until_s
        votes, at_s = [], []
        for block in np.unique(blocks[closing]):
            excess = block_difference(_rows(self._open, blocks == block), self._rule.n_units_a_block_at_least)
            if excess is not None and excess != self._rule.margin:
                votes.append(float(excess > self._rule.margin) - 0.5)
                at_s.append(float((block + 1) * self._rule.block_s))
        self._open = _rows(self._open, ~closing)
        self._closed_until_s = max(self._closed_until_s, complete_until_s)
        self._vote(np.array(votes), np.array(at_s))

    def state(self) -> State:
        """Return the evidence so far as plain values; JSON knows no NaN, so a missing probability is None."""
        columns = {name: getattr(self._open, name).tolist() for name in COLUMNS}
        for name in ("champion", "canary"):
            columns[name] = [None if value != value else value for value in columns[name]]
        finite = np.isfinite(self._closed_until_s)
        return {
            "standing": self.standing.state(),
            "bettors": [self._worse.state(), self._fine.state()],
            "open": columns,
            "n_worse": self.n_worse,
            "closed_until_s": self._closed_until_s if finite else None,
        }

    def resume(self, state: State) -> None:
        """Go on from a former `state`."""
        self.standing = Standing(**state["standing"])
        for bettor, former in zip((self._worse, self._fine), state["bettors"], strict=True):
            bettor.resume(former)
        self._open = _table(state["open"])
        self.n_worse = state["n_worse"]
        closed = state["closed_until_s"]
        self._closed_until_s = float("-inf") if closed is None else closed

    def _keep(self, items: LabelledItems) -> None:
        missing = np.isnan(items.champion) & np.isnan(items.canary)
        self.standing.is_damaged |= bool(missing.any())
        ends_s = (np.floor(items.at_s / self._rule.block_s) + 1) * self._rule.block_s
        new = _rows(items, ~missing & (ends_s > self._closed_until_s))
        self._open = LabelledItems(
            *(np.concatenate([getattr(self._open, name), getattr(new, name)]) for name in COLUMNS)
        )

    def _vote(self, votes: Floats, at_s: Floats) -> None:
        self.standing.n_canary += len(votes)
        self.standing.n_champion += len(votes)
        self.n_worse += int((votes > 0).sum())
        self.standing.look(self._worse.path(votes), at_s)
        self.standing.log_e_fine = max(self.standing.log_e_fine, float(self._fine.path(votes).max(initial=0.0)))


def block_difference(items: LabelledItems, n_units_at_least: int) -> float | None:
    """Return the canary's log loss less the champion's over one block, nats; None if too few units can be compared.

    Each unit counts once, with the mean over its items, however many it has.
    """
    champion, canary = _loss(items.champion, items.label), _loss(items.canary, items.label)
    both = ~np.isnan(champion) & ~np.isnan(canary)
    differences = _unit_means(items.unit[both], (canary - champion)[both])
    if len(differences) >= n_units_at_least:
        return float(differences.mean())
    arms = [_unit_means(items.unit[~np.isnan(loss)], loss[~np.isnan(loss)]) for loss in (canary, champion)]
    if min(map(len, arms)) < n_units_at_least:
        return None
    return float(arms[0].mean() - arms[1].mean())


def _loss(probability: Floats, label: Floats) -> Floats:
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    return np.asarray(-np.log(np.where(label == 1, clipped, 1 - clipped)))


def _unit_means(unit: Keys, values: Floats) -> Floats:
    _, places, counts = np.unique(unit, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(places, weights=values, minlength=len(counts)) / counts)


def _table(columns: dict[str, list[Any]]) -> LabelledItems:
    floats = {name: np.array(columns[name], dtype=np.float64) for name in COLUMNS if name != "unit"}
    return LabelledItems(unit=np.array(columns["unit"], dtype=np.uint64), **floats)


def _rows(items: LabelledItems, rows: npt.NDArray[np.bool_]) -> LabelledItems:
    return LabelledItems(*(getattr(items, name)[rows] for name in COLUMNS))
