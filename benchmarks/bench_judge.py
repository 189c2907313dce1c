"""The canary judge: how often it takes back a healthy canary, and how soon a sick one. One JSON line last.

`python -m benchmarks.bench_judge [--canaries 2000]`: six worlds of that many A/A canaries each, looked at after every
event; canaries that sit exactly at their margins; regressions; and, on the same long canaries, a fixed threshold and a
Mann-Whitney judge. Everything is drawn from fixed seeds, so a run repeats to the digit.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.stats import beta

from benchmarks.judge_peers import fixed_threshold_fails, mann_whitney_fails
from benchmarks.judge_worlds import (
    AT_MARGIN,
    BETTER,
    DAY_S,
    N_DAYS,
    WORLDS,
    Regression,
    World,
    make_evidence,
    make_labelled_days,
    without_clusters,
)
from flightdeck.gates.judge_policy import ErrorRule, JudgePolicy, LatencyRule, LogLossRule, PredictionRule
from flightdeck.release.judge.betting import Bettor, vote_stakes
from flightdeck.release.judge.evidence import Requests
from flightdeck.release.judge.judge import Judge
from flightdeck.release.judge.log_loss import WORSE, LogLossTest, block_difference
from flightdeck.release.judge.sample_ratio import SampleRatioTest
from flightdeck.release.judge.standing import proof_bar
from flightdeck.release.judge.verdict import CanaryVerdict, Outcome

SHARES = (0.1, 0.5)
POLICY = JudgePolicy(
    bake_s=3600.0,
    silence_s=N_DAYS * DAY_S,
    errors=ErrorRule(),
    latency=LatencyRule(),
    predictions=PredictionRule(),
    log_loss=LogLossRule(n_units_a_block_at_least=5),
)
BAR = proof_bar(POLICY.alpha, len(POLICY.metrics))
N_POWER, N_LONG, N_WINDOWS, WINDOW = 300, 100, 100, 200
LONG = World(n_units=17_000)  # 100 windows of 200 requests of the canary, at a share of one half
REGRESSIONS = {
    "n_to_catch_100": World(error_rate=0.0005, regression=Regression(error_rate=1.0)),
    "n_to_catch_10": World(n_units=2500, error_rate=0.0005, regression=Regression(error_rate=0.1)),
    "n_to_catch_p95_30": World(30_000, 1.5, error_rate=0.0005, regression=Regression(latency_ratio=1.3)),
}
Found = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--canaries", type=int, default=2000, help="A/A canaries in each of six worlds")
    n = parser.parse_args().canaries
    began_s = time.process_time()
    found: Found = {"n_canaries_a_world": n, **measure_healthy(n), **measure_margin(n), **measure_unclustered(n // 20)}
    found |= {**measure_power(), **measure_log_loss(), **measure_sample_ratio(), **measure_peers()}
    print(json.dumps({**found, "cpu_s": round(time.process_time() - began_s)}))


def judged(
    world: World, n: int, seed: int, shares: tuple[float, ...] = SHARES
) -> Iterator[tuple[Requests, CanaryVerdict]]:
    """Yield `n` canaries without labels, each with its verdict after all its events; the shares take turns."""
    random = np.random.default_rng(seed)
    for place in range(n):
        share = shares[place % len(shares)]
        evidence = make_evidence(world, share, random, with_labels=False)
        yield evidence.requests, Judge(POLICY, share).update(evidence)


def measure_healthy(n: int) -> Found:
    """Return false rollbacks and false mismatches of A/A canaries, by world."""
    false, mismatches = {}, 0
    for seed, (name, world) in enumerate(WORLDS.items()):
        random, hits = np.random.default_rng(seed), 0
        for place in range(n):
            verdict = Judge(POLICY, SHARES[place % 2]).update(make_evidence(world, SHARES[place % 2], random))
            hits += verdict.outcome is Outcome.FAIL
            mismatches += verdict.log_e_sample_ratio >= proof_bar(POLICY.sample_ratio_alpha)
        false[name] = hits
        print(f"A/A {name:12}: {hits} of {n} rolled back, at most {upper_pct(hits, n)} % (95 %)")
    total = n * len(false)
    return {
        "false_rollback_pct": round(100 * max(false.values()) / n, 4),
        "false_rollback_upper_pct": upper_pct(max(false.values()), n),
        "false_rollback_all_pct": round(100 * sum(false.values()) / total, 4),
        "false_rollback_all_upper_pct": upper_pct(sum(false.values()), total),
        "false_rollback_by_world_pct": {name: round(100 * hits / n, 4) for name, hits in false.items()},
        "false_mismatch_pct": round(100 * mismatches / total, 4),
    }


def measure_margin(n: int) -> Found:
    """Return how often canaries at their margins or better are failed, and how often one at them is taken for fine."""
    better = sum(verdict.outcome is Outcome.FAIL for _, verdict in judged(BETTER, n, seed=21))
    hits, fine = 0, {"errors": 0, "latency": 0}
    for _, verdict in judged(AT_MARGIN, n, seed=20):
        hits += verdict.outcome is Outcome.FAIL
        for metric in verdict.metrics:
            if metric.metric in fine:
                fine[metric.metric] += metric.log_e_fine >= proof_bar(POLICY.pass_alpha)
    print(f"at the margins : {hits} of {n} rolled back, at most {upper_pct(hits, n)} % (95 %); taken for fine {fine}")
    print(f"half the errors: {better} of {n} rolled back, at most {upper_pct(better, n)} % (95 %)")
    return {
        "better_false_rollback_pct": round(100 * better / n, 4),
        "at_margin_false_rollback_pct": round(100 * hits / n, 4),
        "at_margin_fine_pct": {name: round(100 * count / n, 2) for name, count in fine.items()},
    }


def measure_unclustered(n: int) -> Found:
    """Return what becomes of correlated A/A canaries if every request, or every labelled item, is one vote."""
    random, hits = np.random.default_rng(30), {"by_user": 0, "by_day": 0, "by_day_clustered": 0}
    for place in range(n):
        share = SHARES[place % 2]
        evidence = without_clusters(make_evidence(WORLDS["by_user"], share, random, with_labels=False))
        hits["by_user"] += Judge(POLICY, share).update(evidence).outcome is Outcome.FAIL
        items = make_labelled_days(N_DAYS, 920, 0.0, None, random)
        test = LogLossTest(LogLossRule(), BAR)
        test.update(items, N_DAYS * DAY_S)
        hits["by_day_clustered"] += test.standing.worse_at_s is not None
        worse = np.where(items.label == 1, items.canary < items.champion, items.canary > items.champion)
        hits["by_day"] += bool(Bettor(vote_stakes(0.5, WORSE)).path(worse - 0.5).max() >= BAR)
    print(f"one vote a request, an item, a day: {hits} of {n} rolled back")
    return {"unclustered_false_rollback_pct": {name: round(100 * count / n, 2) for name, count in hits.items()}}


def measure_power() -> Found:
    """Return how many of its own requests a sick canary gets before it is failed: 95 of 100 canaries need fewer."""
    found: Found = {}
    for seed, (name, world) in enumerate(REGRESSIONS.items(), start=40):
        worst = 0.0
        for share in SHARES:
            needed = [n_to_catch(requests, verdict) for requests, verdict in judged(world, N_POWER, seed, (share,))]
            p50, p95, most = np.quantile(needed, (0.5, 0.95, 1.0), method="inverted_cdf")
            print(f"{name} at share {share}: {p50:.0f} / {p95:.0f} / {most:.0f} (median, p95, most) own requests")
            found[f"{name}_share_{share}"] = [finite(value) for value in (p50, p95, most)]
            worst = max(worst, float(p95))
        found[name] = finite(worst)
    return found


def n_to_catch(requests: Requests, verdict: CanaryVerdict) -> float:
    """Return how many requests the canary answered until the event that failed it; infinity if none did."""
    times_s = [metric.worse_at_s for metric in verdict.metrics if metric.worse_at_s is not None]
    return float((requests.is_canary & (requests.at_s <= min(times_s))).sum()) if times_s else float("inf")


def measure_log_loss() -> Found:
    """Return how many days of 920 labelled flights it takes to see a log loss that is 5 or 20 % too large."""
    found: Found = {}
    for percent in (5, 20):
        noise = noise_for(percent / 100)
        for name, share in (("paired", None), ("half", 0.5)):
            random = np.random.default_rng(50)
            needed = [days_to_catch(noise, share, random) for _ in range(200)]
            p50, p95 = np.quantile(needed, (0.5, 0.95), method="inverted_cdf")
            print(f"log loss +{percent} %, {name}: {p50:.0f} / {p95:.0f} days (median, p95)")
            found[f"days_to_catch_log_loss_{percent}_{name}"] = [finite(p50), finite(p95)]
    return found


def days_to_catch(noise: float, share: float | None, random: np.random.Generator) -> float:
    test = LogLossTest(LogLossRule(), BAR)
    test.update(make_labelled_days(120, 920, noise, share, random), 120 * DAY_S)
    return float("inf") if test.standing.worse_at_s is None else test.standing.worse_at_s / DAY_S


def noise_for(excess: float) -> float:
    """Return the noise on the canary's logit that makes its log loss larger by `excess`, as a share (bisection)."""
    low, high = 0.0, 4.0
    for _ in range(20):
        middle = (low + high) / 2
        items = make_labelled_days(200, 920, middle, None, np.random.default_rng(51))
        difference = block_difference(items, 1)
        base = -np.mean(np.log(np.where(items.label == 1, items.champion, 1 - items.champion)))
        assert difference is not None
        low, high = (middle, high) if difference < excess * base else (low, middle)
    return (low + high) / 2


