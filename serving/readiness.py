"""What `/readyz` says: whether a champion answers, what is refused and what is degraded."""

from typing import Any

from flightdeck.inference.prediction_log import PredictionLogWriter
from serving.feature_source import FeatureSource
from serving.limits import Limits
from serving.release_watch import LiveReleases


def describe_readiness(
    live: LiveReleases, features: FeatureSource, log: PredictionLogWriter, limits: Limits
) -> tuple[bool, Any]:
    """Return whether the service is ready (a verified champion is loaded) and the JSON that explains it.

    Refused bundles, an unreadable store or a failing log do not make it unready: requests are answered.
    """
    is_ready = live.champion is not None
    drill = limits.drill
    reason, next_step = ("", "") if is_ready else live.absence()
    return is_ready, {
        "ready": is_ready,
        "reason": reason,
        "next_step": next_step,
        "releases": [
            {"arm": arm, "model_version": release.version, "bundle_digest": release.digest}
            for arm, release in live.loaded
        ],
        "canary_share": live.canary_share,
        "refused": [
            {
                "arm": refusal.arm,
                "model_version": refusal.version,
                "bundle_digest": refusal.digest,
                "reason": refusal.reason,
                "next_step": refusal.next_step,
            }
            for refusal in live.refusals
        ],
        "ledger": live.problem or "ok",
        "online_store": features.problem(release for _, release in live.loaded) or "ok",
        "prediction_log": {
            "n_written": log.n_written,
            "n_sampled_out": log.n_sampled_out,
            "n_dropped": log.n_dropped,
        },
        "drill": None if drill is None else {"mode": drill.mode.label, "until": drill.until, "surface": drill.surface},
        "over_budget": [surface for surface, is_over in limits.over_budget.items() if is_over],
    }
