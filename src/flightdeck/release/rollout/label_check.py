"""The label check of a version: open from its shadow or canary until the label window after its promotion has passed.

Each check has a file beside those of the steps: positions in both logs, items that wait, and the test, written together
at each look. Whoever starts anew reads on from there, and each record counts once.

It looks once a minute: labels come hours later, and reading them costs more than reading answers.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US, to_us
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.files import write_atomically
from flightdeck.gates.judge_policy import JudgePolicy, LogLossRule
from flightdeck.release.judge.evidence import Floats
from flightdeck.release.judge.log_loss import LogLossTest
from flightdeck.release.judge.standing import proof_bar
from flightdeck.release.record import Record
from flightdeck.release.rollout.label_items import UNPAIRED_FOR_US, WaitingItems
from flightdeck.release.rollout.label_period import LABEL_CHECK, LabelPeriod, label_periods
from flightdeck.release.rollout.observer import Logs
from flightdeck.release.rollout.tail import Positions, positions_at, read_new
from flightdeck.release.stages import ReleaseState

LOOK_EVERY = timedelta(minutes=1)
FAILED, PASSED, RAN_OUT, OPEN = "failed", "passed", "ran out", "open"
logger = logging.getLogger(__name__)


class Labels(Protocol):
    """Anything that knows outcomes."""

    def known(self, items: Sequence[str], asked_us: npt.NDArray[np.int64]) -> tuple[Floats, float]:
        """Return the outcomes of items that were asked about at `asked_us`, and up to when they are complete.

        Returns
        -------
        tuple of array and float
            0, 1, or NaN while unknown, shape `(n,)`; and the time of request, seconds since the epoch, up to which
            nothing is pending any more.
        """
        ...


@dataclass(frozen=True)
class Seen:
    """What a label check has come to.

    Parameters
    ----------
    outcome
        open, failed, passed or ran out.
    line
        That in words.
    n_votes
        Blocks that voted.
    is_fine
        Whether it is shown by now that the log loss is within its margin.
    figures
        What the log loss shows, as a verdict has it.
    """

    outcome: str
    line: str
    n_votes: int
    is_fine: bool
    figures: dict[str, Any]


@dataclass
class _Kept:
    """What the file of a check holds, and what it came to at the last look."""

    positions: Positions
    shadow_positions: Positions
    test: LogLossTest
    waiting: WaitingItems = field(default_factory=WaitingItems)
    looked_at: datetime | None = None


class LabelChecks:
    """The label checks of all versions.

    Parameters
    ----------
    logs
        Prediction log and shadow log.
    folder
        Where their files are kept.
    labels
        Who knows the outcomes.
    """

    def __init__(self, logs: Logs, folder: Path, labels: Labels) -> None:
        self._logs, self._folder, self._labels = logs, folder, labels
        self._kept: dict[str, _Kept] = {}

    def look(self, period: LabelPeriod, policy: JudgePolicy, rule: LogLossRule, now: datetime) -> Seen:
        """Take in what is new, at most once a minute, keep it, and return what is known.

        Labels or a log that cannot be read are no news; where the file cannot be written, it goes on from memory.
        """
        until = period.promoted_at + timedelta(hours=rule.label_window_h) if period.promoted_at else None
        kept = self._kept.pop(period.name, None) or self._read(period, policy, rule)  # what breaks off is read anew
        if kept.looked_at is None or now - kept.looked_at >= LOOK_EVERY or (until is not None and now >= until):
            try:
                self._take_in(kept, period, rule, now)
            except (FlightdeckError, OSError) as error:
                logger.warning("labels of version %s: %s; looked at again later", period.version, error)
                kept = self._read(period, policy, rule)
            kept.looked_at = now
            self._keep(period, kept, _seen(kept, policy, rule, until, now))
        self._kept[period.name] = kept
        return _seen(kept, policy, rule, until, now)

    def forget(self, periods: Sequence[LabelPeriod]) -> None:
        """Let go of the checks that are over; their files stay."""
        live = {period.name for period in periods}
        self._kept = {name: kept for name, kept in self._kept.items() if name in live}

    def _take_in(self, kept: _Kept, period: LabelPeriod, rule: LogLossRule, now: datetime) -> None:
        waiting = kept.waiting
        answers, kept.positions = read_new(self._logs.predictions, kept.positions)
        scores, kept.shadow_positions = read_new(self._logs.shadows, kept.shadow_positions)
        for part in (*answers, *scores):
            waiting.add(part, period)
        waiting.forget_unpaired(to_us(now) - UNPAIRED_FOR_US)
        keys = waiting.ready()
        if not keys:
            return
        rows = [waiting.items[key] for key in keys]
        at_s = np.array([row[0] for row in rows], dtype=np.float64)
        labels, until_s = self._labels.known([row[3] for row in rows], (at_s * SECOND_US).astype(np.int64))
        is_over = (np.floor(at_s / rule.block_s) + 1) * rule.block_s <= until_s
        over = [key for key, is_it in zip(keys, is_over.tolist(), strict=True) if is_it]
        kept.test.update(waiting.take(over, labels[is_over]), until_s)

    def _read(self, period: LabelPeriod, policy: JudgePolicy, rule: LogLossRule) -> _Kept:
        test = LogLossTest(rule, proof_bar(policy.alpha, len(policy.metrics)))
        path, logs = self._path(period), self._logs
        if not path.is_file():
            began = period.began_at
            return _Kept(positions_at(logs.predictions, began), positions_at(logs.shadows, began), test)
        found = json.loads(path.read_bytes())
        test.resume(found["test"])
        waiting = WaitingItems(found["items"], found["kept_share"])
        return _Kept(found["positions"], found["shadow_positions"], test, waiting)

    def _keep(self, period: LabelPeriod, kept: _Kept, seen: Seen) -> None:
        whole = {
            "line": seen.line,
            "positions": kept.positions,
            "shadow_positions": kept.shadow_positions,
            "kept_share": kept.waiting.kept_share,
            "items": kept.waiting.items,
            "test": kept.test.state(),
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(period), json.dumps(whole, allow_nan=False).encode())
        except OSError as error:
            logger.warning("keeping the label check %s: %s; it goes on from memory", period.name, error)

    def _path(self, period: LabelPeriod) -> Path:
        return self._folder / f"{period.name}.json"


def label_line(folder: Path, state: ReleaseState, records: Sequence[Record], version: int) -> str:
    """Return what the label check of a version has come to, in words: open, or how it ended; empty without one.

    Raises
    ------
    FlightdeckError
        If the file of the check is not what the controller writes.
    """
    for period in label_periods(state, records):
        path = folder / f"{period.name}.json"
        if period.version == version and path.is_file():
            try:
                return str(json.loads(path.read_bytes())["line"])
            except (OSError, ValueError, KeyError) as error:
                raise FlightdeckError(
                    f"reading the label check of version {version} in {path}: {error!r}",
                    next_step="look again; where it stays so, move the file away: the check then begins anew",
                ) from error
    ended = (r for r in reversed(records) if r.action == LABEL_CHECK and r.subject == str(version))
    return next((str(record.detail["what"]) for record in ended), "")


def _seen(kept: _Kept, policy: JudgePolicy, rule: LogLossRule, until: datetime | None, now: datetime) -> Seen:
    standing = kept.test.standing
    is_fine = standing.log_e_fine >= proof_bar(policy.pass_alpha) and standing.n_canary >= rule.n_blocks_at_least
    days = f"{kept.test.n_worse} of {standing.n_canary} blocks of {rule.block_s / 3600:g} h voted against it"
    if standing.worse_at_s is not None:
        outcome, line = FAILED, f"labels: log loss is worse by more than {rule.margin:g} nats, {days}"
    elif until is not None and now >= until:
        outcome = PASSED if is_fine else RAN_OUT
        line = f"labels: {outcome}, {days}"
    else:
        when = f"{until:%Y-%m-%d %H:%M} UTC" if until is not None else f"{rule.label_window_h:g} h after promotion"
        outcome, line = OPEN, f"labels: open until {when}, {days}, {len(kept.waiting.items):,} items wait"
    figures = {
        "outcome": {FAILED: "fail", PASSED: "pass"}.get(outcome, "inconclusive"),
        "log_e_worse": standing.log_e_worse,
        "log_e_fine": standing.log_e_fine,
        "n_canary": standing.n_canary,
        "n_champion": standing.n_champion,
        "n_worse": kept.test.n_worse,
        "worse_at_s": standing.worse_at_s,
        "reason": line,
    }
    return Seen(outcome, line, standing.n_canary, is_fine, figures)
