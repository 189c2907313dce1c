"""`kedro lineage show` on a real ledger and a sealed bundle."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flightdeck.cli.lineage import lineage
from flightdeck.core.clock import VirtualClock
from flightdeck.core.files import write_json
from flightdeck.core.layout import Layout, layout
from flightdeck.inference.bundle import EVIDENCE, REQUIRED, Bundle, content_digest, seal
from flightdeck.lineage.graph import Edge, LineageGraph, Node
from flightdeck.lineage.identity import stream_node
from flightdeck.release.ledger import open_ledger

AT = datetime(2013, 9, 12, 8, tzinfo=UTC)
VERSIONS = {"departed": {"version": 0, "digest": "d" * 64, "n_rows": 10}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return layout()


def sealed(place: Layout) -> Bundle:
    draft = place.draft_bundle
    for name in (*REQUIRED, *EVIDENCE):
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_text(name, encoding="utf-8")
    training = {"data_versions": VERSIONS, "views": {"v": "1" * 64}, "view_sources": {"v": ["departed"]}}
    (draft / "training.json").write_text(json.dumps(training | {"git_commit": "abc123"}), encoding="utf-8")
    return seal(draft, place.bundles, name="flight-delay", metadata={"content_digest": content_digest(draft)})


def registered(place: Layout) -> Bundle:
    bundle = sealed(place)
    ledger = open_ledger(place.ledger, VirtualClock(AT))
    detail = {"digest": bundle.digest, "model_name": "flight-delay", "tier": "medium"}
    ledger.append("registered", actor="pipeline", subject="1", detail=detail)
    ledger.append("approved", actor="Ada", subject="1", detail={"digest": bundle.digest, "reason": ""})
    return bundle


def show(version: str) -> Result:
    return CliRunner().invoke(lineage, ["show", version])


def test_the_lineage_of_a_version_is_a_tree(place: Layout) -> None:
    bundle = registered(place)
    raw = Node("source", "flights", "a" * 64)
    LineageGraph(place.lineage).record([Edge(raw, stream_node("departed", 0, "d" * 64), "run", "became", AT)])
    counts = {"n_rows": 10, "n_quarantined": 0, "sha256": "a" * 64}
    write_json(place.ingestion_report, {"sources": {"flights": counts}})
    result = show("1")
    assert result.exit_code == 0, result.output
    for part in (
        "model version 1 of flight-delay",
        "flights sha256 aaaaaaaaaaaa, 10 rows",
        "departed version 0, 10 events, digest dddddddddddd <- flights",
        "v digest 111111111111 <- departed",
        f"bundle {bundle.digest[:12]}",
        "git commit abc123",
        "Ada approved",
        "candidate by pipeline",
    ):
        assert part in result.output


def test_an_unknown_version_names_the_known_ones(place: Layout) -> None:
    registered(place)
    result = show("7")
    assert result.exit_code == 1
    assert "the ledger has no such version; versions there: 1" in result.output


def test_before_the_first_release_the_next_step_is_said(place: Layout) -> None:
    result = show("1")
    assert result.exit_code == 1
    assert "versions there: none" in result.output
    assert "kedro run --config kedro.yml" in result.output
    assert not place.ledger.exists(), "looking makes no ledger"


def test_an_altered_bundle_is_said_and_the_decisions_are_still_shown(place: Layout) -> None:
    bundle = registered(place)
    altered = bundle.path / "training.json"
    altered.chmod(0o644)
    altered.write_text("{}", encoding="utf-8")
    result = show("1")
    assert result.exit_code == 0
    assert "the bundle cannot be read" in result.output
    assert "Ada approved" in result.output
