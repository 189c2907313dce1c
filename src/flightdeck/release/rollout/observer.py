"""What the controller sees of the traffic: what the judge knows about a canary, and the report about a shadow.

Each step of a version has a file of its own: what the judge or the report knows, and the positions in the logs up to
which that is true, written together before anything is decided by it. An observer that is killed at any point goes on
there, and each record counts once.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flightdeck.core.clock import to_us
from flightdeck.core.failpoints import failpoint
from flightdeck.core.files import write_json
from flightdeck.gates.judge_policy import JudgePolicy
from flightdeck.release.judge.evidence import CanaryEvidence, Requests
from flightdeck.release.judge.judge import Judge
from flightdeck.release.judge.verdict import CanaryVerdict
from flightdeck.release.rollout.run_cost import fit_before
from flightdeck.release.rollout.served import Served, served_of
from flightdeck.release.rollout.shadow_report import ShadowReport
from flightdeck.release.rollout.tail import Positions, positions_at, read_new
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import CANARY, SHADOW, ReleaseState, VersionState

SETTLED = timedelta(seconds=1)


class Observer(Protocol):
    """Anything that tells what a version under way shows."""

    def canary(self, state: ReleaseState, current: VersionState, policy: JudgePolicy, now: datetime) -> CanaryVerdict:
        """Return what is known about the present step of a canary."""
        ...

    def shadow(self, state: ReleaseState, current: VersionState, now: datetime) -> ShadowReport:
        """Return what is known about a shadow."""
        ...

    def forget(self, state: ReleaseState) -> None:
        """Let go of the steps that are over."""
        ...


@dataclass(frozen=True)
class Logs:
    """Where traffic leaves its records: folders of the prediction log and of the shadow log."""

    predictions: Path
    shadows: Path


class LogObserver:
    """Reads the logs of the service.

    Parameters
    ----------
    logs
        Prediction log and shadow log.
    folder
        Where the files of the steps are kept.
    segments
        Request columns by whose values a shadow's report is shown.
    """

    def __init__(self, logs: Logs, folder: Path, segments: tuple[str, ...] = ()) -> None:
        self._logs, self._folder, self._segments = logs, folder, segments
        self._steps: dict[str, _Step] = {}

    def canary(self, state: ReleaseState, current: VersionState, policy: JudgePolicy, now: datetime) -> CanaryVerdict:
        """Let the judge take in what is new, keep what it knows, and return its verdict.

        Raises
        ------
        FlightdeckError, OSError
            If a log or the file of the step cannot be read or written.
        """
        step = self._step(CANARY, current, now)
        judge = Judge.from_state(step.known) if step.known else Judge(policy, current.canary_share)
        records, step.positions = read_new(self._logs.predictions, step.positions)
        table = routing_table(state)
        for part in records:
            served = served_of(part, table, since_us=_since_us(current), fixed=step.fixed)
            judge.update(CanaryEvidence(_requests(served), to_us(now) / 1e6))
        verdict = judge.update(CanaryEvidence(_requests(None), to_us(now) / 1e6))
        step.known = judge.state()
        self._keep(step)
        return verdict

    def shadow(self, state: ReleaseState, current: VersionState, now: datetime) -> ShadowReport:
        """Let the report take in what is new, keep it, and return it.

        Raises
        ------
        FlightdeckError, OSError
            If a log or the file of the step cannot be read or written.
        """
        step = self._step(SHADOW, current, now)
        report = ShadowReport.from_state(step.known) if step.known else ShadowReport(self._segments, step.fixed)
        answers, step.positions = read_new(self._logs.predictions, step.positions)
        scores, step.shadow_positions = read_new(self._logs.shadows, step.shadow_positions)
        since_us, champion = _since_us(current), state.champion or 0
        for part in answers:
            report.add_answers(part, champion, since_us)
        for part in scores:
            report.add_scores(part, current.version, since_us)
        step.known = report.state()
        self._keep(step)
        return report

    def forget(self, state: ReleaseState) -> None:
        """Drop the steps that are over; their files stay, as evidence."""
        live = {f"{v.version}-{v.entered_seq}" for v in state.versions.values()}
        self._steps = {name: step for name, step in self._steps.items() if name.rpartition("-")[0] in live}

    def _step(self, kind: str, current: VersionState, now: datetime) -> "_Step":
        """Return the step of a version, from its file where there is one; a new one begins where the step began."""
        name = f"{current.version}-{current.entered_seq}-{kind}"
        if name not in self._steps:
            path = self._folder / f"{name}.json"
            if path.is_file():
                kept = json.loads(path.read_bytes())
                step = _Step(path, kept["positions"], kept["shadow_positions"], kept["known"], kept["fixed"])
            else:
                began = current.entered_at or now
                logs = self._logs
                positions = positions_at(logs.predictions, began), positions_at(logs.shadows, began)
                step = _Step(path, *positions, None, fit_before(logs.predictions, to_us(began)))
            self._steps[name] = step
        return self._steps[name]

    def _keep(self, step: "_Step") -> None:
        step.path.parent.mkdir(parents=True, exist_ok=True)
        failpoint("observer.read")
        write_json(
            step.path,
            {
                "positions": step.positions,
                "shadow_positions": step.shadow_positions,
                "known": step.known,
                "fixed": step.fixed,
            },
        )
        failpoint("observer.kept")


@dataclass
class _Step:
    path: Path
    positions: Positions
    shadow_positions: Positions
    known: dict[str, Any] | None
    fixed: float


def _since_us(current: VersionState) -> int:
    """Return from when on records count: a moment after the step began, when every worker has its table."""
    return to_us(current.entered_at + SETTLED) if current.entered_at is not None else 0


def _requests(served: Served | None) -> Requests:
    if served is None:
        none = np.zeros(0)
        return Requests(none, none.astype(np.uint64), none.astype(bool), none.astype(bool), none, none)
    return Requests(
        served.at_us / 1e6, served.unit, served.is_canary, served.is_error, served.cost_ms / 1e3, served.prediction
    )
