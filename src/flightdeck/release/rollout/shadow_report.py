"""What a shadow said about the items that the champion answered: differences, failures, and the time of a run.

Records of the two logs meet by request and place. A champion's answer waits for the shadow's record; one that waited
too long while others came is counted as not scored. All that is known is a plain value, so that a report goes on where
it stopped.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.core.errors import FlightdeckError
from flightdeck.gates.policy import ShadowStep
from flightdeck.release.rollout.run_cost import USUAL, comparable_ms, run_sizes

MAX_WAITING = 20_000
MAX_GROUPS = 200
BUCKETS_PER_DECADE = 20
LOW_MS, N_BUCKETS = 1e-4, 160  # 100 ns to 10,000 s
ALL = "all"
FORMAT = 1


class ShadowReport:
    """Running comparison of one shadow with the champion.

    Parameters
    ----------
    segments
        Request columns by whose values the difference is shown.
    fixed
        Part of a run that does not depend on its items, in units of an item (`run_cost`).
    """

    def __init__(self, segments: tuple[str, ...] = (), fixed: float = USUAL) -> None:
        self.segments, self.fixed = segments, fixed
        self.n_matched = self.n_failed = self.n_unscored = 0
        self._groups: dict[str, list[float]] = {ALL: [0, 0.0, 0.0]}
        self._waiting: dict[str, tuple[float, list[str]]] = {}
        self._early: dict[str, float] = {}
        self._champion_ms = np.zeros(N_BUCKETS)
        self._shadow_ms = np.zeros(N_BUCKETS)

    def add_answers(self, records: pa.Table, champion: int, since_us: int) -> None:
        """Take in records of the prediction log: those that the model of the champion answered since `since_us`."""
        keys, at_us = _keys(records), _microseconds(records)
        mode, version = records.column("mode").to_pylist(), records.column("model_version").to_pylist()
        probability = _numbers(records, "probability")
        cost_ms = comparable_ms(_numbers(records, "model_ms"), run_sizes(records), self.fixed)
        columns = {name: _values(records, name) for name in self.segments}
        for row, key in enumerate(keys):
            if at_us[row] < since_us or mode[row] != "model" or version[row] != str(champion):
                continue
            groups = [f"{name}={values[row]}" for name, values in columns.items() if values]
            _count(self._champion_ms, cost_ms[row])
            if key in self._early:
                self._match(probability[row], self._early.pop(key), groups)
            else:
                self._waiting[key] = (float(probability[row]), groups)
        while len(self._waiting) > MAX_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
            self.n_unscored += 1

    def add_scores(self, records: pa.Table, shadow: int, since_us: int) -> None:
        """Take in records of the shadow log; a score that is no probability is a failure."""
        keys, at_us = _keys(records), _microseconds(records)
        version = records.column("model_version").to_pylist()
        probability = _numbers(records, "probability")
        cost_ms = comparable_ms(_numbers(records, "model_ms"), run_sizes(records), self.fixed)
        for row, key in enumerate(keys):
            if at_us[row] < since_us or version[row] != str(shadow):
                continue
            _count(self._shadow_ms, cost_ms[row])
            waiting = self._waiting.pop(key, None)
            if waiting is None:
                self._early[key] = float(probability[row])
            else:
                self._match(waiting[0], probability[row], waiting[1])
        while len(self._early) > MAX_WAITING:
            self._early.pop(next(iter(self._early)))  # its answer was not the champion's model

    def figures(self) -> dict[str, Any]:
        """Return counts, mean and mean absolute difference overall and by group, and p95 of both, CPU ms an item."""
        groups = {
            name: {"n": int(n), "mean_difference": total / n, "mean_absolute_difference": absolute / n}
            for name, (n, total, absolute) in sorted(self._groups.items())
            if n
        }
        return {
            "n_matched": self.n_matched,
            "n_failed": self.n_failed,
            "n_unscored": self.n_unscored,
            "groups": groups,
            "champion_p95_ms": _quantile(self._champion_ms, 0.95),
            "shadow_p95_ms": _quantile(self._shadow_ms, 0.95),
        }

    def problems(self, step: ShadowStep, n_group_at_least: int = 100) -> list[str]:
        """Return which thresholds of `step` are broken, in words; groups of few items have no say."""
        figures = self.figures()
        seen = self.n_matched + self.n_failed
        failed_pct = 100 * self.n_failed / seen if seen else 0.0
        found = []
        if failed_pct > step.failed_pct_at_most:
            found.append(f"{failed_pct:.3g}% of its items failed, at most {step.failed_pct_at_most:g}% may")
        for name, group in figures["groups"].items():
            off = abs(group["mean_difference"])
            if group["n"] >= n_group_at_least and off > step.mean_difference_at_most:
                found.append(
                    f"its mean prediction is {off:.3g} off in {name} ({group['n']:,} items), at most "
                    f"{step.mean_difference_at_most:g} is allowed"
                )
        champion_ms, shadow_ms = figures["champion_p95_ms"], figures["shadow_p95_ms"]
        if champion_ms and shadow_ms and shadow_ms > step.p95_ratio_at_most * champion_ms:
            found.append(
                f"an item costs it {shadow_ms:.3g} ms (p95), {shadow_ms / champion_ms:.3g} times the champion's, "
                f"at most {step.p95_ratio_at_most:g} times are allowed"
            )
        return found

    def state(self) -> dict[str, Any]:
        """Return everything that is known, as values that JSON can hold."""
        return {
            "format": FORMAT,
            "segments": list(self.segments),
            "fixed": self.fixed,
            "counts": [self.n_matched, self.n_failed, self.n_unscored],
            "groups": self._groups,
            "waiting": {key: list(value) for key, value in self._waiting.items()},
            "early": {key: None if math.isnan(value) else value for key, value in self._early.items()},
            "champion_ms": self._champion_ms.tolist(),
            "shadow_ms": self._shadow_ms.tolist(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "ShadowReport":
        """Return the report that gave `state`.

        Raises
        ------
        FlightdeckError
            If it is not a state of this format.
        """
        if state.get("format") != FORMAT:
            raise FlightdeckError(
                f"resuming the report of a shadow: the state has format {state.get('format')}, {FORMAT} is needed",
                next_step="let the shadow step begin anew: kedro release freeze, then kedro release thaw",
            )
        report = cls(tuple(state["segments"]), state["fixed"])
        report.n_matched, report.n_failed, report.n_unscored = state["counts"]
        report._groups = {name: list(values) for name, values in state["groups"].items()}
        report._waiting = {key: (float(value[0]), list(value[1])) for key, value in state["waiting"].items()}
        report._early = {key: math.nan if value is None else value for key, value in state["early"].items()}
        report._champion_ms, report._shadow_ms = np.array(state["champion_ms"]), np.array(state["shadow_ms"])
        return report

    def _match(self, answered: float, scored: float, groups: list[str]) -> None:
        if not (math.isfinite(scored) and 0 <= scored <= 1):
            self.n_failed += 1
            return
        self.n_matched += 1
        difference = float(scored) - float(answered)
        for name in (ALL, *groups):
            if name not in self._groups and len(self._groups) >= MAX_GROUPS:
                name = "other"
            totals = self._groups.setdefault(name, [0, 0.0, 0.0])
            totals[0] += 1
            totals[1] += difference
            totals[2] += abs(difference)


def _keys(records: pa.Table) -> list[str]:
    ids, items = records.column("request_id").to_pylist(), records.column("item").to_pylist()
    return [f"{one}/{item}" for one, item in zip(ids, items, strict=True)]


def _microseconds(records: pa.Table) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = records.column("logged_at").cast(pa.int64()).to_numpy(zero_copy_only=False)
    return found


def _numbers(records: pa.Table, name: str) -> npt.NDArray[np.float64]:
    if name not in records.column_names:
        return np.full(len(records), np.nan)
    found: npt.NDArray[np.float64] = records.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def _values(records: pa.Table, name: str) -> list[Any]:
    return records.column(name).to_pylist() if name in records.column_names else []


def _count(buckets: npt.NDArray[np.float64], value_ms: float) -> None:
    if value_ms > 0:
        place = int(math.log10(value_ms / LOW_MS) * BUCKETS_PER_DECADE) if value_ms > LOW_MS else 0
        buckets[min(place, N_BUCKETS - 1)] += 1


def _quantile(buckets: npt.NDArray[np.float64], q: float) -> float | None:
    """Return the upper edge of the bucket that holds the quantile, at most 12% too high; None for no values."""
    total = buckets.sum()
    if not total:
        return None
    place = int(np.searchsorted(np.cumsum(buckets), q * total))
    return float(LOW_MS * 10 ** ((place + 1) / BUCKETS_PER_DECADE))
