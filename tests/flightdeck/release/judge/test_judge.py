"""The judge as a whole: verdicts, freezing, resuming, and that looking often costs nothing."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.errors import FlightdeckError
from flightdeck.gates.judge_policy import ErrorRule
from flightdeck.release.judge.evidence import CanaryEvidence, Requests
from flightdeck.release.judge.judge import Judge
from flightdeck.release.judge.standing import proof_bar
from flightdeck.release.judge.verdict import CanaryVerdict, MetricVerdict, Outcome
from tests.flightdeck.release.judge.canaries import DAY_S, POLICY, cut, make_evidence, make_labels, make_requests

HEALTHY = make_requests(30_000)
SEEDS = st.integers(0, 10_000)


def judge_all(requests: Requests, share: float = 0.5, until_s: float = 3600.0) -> CanaryVerdict:
    return Judge(POLICY, share).update(make_evidence(requests, until_s))


def metric(verdict: CanaryVerdict, name: str) -> MetricVerdict:
    return next(found for found in verdict.metrics if found.metric == name)


def test_a_healthy_canary_passes() -> None:
    verdict = judge_all(HEALTHY)
    assert (verdict.outcome, verdict.freeze) == (Outcome.PASS, False)
    assert metric(verdict, "log_loss").outcome is Outcome.INCONCLUSIVE, "labels are not awaited, the check stays open"


def test_a_pass_waits_for_labels_where_the_policy_says_so() -> None:
    assert POLICY.log_loss is not None
    awaited = msgspec.structs.replace(POLICY.log_loss, is_awaited=True, margin=0.05)
    judge = Judge(msgspec.structs.replace(POLICY, log_loss=awaited), 0.5)
    verdict = judge.update(make_evidence(HEALTHY))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    labels = make_labels(12, n_a_day=400)
    verdict = judge.update(CanaryEvidence(HEALTHY.take(np.arange(0)), 3600.0, labels, 12 * DAY_S))
    assert verdict.outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("errors", make_requests(3000, error_rates=(0.001, 0.2))),
        ("latency", make_requests(12_000, latency_ratio=1.6)),
        ("predictions", make_requests(6000, shift=0.3)),
    ],
)
def test_one_metric_beyond_its_margin_fails_the_canary(name: str, requests: Requests) -> None:
    verdict = judge_all(requests)
    assert verdict.outcome is Outcome.FAIL
    assert metric(verdict, name).outcome is Outcome.FAIL
    assert verdict.reasons[0].startswith(name)


def test_labels_that_come_late_can_still_fail_a_version_that_passed() -> None:
    judge = Judge(POLICY, 0.5)
    assert judge.update(make_evidence(HEALTHY)).outcome is Outcome.PASS
    none = HEALTHY.take(np.arange(0))
    verdict = judge.update(CanaryEvidence(none, 3600.0, make_labels(30, noise=3.0), 30 * DAY_S))
    assert verdict.outcome is Outcome.FAIL
    assert verdict.reasons[0].startswith("log_loss")


def test_minimum_time_and_minimum_samples_hold_a_pass_back() -> None:
    for change in ({"bake_s": 4000.0}, {"errors": ErrorRule(n_units_at_least=100_000)}):
        verdict = Judge(msgspec.structs.replace(POLICY, **change), 0.5).update(make_evidence(HEALTHY))
        assert (verdict.outcome, verdict.freeze) == (Outcome.INCONCLUSIVE, False)


def test_no_data_freezes() -> None:
    nothing = HEALTHY.take(np.arange(0))
    only_champion = HEALTHY.take(~HEALTHY.is_canary)
    for requests in (nothing, only_champion):
        verdict = judge_all(requests)
        assert (verdict.outcome, verdict.freeze) == (Outcome.INCONCLUSIVE, True)
        assert verdict.reasons[0].startswith("no data")
    assert Judge(POLICY, 0.5).verdict().freeze


def test_a_silent_canary_freezes() -> None:
    verdict = judge_all(HEALTHY, until_s=3600.0 + 700)
    assert (verdict.outcome, verdict.freeze) == (Outcome.INCONCLUSIVE, True)
    assert verdict.reasons[0].startswith("stale")


@pytest.mark.parametrize("column", ["latency_s", "prediction"])
@settings(max_examples=20)
@given(place=st.integers(0, len(HEALTHY) - 1))
def test_a_single_missing_value_freezes_and_never_passes(column: str, place: int) -> None:
    values = getattr(HEALTHY, column).copy()
    values[place] = np.nan
    is_error = HEALTHY.is_error.copy()
    is_error[place] = False
    verdict = judge_all(replace(HEALTHY, **{column: values, "is_error": is_error}))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.freeze


def test_a_sample_ratio_mismatch_freezes_and_never_passes() -> None:
    verdict = judge_all(make_requests(12_000, share=0.4))
    assert (verdict.outcome, verdict.freeze) == (Outcome.INCONCLUSIVE, True)
    assert "sample-ratio" in verdict.reasons[0]


@pytest.mark.parametrize(
    "change",
    [
        {"latency_s": -HEALTHY.latency_s},
        {"prediction": HEALTHY.prediction * 2 + 1},
        {"prediction": np.where(HEALTHY.is_error, np.nan, np.inf)},
        {"at_s": np.where(HEALTHY.is_canary, np.nan, HEALTHY.at_s)},
        {"unit": HEALTHY.unit.astype(np.float64)},
        {"is_error": HEALTHY.is_error[:-1]},
    ],
)
def test_malformed_evidence_is_an_error_that_stays_and_is_not_counted(change: dict[str, np.ndarray]) -> None:
    judge = Judge(POLICY, 0.5)
    verdict = judge.update(make_evidence(replace(HEALTHY, **change)))
    assert (verdict.outcome, verdict.freeze) == (Outcome.ERROR, True)
    assert metric(verdict, "errors").n_canary == 0
    assert judge.update(make_evidence(HEALTHY)).outcome is Outcome.ERROR
    broken = make_requests(500, seed=9, error_rates=(0.0, 1.0))
    fresh = replace(broken, unit=broken.unit + np.uint64(10**6))
    assert judge.update(make_evidence(fresh)).outcome is Outcome.FAIL, "a canary can be failed whatever the feed did"


def test_malformed_labels_are_an_error() -> None:
    labels = make_labels(1)
    for bad in (replace(labels, label=labels.label + 1), replace(labels, canary=labels.canary + 1)):
        evidence = CanaryEvidence(HEALTHY, 3600.0, bad, 0.0)
        assert Judge(POLICY, 0.5).update(evidence).outcome is Outcome.ERROR


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.lists(st.integers(0, 1500), max_size=6), st.sampled_from([0.001, 0.05, 0.5]))
def test_batches_and_kills_between_them_change_nothing(seed: int, places: list[int], canary_errors: float) -> None:
    requests = make_requests(1500, seed=seed, n_units=700, error_rates=(0.01, canary_errors))
    labels = make_labels(3, seed=seed)
    whole = Judge(POLICY, 0.5)
    expected = whole.update(CanaryEvidence(requests, 3600.0, labels, 2 * DAY_S))
    judge = Judge(POLICY, 0.5)
    for part in cut(requests, places):
        judge.update(CanaryEvidence(part, 3600.0, labels=None))
        judge = Judge.from_state(json.loads(json.dumps(judge.state(), allow_nan=False)))
    judge.update(CanaryEvidence(requests.take(np.arange(0)), 3600.0, labels, 1.5 * DAY_S))
    judge = Judge.from_state(json.loads(json.dumps(judge.state(), allow_nan=False)))
    found = judge.update(CanaryEvidence(requests.take(np.arange(0)), 3600.0, None, 2 * DAY_S))
    assert (found.outcome, found.freeze) == (expected.outcome, expected.freeze)
    for one, other in zip(found.metrics, expected.metrics, strict=True):
        assert (one.metric, one.outcome, one.n_canary, one.worse_at_s) == (
            other.metric,
            other.outcome,
            other.n_canary,
            other.worse_at_s,
        )
        assert one.log_e_worse == pytest.approx(other.log_e_worse, abs=1e-9)
        assert one.log_e_fine == pytest.approx(other.log_e_fine, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 60.0, 3600.0]))
def test_the_order_inside_a_tie_makes_no_difference(seed: int, tie_s: float) -> None:
    requests = make_requests(800, seed=seed, n_units=300, error_rates=(0.05, 0.1), tie_s=tie_s)
    shuffled = requests.take(np.random.default_rng(seed).permutation(len(requests)))
    assert judge_all(shuffled) == judge_all(requests)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_more_errors_of_the_canary_never_make_it_look_better(seed: int) -> None:
    requests = make_requests(600, seed=seed, error_rates=(0.02, 0.02))
    more = requests.is_error | (requests.is_canary & (np.random.default_rng(seed).random(600) < 0.1))
    missing = {name: np.where(more, np.nan, getattr(requests, name)) for name in ("latency_s", "prediction")}
    worse = judge_all(replace(requests, is_error=more, **missing))
    assert metric(worse, "errors").log_e_worse >= metric(judge_all(requests), "errors").log_e_worse - 1e-9


def test_fifty_retries_of_one_traveller_are_one_vote() -> None:
    requests = make_requests(2000, error_rates=(0.0, 0.0))
    first = requests.take(np.flatnonzero(requests.is_canary)[:1])
    missing = np.full(50, np.nan)
    at_s = np.full(50, 1800.0)
    retries = Requests(at_s, first.unit.repeat(50), np.ones(50, bool), np.ones(50, bool), missing, missing)
    once = retries.take(np.arange(1))
    verdicts = []
    for extra in (retries, once):
        judge = Judge(POLICY, 0.5)
        judge.update(make_evidence(requests))
        verdicts.append(metric(judge.update(make_evidence(extra)), "errors").log_e_worse)
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("damage", [{"format": 2}, {"tests": {}}, {"units": "?"}, {"share": "half"}])
def test_a_state_that_cannot_be_read_is_refused(damage: dict[str, object]) -> None:
    judge = Judge(POLICY, 0.5)
    with pytest.raises(FlightdeckError, match="resuming the judge"):
        Judge.from_state({**judge.state(), **damage})


def test_healthy_canaries_are_failed_less_often_than_alpha_allows() -> None:
    policy = msgspec.structs.replace(POLICY, alpha=0.05)
    outcomes, mismatches, n = [], 0, 400
    for seed in range(n):
        requests = make_requests(1200, seed=seed, n_units=400, error_rates=(0.05, 0.05), share=0.3)
        verdict = Judge(policy, 0.3).update(make_evidence(requests))
        outcomes.append(verdict.outcome)
        mismatches += verdict.log_e_sample_ratio >= proof_bar(policy.sample_ratio_alpha)
    assert outcomes.count(Outcome.FAIL) <= 0.05 * n
    assert mismatches <= 3, "one in a thousand is allowed; four in 400 would have a chance below 0.001"
