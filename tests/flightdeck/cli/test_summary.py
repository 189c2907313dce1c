import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flightdeck.cli.summary import Report, read_report, summarise
from flightdeck.core.layout import Layout
from flightdeck.release.stages import Approval, Evidence, ReleaseState, VersionState

DIGEST = "b" * 64
AT = datetime(2013, 9, 12, tzinfo=UTC)
REPLAYED = {
    "day": "2013-09-12",
    "n_requests": 100,
    "n_failed": 0,
    "n_retries": 2,
    "first_failure": "",
    "achieved_speed": 700.5,
    "by_mode": {"model": 110, "rules": 1},
    "p50_ms": 5.0,
    "p95_ms": 11.25,
    "p99_ms": 20.0,
}
MONITORED = {
    "auc": 0.741,
    "n_labelled": 900,
    "drift_columns": ["a"],
    "skew_compared": 5000,
    "skew_mismatches": 0,
    "freshness_breaches": 0,
    "alerts": [{"name": "auc-low"}],
}


@pytest.fixture
def where(tmp_path: Path) -> Layout:
    found = Layout(tmp_path)
    write(found.ingestion_report, {"sources": {"flights": {"n_accepted": 10, "n_quarantined": 2}}})
    write(found.monitoring / "summary.json", MONITORED)
    write(found.bundles / DIGEST[:16] / "training.json", {"metrics": {"auc_15": 0.7884, "auc_120": 0.7641}})
    return found


def released(verdict: bool | None = True) -> ReleaseState:
    at = datetime(2013, 9, 12, tzinfo=UTC)
    approval = Approval("Ada", (), at, at, "")
    version = VersionState(2, DIGEST, "medium", "m", stage="prod", verdict_passed=verdict, approvals=(approval,))
    return ReleaseState({2: version}, seq=5)


def test_a_healthy_loop(where: Layout) -> None:
    summary = summarise(where, released(), REPLAYED)
    assert summary.problems == ()
    console = Console(file=io.StringIO(), width=160)
    console.print(summary.table())
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    for part in (
        "10 rows accepted, 2 quarantined",
        "0.788 at T-15 min, 0.764 at T-2 h",
        "passed",
        "version 2 in prod, approved by Ada",
        "100 requests, 0 failed, 2 sent again, at x700.5",
        "110 by model, 1 by rules",
        "p95 11.2 ms",
        "1 columns: a",
        "0 mismatches in 5,000 values",
        "AUC 0.741 over 900 labelled",
        "auc-low",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stage": "shadow"}, "version 3 in shadow; no verdict yet"),
        (
            {"stage": "canary", "canary_share": 0.1, "evidence": Evidence("pass", AT, 1200)},
            "version 3 in canary of 10%; pass after 1,200 requests",
        ),
        ({"stage": "frozen", "frozen_from": "shadow"}, "version 3 in shadow, frozen: a person decides"),
    ],
)
def test_what_is_under_way_beside_the_champion(where: Layout, change: dict[str, Any], said: str) -> None:
    state = released()
    newer = VersionState(3, DIGEST, "medium", "m", **change)
    lines = summarise(where, replace(state, versions={**state.versions, 3: newer}), REPLAYED).lines
    (told,) = [text for part, text in lines if part == "Rollout"]
    assert told.startswith(said)


@pytest.mark.parametrize(
    ("replayed", "monitored", "state", "problem"),
    [
        ({**REPLAYED, "n_failed": 3, "first_failure": "late"}, MONITORED, released(), "3 requests were not answered"),
        ({**REPLAYED, "by_mode": {"rules": 9}}, MONITORED, released(), "no prediction came from the model"),
        ({}, MONITORED, released(), "sent no request"),
        (REPLAYED, {**MONITORED, "skew_mismatches": 4}, released(), "4 served feature values differ"),
        (REPLAYED, {**MONITORED, "skew_compared": 0}, released(), "no served feature value was compared"),
        (REPLAYED, {**MONITORED, "freshness_breaches": ["departed"]}, released(), "older than promised: departed"),
        (REPLAYED, {**MONITORED, "alerts": [{"name": "degraded-answers"}]}, released(), "came from below the model"),
        (REPLAYED, MONITORED, ReleaseState(), "no version is in prod"),
        (REPLAYED, MONITORED, released(None), "without a passed verdict"),
    ],
)
def test_what_is_wrong_is_named(
    where: Layout, replayed: Report, monitored: Report, state: ReleaseState, problem: str
) -> None:
    write(where.monitoring / "summary.json", monitored)
    (found,) = summarise(where, state, replayed).problems
    assert problem in found


def test_nothing_has_run_yet(tmp_path: Path) -> None:
    summary = summarise(Layout(tmp_path), ReleaseState(), {})
    assert len(summary.problems) == 3
    assert all(said for _, said in summary.lines)


def test_a_report_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    (tmp_path / "b.json").write_text("[]", encoding="utf-8")
    assert read_report(tmp_path / "a.json") == read_report(tmp_path / "b.json") == read_report(tmp_path / "c") == {}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
