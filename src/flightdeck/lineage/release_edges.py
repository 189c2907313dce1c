"""The edges of one model version: streams -> feature views and code -> version -> verdict -> approvals -> decisions.

Decisions stand on the evidence of their step too, and include those about routes and other versions that moved it.

Made from plain values (the bundle's `training.json`, records of the ledger), so that this room needs to know no other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from flightdeck.lineage.graph import Edge, Node
from flightdeck.lineage.identity import stream_node

DECISIONS = ("promoted", "rejected", "rolled_back", "frozen", "thawed", "superseded")
_GROUNDS = {"judged": "evidence", "rehearsed": "rehearsal"}


def release_edges(
    version: int, *, records: Sequence[Mapping[str, Any]], training: Mapping[str, Any], run_id: str = "ledger"
) -> list[Edge]:
    """Return the domain edges of a model version, ready to record.

    Parameters
    ----------
    version
        Version in the model registry.
    records
        Records of the ledger, oldest first: `seq`, `recorded_at` (aware datetime), `action`, `actor`, `subject`,
        `detail`.
    training
        Content of the bundle's `training.json`; `data_versions`, `views`, `view_sources` and `nodes` are read, where
        present.
    run_id
        Run to enter the edges under.

    Returns
    -------
    list of Edge
        From sources to decisions; empty if the ledger never saw the version.
    """
    own = [record for record in records if record["subject"] == str(version)]
    registered = next((record for record in own if record["action"] == "registered"), None)
    if registered is None:
        return []
    model = Node("model_version", str(version), str(registered["detail"].get("digest", "")))
    at: datetime = registered["recorded_at"]
    made = [Edge(parent, child, run_id, relation, at) for parent, child, relation in _made_from(training, model)]
    content = registered["detail"].get("content_digest")
    if content:
        made.append(Edge(Node("dataset", "draft_bundle", str(content)), model, run_id, "sealed", at))
    about = [record for record in records if record["subject"] == str(version) or moves(record, version)]
    return [*made, *_decided(model, about, run_id)]


def moves(record: Mapping[str, Any], version: int) -> bool:
    """Tell whether a record about another version, or about routes, moved `version` too."""
    action, detail = record["action"], record["detail"]
    if record["subject"] == str(version):
        return False
    if action == "promoted":
        return version in (detail.get("replaces"), detail.get("supersedes"))
    if action == "rolled_back":
        return bool(detail.get("to") == version and detail.get("stage", "prod") == "prod")
    return action == "routed" and version in detail.get("versions", ())


def views_by_stream(training: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the feature views that read each stream, as far as `training` says so."""
    feeds: dict[str, list[str]] = {stream: [] for stream in training.get("data_versions", {})}
    for view, streams in training.get("view_sources", {}).items():
        for stream in _listed(streams):
            feeds.setdefault(stream, []).append(view)
    return feeds


def _made_from(training: Mapping[str, Any], model: Node) -> Iterator[tuple[Node, Node, str]]:
    streams = {
        name: stream_node(name, read["version"], read["digest"])
        for name, read in training.get("data_versions", {}).items()
    }
    views = {name: Node("feature_view", name, digest) for name, digest in training.get("views", {}).items()}
    for stream, fed in views_by_stream(training).items():
        for view in fed:
            if stream in streams and view in views:
                yield streams[stream], views[view], "feeds"
    for view_node in views.values():
        yield view_node, model, "trained"
    for name, digest in training.get("nodes", {}).items():
        yield Node("code", name, digest), model, "defined"
    for stream_version in streams.values():
        yield stream_version, model, "trained"


def _decided(model: Node, about: Iterable[Mapping[str, Any]], run_id: str) -> Iterator[Edge]:
    """Chain what was said and decided: a decision stands on the one before it and on everything since then."""
    verdict, last, grounds = model, model, [model]
    for record in about:
        action, seq, at, detail = str(record["action"]), str(record["seq"]), record["recorded_at"], record["detail"]
        is_own = record["subject"] == model.name
        if action == "verdict" and is_own:
            verdict = last = Node("verdict", f"version {model.name}", seq)
            yield Edge(model, verdict, run_id, "judged", at)
            grounds = [verdict]
        elif action == "approved" and is_own:
            approval = Node("approval", str(record["actor"]), seq)
            yield Edge(verdict, approval, run_id, "approved", at)
            grounds.append(approval)
        elif action in _GROUNDS and is_own:
            ground = Node(_GROUNDS[action], f"{action} {detail.get('verdict', '')}".strip(), seq)
            yield Edge(last, ground, run_id, action, at)
            grounds.append(ground)
        elif action == "routed" or action in DECISIONS:
            last = Node("decision", f"{action} {detail.get('to', detail.get('what', '')) or ''}".strip(), seq)
            for ground in grounds:
                yield Edge(ground, last, run_id, action, at)
            grounds = [last]


def _listed(streams: str | Iterable[str]) -> list[str]:
    return [streams] if isinstance(streams, str) else list(streams)
