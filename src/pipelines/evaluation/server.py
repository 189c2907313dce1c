"""The family `server`: whether a real server with this draft is fast and small enough, and its model answers."""

from collections.abc import Sequence

from flightdeck.gates.bounds import at_most
from flightdeck.gates.evidence import Evidence
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from pipelines.evaluation.served_draft import N_ROUNDS, served

MB = 1e6


def server_checks(evidence: Evidence, thresholds: Thresholds) -> Sequence[Check]:
    """Check answers and time of requests to a server with the draft, its memory and the size of the bundle.

    The machine may be busy with other things, so the best of some rounds counts, after one that does not.

    Raises
    ------
    FlightdeckError
        As `served_draft.served`.
    """
    seen = served(evidence)
    n_requests = sum(found.n_requests for found in seen.rounds.values())
    checks = [
        at_most(
            "server_not_by_model",
            sum(found.n_otherwise for found in seen.rounds.values()),
            0,
            thresholds,
            f"of {n_requests:,} requests those that the fallback, the rules or nobody answered; best of {N_ROUNDS} "
            "rounds",
        )
    ]
    for n_connections, found in seen.rounds.items():
        detail = (
            f"p95 of {found.n_requests:,} requests one after the other on {n_connections} connections at a time, ms; "
            f"best of {N_ROUNDS} rounds after one to warm up"
        )
        bound = thresholds.server_p95_ms_at_most
        checks.append(at_most(f"server_p95_ms_{n_connections}", found.p95_ms, bound, thresholds, detail))
    return [
        *checks,
        at_most(
            "bundle_mb", seen.bundle_bytes / MB, thresholds.bundle_mb_at_most, thresholds, "size of the bundle, MB"
        ),
        at_most(
            "server_rss_mb",
            seen.resident_bytes / MB,
            thresholds.server_rss_mb_at_most,
            thresholds,
            "resident memory of a server of one worker that has answered all of this, MB",
        ),
    ]