def measure_sample_ratio() -> Found:
    """Return how often a loss of 5 % of one arm is found within so many users, by share of the canary."""
    random, found = np.random.default_rng(60), {}
    for share, kept, n_users in ((0.5, 0.95, 20_000), (0.5, 0.95, 40_000), (0.1, 0.95, 200_000), (0.1, 0.75, 20_000)):
        seen_share, hits = share * kept / (share * kept + 1 - share), 0
        for _ in range(N_POWER):
            test = SampleRatioTest(share, proof_bar(POLICY.sample_ratio_alpha))
            test.update(np.arange(n_users, dtype=np.float64), random.random(n_users) < seen_share)
            hits += test.is_mismatch
        found[f"share_{share}_loss_{1 - kept:.2f}_users_{n_users}"] = round(100 * hits / N_POWER, 1)
        print(f"sample ratio: share {share}, {1 - kept:.0%} of the canary lost: {hits} of {N_POWER} in {n_users} users")
    return {"sample_ratio_found_pct": found}


def measure_peers() -> Found:
    """Return false rollbacks on long healthy canaries, and requests to catch a slow one, of all three judges."""
    fixed, mann_whitney, ours, passed = 0, 0, 0, 0
    for requests, verdict in judged(LONG, N_LONG, 70, (0.5,)):
        errors, canary_s, champion_s = windows(requests)
        fixed += fixed_threshold_fails(errors) is not None
        mann_whitney += mann_whitney_fails(canary_s, champion_s) is not None
        ours += verdict.outcome is Outcome.FAIL
        passed += verdict.outcome is Outcome.PASS
    slow = replace(LONG, n_units=4000, regression=Regression(latency_ratio=1.3))
    theirs = []
    for requests, _ in judged(slow, N_LONG, 71, (0.5,)):
        caught = mann_whitney_fails(*windows(requests)[1:])
        theirs.append(float("inf") if caught is None else (caught + 1.0) * WINDOW)
    print(f"long canaries, {N_WINDOWS} windows: fixed threshold {fixed}, Mann-Whitney {mann_whitney}, ours {ours}")
    print(f"of {N_LONG} healthy ones; ours passed {passed}. Mann-Whitney needs {np.median(theirs)} requests for +30 %")
    return {
        "naive_false_rollback_pct": round(100 * fixed / N_LONG, 2),
        "mann_whitney_false_rollback_pct": round(100 * mann_whitney / N_LONG, 2),
        "long_false_rollback_pct": round(100 * ours / N_LONG, 2),
        "long_passed_pct": round(100 * passed / N_LONG, 2),
        "mann_whitney_n_to_catch_30_median": finite(np.median(theirs)),
    }


def windows(requests: Requests) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return errors and latencies of the canary, and latencies of the champion, in windows of 200 requests of each."""
    ordered = requests.sorted()
    canary, champion = ordered.take(ordered.is_canary), ordered.take(~ordered.is_canary)
    n = min(len(canary), len(champion)) // WINDOW
    tables = (canary.is_error, canary.latency_s, champion.latency_s)
    errors, canary_s, champion_s = (table[: n * WINDOW].reshape(n, WINDOW)[:N_WINDOWS] for table in tables)
    return errors, np.nan_to_num(canary_s, nan=1.0), np.nan_to_num(champion_s, nan=1.0)


def finite(value: float) -> float | None:
    """Return the value, or None where no end was seen: JSON has no infinity."""
    return float(value) if np.isfinite(value) else None


def upper_pct(n_hits: int, n: int) -> float:
    """Return the upper end of the 95 % interval of a share, per cent (Clopper and Pearson)."""
    return 100.0 if n_hits == n else round(100 * float(beta.ppf(0.975, n_hits + 1, n - n_hits)), 4)


if __name__ == "__main__":
    main()
