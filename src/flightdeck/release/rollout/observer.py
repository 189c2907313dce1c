"""What the controller sees of the traffic: what the judge knows about a canary, and the report about a shadow.

Each step of a version has a file of its own: what the judge or the report knows, and the positions in the logs up to
which that is true, written together before anything is decided by it. An observer that is killed at any point goes on
there, and each record counts once; so does one in which anything goes wrong midway. What takes a version out need not
be written first: a full disk is no reason to let it go on.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np

from flightdeck.core.clock import to_us
from flightdeck.core.failpoints import failpoint
from flightdeck.gates.judge_policy import JudgePolicy
from flightdeck.release.judge.evidence import CanaryEvidence, Requests
from flightdeck.release.judge.judge import Judge
from flightdeck.release.judge.verdict import CanaryVerdict, Outcome
from flightdeck.release.rollout.run_cost import fit_before
from flightdeck.release.rollout.segments import SegmentCanary
from flightdeck.release.rollout.served import Served, begun_of, served_of
from flightdeck.release.rollout.shadow_report import ShadowReport
from flightdeck.release.rollout.step import Step
from flightdeck.release.rollout.tail import positions_at, read_new
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import CANARY, SHADOW, ReleaseState, VersionState

SETTLED = timedelta(seconds=1)
KEEP_EVERY = timedelta(seconds=2)
KINDS, SEGMENT = (CANARY, SHADOW), "segment"
logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Anything that tells what a version under way shows."""

    def canary(self, state: ReleaseState, current: VersionState, policy: JudgePolicy, now: datetime) -> CanaryVerdict:
        """Return what is known about the present step of a canary."""
        ...

    def segment(self, state: ReleaseState, canary: SegmentCanary, policy: JudgePolicy, now: datetime) -> CanaryVerdict:
        """Return what is known about the present step of the canary of a segment."""
        ...

    def shadow(self, state: ReleaseState, current: VersionState, now: datetime) -> ShadowReport:
        """Return what is known about a shadow."""
        ...

    def forget(self, state: ReleaseState, canaries: Sequence[SegmentCanary]) -> None:
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
        self._steps: dict[str, Step] = {}

    def canary(self, state: ReleaseState, current: VersionState, policy: JudgePolicy, now: datetime) -> CanaryVerdict:
        """Let the judge take in what is new, keep what it knows, and return its verdict.

        Raises
        ------
        FlightdeckError, OSError
            If a log or the file of the step cannot be read or written.
        """
        name = f"{current.version}-{current.entered_seq}-{CANARY}"
        began = current.entered_at or now
        judge = _Judged(current.version, current.canary_share, began, "")
        return self._judge(state, name, judge, policy, now)

    def segment(self, state: ReleaseState, canary: SegmentCanary, policy: JudgePolicy, now: datetime) -> CanaryVerdict:
        """Do what `canary` does for the canary of a segment.

        Raises
        ------
        FlightdeckError, OSError
            If a log or the file of the step cannot be read or written.
        """
        name = f"{canary.version}-{canary.entered_seq}-{SEGMENT}-{canary.name}"
        return self._judge(
            state, name, _Judged(canary.version, canary.share, canary.entered_at, canary.name), policy, now
        )

    def shadow(self, state: ReleaseState, current: VersionState, now: datetime) -> ShadowReport:
        """Let the report take in what is new, keep it, and return it.

        Raises
        ------
        FlightdeckError, OSError
            If a log or the file of the step cannot be read or written.
        """
        began = current.entered_at or now
        name = f"{current.version}-{current.entered_seq}-{SHADOW}"
        with self._taken_in(name, began) as step:
            report = step.report
            if report is None:
                known = step.known
                report = ShadowReport.from_state(known) if known else ShadowReport(self._segments, step.fixed)
                step.report = report
            answers, step.positions = read_new(self._logs.predictions, step.positions)
            scores, step.shadow_positions = read_new(self._logs.shadows, step.shadow_positions)
            for part in answers:
                report.add_answers(part, state.champion or 0, to_us(began))
            for part in scores:
                report.add_scores(part, current.version, to_us(began))
        self._keep(name, step, report, now, is_urgent=False)
        return report

    def forget(self, state: ReleaseState, canaries: Sequence[SegmentCanary]) -> None:
        """Drop the steps that are over; their files stay, as evidence."""
        live = {f"{v.version}-{v.entered_seq}-{kind}" for v in state.versions.values() for kind in KINDS}
        live |= {f"{canary.version}-{canary.entered_seq}-{SEGMENT}-{canary.name}" for canary in canaries}
        self._steps = {name: step for name, step in self._steps.items() if name in live}

    def _judge(
        self, state: ReleaseState, name: str, judged: "_Judged", policy: JudgePolicy, now: datetime
    ) -> CanaryVerdict:
        """Return what the judge says after what is new.

        A worker that logs the canary has learnt of its first step; of a larger share it learns within a second.
        """
        is_first = not any(path.stem != name for path in self._folder.glob(f"{judged.version}-*-{CANARY}.json"))
        since_us = to_us(judged.began if is_first or judged.segment else judged.began + SETTLED)
        with self._taken_in(name, judged.began) as step:
            if step.judge is None:
                step.judge = Judge.from_state(step.known) if step.known else Judge(policy, judged.share)
            records, step.positions = read_new(self._logs.predictions, step.positions)
            table = routing_table(state)
            for part in records:
                begun, settled = begun_of(part, judged.version, step.begun, since_us, judged.segment)
                step.begun = sorted({*step.begun, *begun})
                served = served_of(settled, table, segment=judged.segment, since_us=since_us, fixed=step.fixed)
                step.judge.update(CanaryEvidence(_requests(served), to_us(now) / 1e6))
            verdict = step.judge.update(CanaryEvidence(_requests(None), to_us(now) / 1e6))
        is_open = verdict.outcome is Outcome.INCONCLUSIVE and not verdict.freeze
        is_urgent = not is_open and verdict.outcome is not step.kept_outcome
        is_vital = is_urgent and verdict.outcome is not Outcome.FAIL
        self._keep(name, step, step.judge, now, is_urgent=is_urgent, is_vital=is_vital)
        step.kept_outcome = verdict.outcome
        return verdict

    @contextmanager
    def _taken_in(self, name: str, began: datetime) -> Iterator[Step]:
        """Give a step that takes in what is new; where that fails midway, the next look begins at its file again."""
        try:
            yield self._step(name, began)
        except BaseException:
            self._steps.pop(name, None)
            raise

    def _step(self, name: str, began: datetime) -> Step:
        """Return a step, from its file where there is one; a new one begins in the logs where it began."""
        if name not in self._steps:
            logs = self._logs
            self._steps[name] = Step.read(self._path(name)) or Step(
                positions_at(logs.predictions, began),
                positions_at(logs.shadows, began),
                None,
                fit_before(logs.predictions, to_us(began)),
            )
        return self._steps[name]

    def _keep(
        self,
        name: str,
        step: Step,
        knows: Judge | ShadowReport,
        now: datetime,
        *,
        is_urgent: bool,
        is_vital: bool = False,
    ) -> None:
        """Write what a step knows, at once where something is decided by it, else every other second.

        Whoever starts anew reads on from the last writing and comes to know the same. What is vital must be on the
        disk; without the rest the work goes on.
        """
        if is_urgent or step.kept_at is None or now - step.kept_at >= KEEP_EVERY:
            failpoint("observer.read")
            step.kept_at, step.known = now, knows.state()
            try:
                step.keep(self._path(name))
            except OSError as error:
                if is_vital:
                    raise
                logger.warning("keeping what is known of step %s: %s; it goes on from memory", name, error)
            failpoint("observer.kept")

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


@dataclass(frozen=True)
class _Judged:
    """Which version is judged, with which share, since when, and in which segment."""

    version: int
    share: float
    began: datetime
    segment: str


def _requests(served: Served | None) -> Requests:
    if served is None:
        none = np.zeros(0)
        return Requests(none, none.astype(np.uint64), none.astype(bool), none.astype(bool), none, none)
    return Requests(
        served.at_us / 1e6, served.unit, served.is_canary, served.is_error, served.cost_ms / 1e3, served.prediction
    )
