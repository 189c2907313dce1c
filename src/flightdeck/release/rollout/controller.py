"""The controller: watches shadow and canary, and moves them on, freezes them or takes them out by what they show.

Each step of a version has a file of its own: what the judge or the report knows, and the positions in the logs up to
which that is true, written together before anything is decided by it. A controller that is killed at any point goes on
there and comes to the same verdict; a decision that was recorded already is refused by the ledger's state and not made
twice. Of two controllers one holds the lease; the other one's decisions are refused by the ledger.

People stay in charge: a step that is `by_hand` is judged and waits, and a frozen version is left alone.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from flightdeck.core.clock import to_us
from flightdeck.core.errors import LedgerConflict, ReleaseRefused
from flightdeck.gates.judge_policy import JudgePolicy
from flightdeck.gates.policy import CanaryStep, Policies, ShadowStep, Tier
from flightdeck.release import commands, rollout_commands, route_commands
from flightdeck.release.decisions import current_state
from flightdeck.release.judge.evidence import CanaryEvidence, Requests
from flightdeck.release.judge.judge import Judge
from flightdeck.release.judge.verdict import CanaryVerdict, Outcome
from flightdeck.release.ledger import Ledger
from flightdeck.release.people import People, Person
from flightdeck.release.record import Record
from flightdeck.release.rollout.run_cost import fit_before
from flightdeck.release.rollout.segments import SegmentCanary, has_alert, segment_canaries
from flightdeck.release.rollout.served import Served, begun_of, served_of
from flightdeck.release.rollout.shadow_report import ShadowReport
from flightdeck.release.rollout.step import Step
from flightdeck.release.rollout.tail import positions_at, read_new
from flightdeck.release.route_edits import Edit, roll_back_segment
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import CANARY, SHADOW, ReleaseState, VersionState

SETTLED = timedelta(seconds=1)
KEEP_EVERY = timedelta(seconds=2)
KINDS, SEGMENT = (CANARY, SHADOW), "segment"


@dataclass(frozen=True)
class Desk:
    """What the controller decides by and writes to.

    Parameters
    ----------
    ledger
        The ledger, fenced where a lease is held.
    bundles
        Folder of the sealed bundles.
    policies, people
        Risk tiers, and whose approvals count.
    by
        As whom it decides.
    """

    ledger: Ledger
    bundles: Path
    policies: Policies
    people: People
    by: Person


@dataclass(frozen=True)
class Logs:
    """Where traffic leaves its records: folders of the prediction log and of the shadow log."""

    predictions: Path
    shadows: Path


class Controller:
    """Drives one model's rollouts.

    Parameters
    ----------
    desk
        Ledger, policies and person.
    logs
        Prediction log and shadow log.
    folder
        Where the files of the steps are kept.
    segments
        Request columns by whose values a shadow's report is shown.
    """

    def __init__(self, desk: Desk, logs: Logs, folder: Path, segments: tuple[str, ...] = ()) -> None:
        self._desk, self._logs, self._folder, self._segments = desk, logs, folder, segments
        self._steps: dict[str, Step] = {}
        self._said: dict[int, str] = {}

    def step(self) -> list[str]:
        """Read what is new, decide, and return what was done, a line each.

        Raises
        ------
        LedgerConflict
            If another controller has taken the lease.
        FlightdeckError
            If the ledger or a log cannot be read.
        """
        state = current_state(self._desk.ledger)
        records = self._desk.ledger.records() if state.rules.segments else []
        canaries = segment_canaries(state, records)
        done = []
        for kind, version in ((CANARY, state.canary), (SHADOW, state.shadow)):
            current = state.versions[version] if version is not None else None
            if current is not None and current.stage == kind and state.champion is not None:
                done += self._look(kind, state, current)
        for canary in canaries:
            done += self._look_at_segment(state, records, canary)
        self._forget(state, canaries)
        return done

    def _look(self, kind: str, state: ReleaseState, current: VersionState) -> list[str]:
        tier = self._desk.policies.tier(current.tier)
        if kind == CANARY:
            rule = tier.step(current.canary_share, current.is_emergency)
            if rule is None:
                return self._freeze(current, f"tier {current.tier} has no step of {current.canary_share:g} any more")
            return self._look_at_canary(state, current, tier, rule)
        if tier.shadow is None:
            return self._freeze(current, f"tier {current.tier} has no shadow step any more")
        return self._look_at_shadow(state, current, tier.shadow)

    def _look_at_canary(self, state: ReleaseState, current: VersionState, tier: Tier, rule: CanaryStep) -> list[str]:
        began = current.entered_at or self._desk.ledger.clock.now()
        name = f"{current.version}-{current.entered_seq}-{CANARY}"
        verdict, to_freeze = self._judge(
            state, name, current.version, tier.judged(rule), current.canary_share, began, tier.is_first(rule)
        )
        if verdict.outcome is Outcome.FAIL:
            return self._roll_back(current, verdict)
        if to_freeze:
            return self._freeze(current, "; ".join(verdict.reasons))
        if verdict.outcome is Outcome.PASS:
            return self._pass(current, rule.by_hand, _n_requests(verdict), _metrics(verdict))
        return []

    def _look_at_segment(self, state: ReleaseState, records: list[Record], canary: SegmentCanary) -> list[str]:
        """Take a segment's canary out where it fails; tell once where it cannot be judged, or may be promoted."""
        desk, where = self._desk, f"version {canary.version} in segment {canary.name}"
        current = state.versions[canary.version]
        tier = desk.policies.tier(current.tier)
        rule = tier.step(canary.share, current.is_emergency)
        if rule is None:
            return self._alert(records, canary, "unjudged", f"{where}: its tier has no step of {canary.share:g}")
        name = f"{canary.version}-{canary.entered_seq}-{SEGMENT}-{canary.name}"
        verdict, is_stuck = self._judge(
            state,
            name,
            canary.version,
            tier.judged(rule),
            canary.share,
            canary.entered_at,
            tier.is_first(rule),
            segment=canary.name,
        )
        reason = "; ".join(verdict.reasons)[:1500]
        if verdict.outcome is Outcome.FAIL:
            route_commands.change_routes(
                desk.ledger,
                lambda newest: _take_out(newest, canary),
                by=desk.by,
                policies=desk.policies,
                people=desk.people,
                bundles=desk.bundles,
                reason=reason,
            )
            return [f"{where} taken out: {reason}"]
        if is_stuck:
            return self._alert(records, canary, "unjudged", f"{where} cannot be judged: {reason}")
        if verdict.outcome is Outcome.PASS:
            n_requests = _n_requests(verdict)
            return self._alert(records, canary, "passed", f"{where} passed after {n_requests:,} requests")
        return []

    def _judge(
        self,
        state: ReleaseState,
        name: str,
        canary: int,
        policy: JudgePolicy,
        share: float,
        began: datetime,
        is_first: bool,
        segment: str = "",
    ) -> tuple[CanaryVerdict, bool]:
        """Return what the judge says after what is new, and whether nothing can be said, so that a person is needed.

        A worker that logs the canary has learnt of its first step; of a larger share it learns within a second.
        """
        step = self._step(name, began)
        judge = step.judge
        if judge is None:
            judge = step.judge = Judge.from_state(step.known) if step.known else Judge(policy, share)
        records, step.positions = read_new(self._logs.predictions, step.positions)
        table, now = routing_table(state), self._desk.ledger.clock.now()
        since_us = to_us(began if is_first else began + SETTLED)
        for part in records:
            begun, settled = begun_of(part, canary, step.begun, since_us, segment)
            step.begun = sorted({*step.begun, *begun})
            served = served_of(settled, table, segment=segment, since_us=since_us, fixed=step.fixed)
            judge.update(CanaryEvidence(_requests(served), to_us(now) / 1e6))
        verdict = judge.update(CanaryEvidence(_requests(None), to_us(now) / 1e6))
        is_open = verdict.outcome is Outcome.INCONCLUSIVE and not verdict.freeze
        self._keep(name, step, judge, now, is_urgent=not is_open and verdict.outcome is not step.kept_outcome)
        step.kept_outcome = verdict.outcome
        is_young = now - began < timedelta(seconds=policy.bake_s)
        is_silent = any(reason.startswith(("no data", "stale")) for reason in verdict.reasons)
        return verdict, verdict.freeze and not (is_young and is_silent)

    def _look_at_shadow(self, state: ReleaseState, current: VersionState, rule: ShadowStep) -> list[str]:
        began = current.entered_at or self._desk.ledger.clock.now()
        name = f"{current.version}-{current.entered_seq}-{SHADOW}"
        step = self._step(name, began)
        report = step.report
        if report is None:
            known = step.known
            report = ShadowReport.from_state(known) if known else ShadowReport(self._segments, step.fixed)
            step.report = report
        answers, step.positions = read_new(self._logs.predictions, step.positions)
        scores, step.shadow_positions = read_new(self._logs.shadows, step.shadow_positions)
        since_us, champion = to_us(began), state.champion or 0
        for part in answers:
            report.add_answers(part, champion, since_us)
        for part in scores:
            report.add_scores(part, current.version, since_us)
        now, n_seen = self._desk.ledger.clock.now(), report.n_matched + report.n_failed
        self._keep(name, step, report, now, is_urgent=n_seen >= rule.min_requests and current.evidence is None)
        if now - began < timedelta(minutes=rule.min_minutes):
            return []
        if n_seen == 0:
            return self._freeze(current, "no data: nothing that it scored is in the log")
        if n_seen < rule.min_requests:
            return []
        problems = report.problems(rule)
        if problems:
            self._record(current, "fail", n_seen, report.figures())
            return self._freeze(current, "; ".join(problems))
        return self._pass(current, rule.by_hand, n_seen, report.figures())

    def _pass(self, current: VersionState, by_hand: bool, n_requests: int, metrics: dict[str, Any]) -> list[str]:
        """Record a pass once; move the version on unless a person does that."""
        done = []
        if current.evidence is None or current.evidence.verdict != "pass":
            self._record(current, "pass", n_requests, metrics)
            done.append(f"version {current.version} passed {_where(current)} after {n_requests:,} requests")
        if by_hand:
            return done
        desk = self._desk
        try:
            moved = commands.promote(
                desk.ledger,
                current.version,
                by=desk.by,
                policies=desk.policies,
                people=desk.people,
                bundles=desk.bundles,
                reason="its evidence passed",
            )
        except LedgerConflict:
            raise
        except ReleaseRefused as refusal:
            return done + self._once(current, f"version {current.version} waits: {refusal.message}")
        share = f", {moved.detail['share']:.0%} of the units" if "share" in moved.detail else ""
        return [*done, f"version {current.version}: {moved.detail['from']} -> {moved.detail['to']}{share}"]

    def _roll_back(self, current: VersionState, verdict: CanaryVerdict) -> list[str]:
        reason = "; ".join(verdict.reasons)[:1500]
        commands.rollback(
            self._desk.ledger,
            by=self._desk.by,
            reason=reason,
            only=current.version,
            evidence={"n_requests": _n_requests(verdict), "metrics": _metrics(verdict)},
        )
        return [f"version {current.version} taken out of {_where(current)}: {reason}"]

    def _freeze(self, current: VersionState, reason: str) -> list[str]:
        rollout_commands.freeze(self._desk.ledger, current.version, by=self._desk.by, reason=reason[:1500])
        return [f"version {current.version} frozen in {_where(current)}: {reason}"]

    def _record(self, current: VersionState, verdict: str, n_requests: int, metrics: dict[str, Any]) -> None:
        rollout_commands.record_evidence(
            self._desk.ledger,
            current.version,
            by=self._desk.by,
            entered_seq=current.entered_seq,
            verdict=verdict,
            n_requests=n_requests,
            metrics=metrics,
        )

    def _once(self, current: VersionState, line: str) -> list[str]:
        if self._said.get(current.version) == line:
            return []
        self._said[current.version] = line
        return [line]

    def _alert(self, records: list[Record], canary: SegmentCanary, name: str, line: str) -> list[str]:
        """Record once what a person should know about a segment's canary."""
        name = f"segment-canary-{name}"
        if has_alert(records, canary, name):
            return []
        detail = {"name": name, "segment": canary.name, "entered_seq": canary.entered_seq, "what": line}
        self._desk.ledger.append("alert", actor=self._desk.by.name, subject=str(canary.version), detail=detail)
        return [line]

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

    def _keep(self, name: str, step: Step, knows: Judge | ShadowReport, now: datetime, *, is_urgent: bool) -> None:
        """Write what a step knows, at once where something is decided by it, else every other second.

        Whoever starts anew reads on from the last writing and comes to know the same.
        """
        if is_urgent or step.kept_at is None or now - step.kept_at >= KEEP_EVERY:
            step.kept_at, step.known = now, knows.state()
            step.keep(self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _forget(self, state: ReleaseState, canaries: list[SegmentCanary]) -> None:
        """Drop the steps that are over; their files stay, as evidence."""
        live = {f"{v.version}-{v.entered_seq}-{kind}" for v in state.versions.values() for kind in KINDS}
        live |= {f"{canary.version}-{canary.entered_seq}-{SEGMENT}-{canary.name}" for canary in canaries}
        self._steps = {name: step for name, step in self._steps.items() if name in live}


def _take_out(state: ReleaseState, canary: SegmentCanary) -> Edit:
    """Return the edit that takes this canary out, and nobody else."""
    there = next((segment.canary for segment in state.rules.segments if segment.name == canary.name), None)
    if there is None or there.version != canary.version:
        raise ReleaseRefused(f"rolling back segment {canary.name}: version {canary.version} is not its canary any more")
    return roll_back_segment(state, canary.name)


def _requests(served: Served | None) -> Requests:
    if served is None:
        none = np.zeros(0)
        return Requests(none, none.astype(np.uint64), none.astype(bool), none.astype(bool), none, none)
    return Requests(
        served.at_us / 1e6, served.unit, served.is_canary, served.is_error, served.cost_ms / 1e3, served.prediction
    )


def _n_requests(verdict: CanaryVerdict) -> int:
    return max((metric.n_canary for metric in verdict.metrics), default=0)


def _metrics(verdict: CanaryVerdict) -> dict[str, Any]:
    """Return what each metric says; infinite evidence is written as text, which JSON can hold."""
    plain: list[dict[str, Any]] = msgspec.to_builtins(verdict.metrics)
    return {
        row.pop("metric"): {
            name: str(value) if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in row.items()
        }
        for row in plain
    }


def _where(current: VersionState) -> str:
    return f"canary of {current.canary_share:.0%}" if current.stage == CANARY else current.stage
