"""The judge of one canary step: evidence in, verdict out, after every batch and valid after every event.

Nothing here reads a clock, a file or a random number. The state is plain data: a controller stores it with the offset
of the evidence that it has read, and a judge made from it goes on as if nothing had happened. docs/judge.md, ADR 0021.
"""

from typing import Any

import msgspec
import numpy as np

from flightdeck.core.errors import ConfigError, FlightdeckError
from flightdeck.gates.judge_policy import JudgePolicy
from flightdeck.release.judge.distribution import PredictionTest
from flightdeck.release.judge.errors import ErrorTest
from flightdeck.release.judge.evidence import CanaryEvidence, Requests, problems
from flightdeck.release.judge.log_loss import LogLossTest
from flightdeck.release.judge.quantiles import LatencyTest
from flightdeck.release.judge.sample_ratio import SampleRatioTest
from flightdeck.release.judge.standing import Standing, State, proof_bar
from flightdeck.release.judge.units import Units
from flightdeck.release.judge.verdict import CanaryVerdict, MetricVerdict, Outcome

FORMAT = 1


class Judge:
    """Judges one step of one canary.

    Parameters
    ----------
    policy
        Error rates, margins, minimum samples and times.
    share
        Share of the units that the canary decides for, in (0, 1). Another share is another step and another judge.

    Raises
    ------
    ConfigError
        If the share is not between 0 and 1.
    """

    def __init__(self, policy: JudgePolicy, share: float) -> None:
        if not 0 < share < 1:
            raise ConfigError(
                f"judging a canary with the share {share}: it must be between 0 and 1, both arms need traffic",
                next_step="correct the share of this step in policies.yml",
            )
        self.policy, self.share = policy, share
        self._tests = _make_tests(policy, share)
        self._sample_ratio = SampleRatioTest(share, proof_bar(policy.sample_ratio_alpha))
        self._units, self._failed_units = Units(), Units()
        self._first_at_s: float | None = None
        self._last_at_s: float | None = None
        self._canary_at_s: float | None = None
        self._until_s: float | None = None
        self._malformed: list[str] = []

    def update(self, evidence: CanaryEvidence) -> CanaryVerdict:
        """Count one batch and return the verdict.

        Events are counted in the order of their time; how they are cut into batches makes no difference as long as the
        batches follow each other in time. A malformed batch is not counted, and the canary can no longer pass.
        """
        found = problems(evidence)
        if found:
            self._malformed = found
            return self.verdict()
        self._count(evidence.requests.sorted())
        self._until_s = max(evidence.until_s, self._until_s if self._until_s is not None else -np.inf)
        log_loss = self._tests.get("log_loss")
        if isinstance(log_loss, LogLossTest):
            log_loss.update(evidence.labels, evidence.labels_until_s)
        return self.verdict()

    def verdict(self) -> CanaryVerdict:
        """Return what is known so far."""
        metrics = tuple(self._metric_verdict(name, test.standing) for name, test in self._tests.items())
        outcome, freeze, reasons = self._decide(metrics)
        return CanaryVerdict(outcome, freeze, reasons, metrics, self._sample_ratio.standing.log_e_worse)

    def state(self) -> State:
        """Return everything that is known, as values that JSON can hold."""
        return {
            "format": FORMAT,
            "policy": msgspec.to_builtins(self.policy),
            "share": self.share,
            "tests": {name: test.state() for name, test in self._tests.items()},
            "sample_ratio": self._sample_ratio.state(),
            "units": self._units.encode(),
            "failed_units": self._failed_units.encode(),
            "times_s": [self._first_at_s, self._last_at_s, self._canary_at_s, self._until_s],
            "malformed": list(self._malformed),
        }

    @classmethod
    def from_state(cls, state: State) -> "Judge":
        """Return the judge that gave `state`.

        Raises
        ------
        FlightdeckError
            If it is not a state of this format.
        """
        if state.get("format") != FORMAT:
            raise FlightdeckError(
                f"resuming the judge of a canary: the state has format {state.get('format')}, {FORMAT} is needed",
                next_step="start the canary step anew",
            )
        try:
            judge = cls(msgspec.convert(state["policy"], JudgePolicy), state["share"])
            judge._resume(state)
        except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
            raise FlightdeckError(
                f"resuming the judge of a canary: its state cannot be read: {error!r}",
                next_step="start the canary step anew",
            ) from error
        return judge

    def _resume(self, state: State) -> None:
        for name, test in self._tests.items():
            test.resume(state["tests"][name])
        self._sample_ratio.resume(state["sample_ratio"])
        self._units, self._failed_units = Units(state["units"]), Units(state["failed_units"])
        self._first_at_s, self._last_at_s, self._canary_at_s, self._until_s = state["times_s"]
        self._malformed = list(state["malformed"])

    def _count(self, requests: Requests) -> None:
        if not len(requests):
            return
        at_s, is_canary, is_error = requests.at_s, requests.is_canary, requests.is_error
        self._mark_times(requests)
        is_new = self._units.first_of(requests.unit)
        self._sample_ratio.update(at_s[is_new], is_canary[is_new])
        errors = self._tests.get("errors")
        if isinstance(errors, ErrorTest):
            errors.update(at_s, is_canary, is_new, self._failed_units.first_of(requests.unit, is_error))
        for name, values in (("latency", requests.latency_s), ("predictions", requests.prediction)):
            test = self._tests.get(name)
            if isinstance(test, LatencyTest | PredictionTest):
                missing = np.isnan(values)
                test.standing.is_damaged |= bool((missing & ~is_error).any())
                votes = is_new & ~is_error & ~missing
                test.update(at_s[votes], is_canary[votes], values[votes])

    def _mark_times(self, requests: Requests) -> None:
        first, last = float(requests.at_s[0]), float(requests.at_s[-1])
        self._first_at_s = first if self._first_at_s is None else min(first, self._first_at_s)
        self._last_at_s = last if self._last_at_s is None else max(last, self._last_at_s)
        if requests.is_canary.any():
            newest = float(requests.at_s[requests.is_canary][-1])
            self._canary_at_s = newest if self._canary_at_s is None else max(newest, self._canary_at_s)

    def _decide(self, metrics: tuple[MetricVerdict, ...]) -> tuple[Outcome, bool, tuple[str, ...]]:
        """Return the verdict, whether to freeze, and why: what is worse comes first."""
        failed = tuple(f"{m.metric}: {m.reason}" for m in metrics if m.outcome is Outcome.FAIL)
        if failed:
            return Outcome.FAIL, False, failed
        if self._malformed:
            return Outcome.ERROR, True, tuple(self._malformed)
        doubts = self._doubts()
        if doubts:
            return Outcome.INCONCLUSIVE, True, doubts
        waiting = tuple(f"{m.metric}: {m.reason}" for m in metrics if self._waits_for(m)) + self._bake()
        if waiting:
            return Outcome.INCONCLUSIVE, False, waiting
        return Outcome.PASS, False, ("every metric is within its margin",)

    def _doubts(self) -> tuple[str, ...]:
        """Return why the evidence cannot be trusted, or is none."""
        found = []
        counted = self._sample_ratio.standing
        if not counted.n_canary or not counted.n_champion or self._until_s is None or self._canary_at_s is None:
            found.append(f"no data: {counted.n_canary} units of the canary, {counted.n_champion} of the champion")
        elif self._until_s - self._canary_at_s > self.policy.silence_s:
            found.append(f"stale: the canary has not answered for {self._until_s - self._canary_at_s:.0f} s")
        if self._sample_ratio.is_mismatch:
            n_units = counted.n_canary + counted.n_champion
            found.append(f"sample-ratio mismatch: {counted.n_canary} of {n_units} units, asked for {self.share}")
        damaged = [name for name, test in self._tests.items() if test.standing.is_damaged]
        found += [f"{name}: values are missing (NaN)" for name in damaged]
        return tuple(found)

    def _bake(self) -> tuple[str, ...]:
        baked_s = (self._last_at_s or 0.0) - (self._first_at_s or 0.0)
        return () if baked_s >= self.policy.bake_s else (f"baked for {baked_s:.0f} of {self.policy.bake_s:.0f} s",)

    def _waits_for(self, metric: MetricVerdict) -> bool:
        rule = self.policy.log_loss
        open_end = metric.metric == "log_loss" and rule is not None and not rule.is_awaited
        return metric.outcome is not Outcome.PASS and not open_end

    def _metric_verdict(self, name: str, standing: Standing) -> MetricVerdict:
        rule: Any = getattr(self.policy, name)
        needed = rule.n_blocks_at_least if name == "log_loss" else rule.n_units_at_least
        outcome, reason = Outcome.INCONCLUSIVE, "not yet known to be within its margin"
        if standing.worse_at_s is not None:
            outcome, reason = Outcome.FAIL, f"beyond its margin since {standing.worse_at_s:.3f} s"
        elif standing.is_damaged:
            reason = "values are missing (NaN)"
        elif standing.n_canary < needed:
            reason = f"{standing.n_canary} of {needed} votes of the canary"
        elif standing.log_e_fine >= proof_bar(self.policy.pass_alpha):
            outcome, reason = Outcome.PASS, "within its margin"
        found = (standing.log_e_worse, standing.log_e_fine, standing.n_canary, standing.n_champion)
        return MetricVerdict(name, outcome, *found, standing.worse_at_s, reason)


def _make_tests(policy: JudgePolicy, share: float) -> dict[str, ErrorTest | LatencyTest | PredictionTest | LogLossTest]:
    bar = proof_bar(policy.alpha, len(policy.metrics))
    found: dict[str, ErrorTest | LatencyTest | PredictionTest | LogLossTest] = {}
    if policy.errors is not None:
        found["errors"] = ErrorTest(policy.errors, share, bar)
    if policy.latency is not None:
        found["latency"] = LatencyTest(policy.latency, share, bar)
    if policy.predictions is not None:
        found["predictions"] = PredictionTest(policy.predictions, share, bar)
    if policy.log_loss is not None:
        found["log_loss"] = LogLossTest(policy.log_loss, bar)
    return found
