from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flightdeck.core.errors import NotFoundError
from flightdeck.lineage.graph import Edge, LineageGraph, Node
from flightdeck.lineage.identity import stream_node
from flightdeck.lineage.queries import stream_sources, trace

AT = datetime(2013, 9, 12, 8, tzinfo=UTC)
TRAINING: dict[str, Any] = {
    "data_versions": {
        "departed": {"version": 3, "digest": "d" * 64, "n_rows": 328521},
        "scheduled": {"version": 0, "digest": "e" * 64, "n_rows": 336776},
    },
    "views": {"origin_departures": "1" * 64, "origin_overdue": "2" * 64},
    "view_sources": {"origin_departures": ["departed"], "origin_overdue": ["scheduled", "departed"]},
    "nodes": {"lead_time": "3" * 64},
    "git_commit": "abc+changes",
    "model_digest": "4" * 64,
    "metrics": {"auc": 0.77},
}


def record(seq: int, action: str, subject: str = "1", actor: str = "Ada", **detail: object) -> dict[str, Any]:
    at = AT + timedelta(minutes=seq)
    return {"seq": seq, "recorded_at": at, "action": action, "actor": actor, "subject": subject, "detail": detail}


REGISTERED = record(1, "registered", actor="pipeline", digest="b" * 64, model_name="flight-delay", content_digest="cc")
RECORDS = [
    REGISTERED,
    record(2, "verdict", passed=True, failed=[], n_checks=14, tier="medium"),
    record(3, "promoted", to="staging"),
    record(4, "approved", digest="b" * 64, reason="calibrated"),
    record(5, "promoted", to="canary", share=0.1),
    record(6, "promoted", to="prod", replaces=None),
    record(7, "registered", "2", actor="pipeline", digest="f" * 64, model_name="flight-delay"),
    record(8, "promoted", "2", to="prod", replaces=1),
    record(9, "rolled_back", "2", to=1),
]
INGESTION = {"sources": {"flights": {"n_rows": 336776, "n_quarantined": 2, "sha256": "a" * 64}}}
SOURCES = {"departed": [Node("source", "flights", "a" * 64)]}


def lines(version: int = 1, **changes: Any) -> list[str]:
    given: dict[str, Any] = {"records": RECORDS, "training": TRAINING, "sources": SOURCES, "ingestion": INGESTION}
    return trace(version, **(given | changes)).lines()


def test_the_tree_goes_from_sources_to_the_stage() -> None:
    told = lines()
    sections = [line.strip() for line in told if line.startswith("  ") and not line.startswith("    ")]
    assert sections == ["sources", "event log", "feature views", "model", "verdict", "approvals", "stage"]
    text = "\n".join(told)
    for part in (
        "flights sha256 aaaaaaaaaaaa, 336,776 rows, 2 of them in quarantine",
        "departed version 3, 328,521 events, digest dddddddddddd <- flights",
        "origin_overdue digest 222222222222 <- departed, scheduled",
        "git commit abc+changes",
        "passed (14 checks, tier medium)",
        "Ada approved bundle bbbbbbbbbbbb, 2013-09-12 08:04:00 UTC: calibrated",
        "promoted to canary for 10% of the units by Ada",
        "archived: version 2 replaced it",
        "back in prod: version 2 was rolled back",
    ):
        assert part in text


def test_an_unknown_version_names_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="versions there: 1, 2"):
        lines(3)
    with pytest.raises(NotFoundError, match="versions there: none"):
        lines(3, records=[])


def test_what_is_missing_is_said() -> None:
    text = "\n".join(lines(2, training={}, sources={}, ingestion={}, notes=["the bundle cannot be read"]))
    assert "the bundle cannot be read" in text
    assert "not recorded" in text
    assert text.count("none yet") == 2
    assert "flights sha256 aaaaaaaaaaaa" in "\n".join(lines(training={}, sources={}))


def test_a_stream_is_traced_to_its_deliveries(tmp_path: Path) -> None:
    graph = LineageGraph(tmp_path / "lineage.sqlite")
    graph.record([Edge(SOURCES["departed"][0], stream_node("departed", 3, "d" * 64), "run", "became", AT)])
    assert stream_sources(graph, TRAINING["data_versions"]) == {"departed": SOURCES["departed"], "scheduled": []}
