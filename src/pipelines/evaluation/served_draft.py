"""One visit to a real server with the draft as its champion, for all families of checks that look at it there.

What is seen is kept for the next family of the same draft; the server is gone when this returns.
"""

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from flightdeck.core.clock import SECOND_US
from flightdeck.core.layout import Layout, layout
from flightdeck.features.materializer import Materializer
from flightdeck.features.store import OnlineStore
from flightdeck.gates.evidence import Evidence
from flightdeck.inference.release_bundle import declared_views, read_features
from pipelines.evaluation.closed_loop import Round, ask_round
from pipelines.evaluation.draft_server import content_bytes, release_draft, starting
from pipelines.evaluation.recorded_log import RecordedLog
from pipelines.evaluation.replay import Replayed, replay
from pipelines.evaluation.sample import Sample, read_sample

N_DAYS, N_A_DAY = 3, 40
N_QUESTIONS, N_ROUNDS, CONNECTIONS = 200, 5, (1, 16)


@dataclass(frozen=True)
class ServedDraft:
    """What was seen of a draft in a server.

    Parameters
    ----------
    sample
        The draft's sample.
    replayed
        Rows of it as they were served.
    rounds
        The best of five rounds, by number of connections.
    bundle_bytes
        Size of its bundle.
    resident_bytes
        Resident memory of the server's processes after all of it.
    """

    sample: Sample
    replayed: Replayed
    rounds: Mapping[int, Round]
    bundle_bytes: int
    resident_bytes: int


def served(evidence: Evidence) -> ServedDraft:
    """Return what a server with the draft does: measured by the first who asks, kept for the next.

    Raises
    ------
    FlightdeckError
        If the draft cannot be served, the event log is not the one that it was trained on, or a question of its sample
        is not answered by its model.
    """
    return _visit(evidence.draft, evidence.subject, layout().event_log)


@lru_cache(maxsize=1)
def _visit(draft: Path, subject: str, event_log: Path) -> ServedDraft:
    features = read_features(draft)
    training = msgspec.json.decode((draft / "training.json").read_bytes())
    sample, views = read_sample(draft, features), declared_views(features)
    log = RecordedLog(event_log, {source for view in views for source in view.sources}, training["data_versions"])
    lag_s = int(training["training_set"]["settings"].get("publication_lag_s", 0))
    with tempfile.TemporaryDirectory(prefix="flightdeck-gate-") as scratch:
        where = Layout(Path(scratch) / "data")
        bundle = release_draft(draft, where)
        with (
            starting(where, Path(scratch) / "server.log") as server,
            closing(OnlineStore.open(where.online_store, read_only=False)) as store,
        ):
            server.wait_until_ready()
            replayed = replay(
                sample,
                sample.spread_over_days(N_DAYS, N_A_DAY),
                lag_s=lag_s,
                log=log,
                store=Materializer(store, views),
                port=server.port,
                asked=where.prediction_log,
            )
            rounds = _rounds(sample, replayed.last_us + lag_s * SECOND_US, server.port)
            return ServedDraft(sample, replayed, rounds, content_bytes(bundle), server.resident_bytes())


def _rounds(sample: Sample, at_us: int, port: int) -> dict[int, Round]:
    """Return the best round with each number of connections, after one that does not count.

    The questions are the sample's, moved to the moment that the store knows.
    """
    questions = [sample.question(int(row), at_us=at_us) for row in sample.spread(N_QUESTIONS)]
    ask_round(port, questions, max(CONNECTIONS))
    return {n: min(ask_round(port, questions, n) for _ in range(N_ROUNDS)) for n in CONNECTIONS}
