"""Rollouts, arranged for reading: a version's steps, shares over time, evidence, and what the controller knows now."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from dashboards.sources import Unreadable
from dashboards.wording import NOTHING, duration, figure, moment, plain, share
from flightdeck.core.errors import FlightdeckError
from flightdeck.lineage.rollout_steps import RolloutStep, how_it_ended, rollout_steps
from flightdeck.release.judge.judge import Judge
from flightdeck.release.record import Record
from flightdeck.release.rollout.shadow_report import ShadowReport
from flightdeck.release.stages import CANARY, ReleaseState, VersionState
from flightdeck.release.state import fold

TAIL = 0.06  # of the time shown, after the newest record: what holds now is seen too
OUTCOMES = {
    "pass": ":green-badge[:material/check: pass]",
    "fail": ":red-badge[:material/close: fail]",
    "error": ":red-badge[:material/error: error]",
}


def steps_of(records: Iterable[Record], version: int) -> list[RolloutStep]:
    """Return the steps of a version, oldest first."""
    return rollout_steps(version, [msgspec.structs.asdict(record) for record in records])


def shares_over_time(records: Iterable[Record]) -> pd.DataFrame:
    """Return who decided for what share of the units that no segment or experiment takes, whenever that changed.

    Returns
    -------
    DataFrame
        `at`, `version` (as text), `share`: one row for each version that ever decided at each change, and once
        more at the end. Empty before the first champion.
    """
    state, changes, now = ReleaseState(), list[tuple[Any, dict[int, float]]](), None
    for record in records:
        state, now = fold([record], state), record.recorded_at
        held = _shares(state)
        if not held or (changes and changes[-1][1] == held):
            continue
        if changes and changes[-1][0] == record.recorded_at:
            changes.pop()  # it held for no time
        changes.append((record.recorded_at, held))
    if changes and now is not None:
        changes.append((now + TAIL * max(now - changes[0][0], pd.Timedelta(minutes=1)), changes[-1][1]))
    versions = sorted({version for _, held in changes for version in held})
    rows = [(at, f"version {version}", held.get(version, 0.0)) for at, held in changes for version in versions]
    return pd.DataFrame(rows, columns=["at", "version", "share"])


def _shares(state: ReleaseState) -> dict[int, float]:
    """Return the share of each version that decides, 0 left out."""
    held = {state.champion: 1 - state.canary_share, state.canary: state.canary_share}
    return {version: part for version, part in held.items() if version is not None and part > 0}


def step_table(version: int, steps: Iterable[RolloutStep]) -> pd.DataFrame:
    """Return one row a step, oldest first, its cells in Markdown."""
    rows = [
        (
            f"**{step.stage}**{f' {share(step.share)}' if step.share else ''}",
            moment(step.began["recorded_at"]),
            _lasted(step),
            _verdict(step),
            plain(_end(version, step)),
        )
        for step in steps
    ]
    return pd.DataFrame(rows, columns=["Step", "Since", "Lasted", "Evidence", "How it ended"])


def _lasted(step: RolloutStep) -> str:
    if step.ended is None:
        return "goes on"
    return duration((step.ended["recorded_at"] - step.began["recorded_at"]).total_seconds())


def _verdict(step: RolloutStep) -> str:
    if not step.judged:
        return NOTHING
    said = step.judged[-1]["detail"]
    return f"{outcome_badge(said['verdict'])} {said['n_requests']:,} requests"


def _end(version: int, step: RolloutStep) -> str:
    frozen = f"frozen: {step.frozen['detail'].get('reason', '')}; " if step.frozen is not None else ""
    return frozen + (how_it_ended(version, step) or ("waits for a person" if frozen else "is the present step"))


def outcome_badge(outcome: str) -> str:
    """Return what the judge says as a Markdown badge."""
    return OUTCOMES.get(outcome, f":gray-badge[:material/hourglass_empty: {plain(outcome)}]")


def metric_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a metric of a canary's evidence, its cells in Markdown; empty for other evidence."""
    rows = [
        (
            plain(name.replace("_", " ")),
            outcome_badge(str(said["outcome"])),
            f"{said['n_canary']:,}",
            f"{said['n_champion']:,}",
            plain(said.get("reason", "")),
        )
        for name, said in metrics.items()
        if isinstance(said, Mapping) and "outcome" in said
    ]
    return pd.DataFrame(rows, columns=["Metric", "Verdict", "Canary's votes", "Champion's votes", "In words"])


def shadow_groups(figures: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a group of a shadow's report: `group`, `n`, `mean_difference`, `mean_absolute_difference`."""
    columns = ["group", "n", "mean_difference", "mean_absolute_difference"]
    groups = figures.get("groups") or {}
    rows = [(name, *(said[column] for column in columns[1:])) for name, said in groups.items()]
    return pd.DataFrame(rows, columns=columns).sort_values("group", key=lambda names: names != "all", kind="stable")


def shadow_facts(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures of a shadow's report that are about all of it, by name."""
    shadow_ms, champion_ms = figures.get("shadow_p95_ms"), figures.get("champion_p95_ms")
    seen = figures.get("n_matched", 0) + figures.get("n_failed", 0)
    return {
        "Items compared": f"{figures.get('n_matched', 0):,}",
        "Failed": share(figures.get("n_failed", 0) / seen) if seen else NOTHING,
        "Not scored in time": f"{figures.get('n_unscored', 0):,}",
        "Run of the model, p95": f"{figure(shadow_ms)} ms, champion {figure(champion_ms)} ms",
    }


def known_now(folder: Path, current: VersionState) -> dict[str, Any]:
    """Return what the controller knows of the present step of a version: figures of a shadow, metrics of a canary.

    Parameters
    ----------
    folder
        `Layout.rollout`.
    current
        The version; empty is returned where the controller has not looked at its step yet.

    Raises
    ------
    Unreadable
        If the file of the step is not what the controller writes.
    """
    stage = current.live_stage
    path = folder / f"{current.version}-{current.entered_seq}-{stage}.json"
    if not path.is_file():
        return {}
    try:
        known = json.loads(path.read_bytes())["known"]
        if stage != CANARY:
            return ShadowReport.from_state(known).figures()
        metrics: list[dict[str, Any]] = msgspec.to_builtins(Judge.from_state(known).verdict().metrics)
    except (OSError, ValueError, KeyError, TypeError, FlightdeckError) as error:
        raise Unreadable(
            f"the file {path.name} of the controller cannot be read: {error}",
            next_step="move it away, then let the controller look again: kedro release rollout",
        ) from error
    return {metric.pop("metric"): metric for metric in metrics}
