"""What `kedro up` says at its end: one line a part of the loop, and what is wrong with it."""

import json
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from flightdeck.core.layout import Layout
from flightdeck.release.stages import CANARY, SHADOW, ReleaseState, VersionState

LIVE = (SHADOW, CANARY)
MODEL, DEGRADED = "model", "degraded-answers"
Report = Mapping[str, Any]


@dataclass(frozen=True)
class Summary:
    """The state of the whole loop.

    Parameters
    ----------
    lines
        (part, what it did), in the order of the loop.
    problems
        Why the loop is not healthy; empty if it is.
    """

    lines: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]

    def table(self) -> Table:
        """Return the lines as a table."""
        table = Table(show_header=False, title="Flightdeck", title_justify="left")
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for part, said in self.lines:
            table.add_row(part, said)
        return table


def summarise(where: Layout, state: ReleaseState, replayed: Report) -> Summary:
    """Return the state of the loop after a replay and the monitoring that followed it.

    Parameters
    ----------
    where
        Where the reports lie.
    state
        What the ledger says.
    replayed
        Report of the replay; empty if there was none.
    """
    monitored = read_report(where.monitoring / "summary.json")
    lines = [_ingested(where), _trained(where, state), *_released(state), *_answered(replayed), *_watched(monitored)]
    return Summary(tuple(lines), tuple(_problems(state, replayed, monitored)))


def read_report(path: Path) -> Report:
    """Return a JSON report, empty if there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _ingested(where: Layout) -> tuple[str, str]:
    sources = read_report(where.ingestion_report).get("sources", {}).values()
    accepted, quarantined = (sum(source[name] for source in sources) for name in ("n_accepted", "n_quarantined"))
    return "Ingestion", f"{accepted:,} rows accepted, {quarantined:,} quarantined" if sources else "no report"


def _trained(where: Layout, state: ReleaseState) -> tuple[str, str]:
    champion = state.versions.get(state.champion) if state.champion is not None else None
    provenance = read_report(where.bundles / champion.digest[:16] / "training.json") if champion else {}
    metrics = provenance.get("metrics", {})
    named = {"T-15 min": "auc_15", "T-2 h": "auc_120"}
    said = [f"{metrics[name]:.3f} at {horizon}" for horizon, name in named.items() if name in metrics]
    return "Test AUC", ", ".join(said) or "not recorded"


def _released(state: ReleaseState) -> list[tuple[str, str]]:
    if state.champion is None:
        return [("Verdict", "none"), ("Release", "no version is in prod")]
    champion = state.versions[state.champion]
    verdict = {True: "passed", False: "failed", None: "none"}[champion.verdict_passed]
    by = ", ".join(champion.approved_by) or "nobody"
    return [
        ("Verdict", verdict),
        ("Release", f"version {champion.version} in {champion.stage}, approved by {by}"),
        *[("Rollout", _under_way(version)) for version in state.versions.values() if version.live_stage in LIVE],
    ]


def _under_way(version: VersionState) -> str:
    """Say where a version is that is neither in prod nor over, and what the controller knows of it."""
    share = f" of {version.canary_share:.0%}" if version.canary_share else ""
    frozen = ", frozen: a person decides (kedro release thaw)" if version.frozen_from else ""
    seen = version.evidence
    judged = f"{seen.verdict} after {seen.n_requests:,} requests" if seen is not None else "no verdict yet"
    return f"version {version.version} in {version.live_stage}{share}{frozen}; {judged}"


def _answered(replayed: Report) -> list[tuple[str, str]]:
    if not replayed:
        return [("Replay", "none")]
    modes = ", ".join(f"{count:,} by {mode}" for mode, count in replayed["by_mode"].items()) or "none"
    requests = f"{replayed['n_requests']:,} requests, {replayed['n_failed']:,} failed"
    if replayed["n_retries"]:
        requests += f", {replayed['n_retries']:,} sent again"
    latency = ", ".join(f"p{p} {_number(replayed[f'p{p}_ms'])} ms" for p in (50, 95, 99))
    return [
        ("Replay", f"{replayed['day']}: {requests}, at x{replayed['achieved_speed']:g}"),
        ("Predictions", modes),
        ("Latency", latency),
    ]


def _watched(monitored: Report) -> list[tuple[str, str]]:
    if not monitored:
        return [("Monitoring", "no report")]
    drifted = list(monitored.get("drift_columns", ()))
    compared, mismatched = monitored.get("skew_compared", 0), monitored.get("skew_mismatches", 0)
    alerts = [str(alert["name"]) for alert in monitored.get("alerts", ())]
    return [
        (
            "Live quality",
            f"AUC {_number(monitored.get('auc'))} over {monitored.get('n_labelled', 0):,} labelled, all lead times",
        ),
        ("Drift", f"{len(drifted)} columns: {', '.join(map(str, drifted[:8]))}" if drifted else "none"),
        ("Skew", f"{mismatched:,} mismatches in {compared:,} values"),
        ("Freshness", f"{_count(monitored.get('freshness_breaches'))} breaches"),
        ("Alerts", ", ".join(alerts) or "none"),
    ]


def _problems(state: ReleaseState, replayed: Report, monitored: Report) -> list[str]:
    found = []
    if state.champion is None:
        found.append("no version is in prod")
    elif not state.versions[state.champion].verdict_passed:
        found.append(f"version {state.champion} is in prod without a passed verdict")
    if not replayed.get("n_requests"):
        found.append("the replay sent no request")
    elif replayed["n_failed"]:
        found.append(f"{replayed['n_failed']} requests were not answered; the first: {replayed['first_failure']}")
    elif not replayed["by_mode"].get(MODEL):
        found.append(f"no prediction came from the model: {dict(replayed['by_mode'])}")
    return [*found, *_found_by_monitoring(monitored)]


def _found_by_monitoring(monitored: Report) -> list[str]:
    if not monitored:
        return ["monitoring wrote no report"]
    found = []
    if monitored.get("skew_mismatches"):
        found.append(f"{monitored['skew_mismatches']} served feature values differ from those of the log")
    elif not monitored.get("skew_compared"):
        found.append("no served feature value was compared with the log")
    stale = monitored.get("freshness_breaches")
    if _count(stale):
        named = ", ".join(map(str, stale)) if isinstance(stale, list) else _count(stale)
        found.append(f"older than promised: {named}; see docs/runbooks/alert-freshness.md")
    if any(alert["name"] == DEGRADED for alert in monitored.get("alerts", ())):
        found.append("too many answers came from below the model; see docs/runbooks/alert-degraded-answers.md")
    return found


def _count(value: object) -> int:
    return len(value) if isinstance(value, Sized) else int(str(value or 0))


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "unknown"
