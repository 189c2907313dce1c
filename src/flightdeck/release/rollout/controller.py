"""The controller: watches shadow and canary, and moves them on, freezes them or takes them out by what they show.

What it decides by is kept before it decides (`observer`): a controller that is killed at any point comes to the same
verdict again. A decision is about the step that was looked at; where that step is over, by a decision that was recorded
before a crash or by somebody else's, the ledger's state refuses it. Of two controllers one holds the lease; the other
one's decisions are refused by the ledger.

Where the ledger takes no record, a version that fails is still taken out, by an order (`orders`); nothing else is done.

People stay in charge: a step that is `by_hand` is judged and waits, and a frozen version is left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from flightdeck.core.errors import LedgerConflict, ReleaseRefused
from flightdeck.core.failpoints import failpoint
from flightdeck.gates.policy import CanaryStep, Policies, ShadowStep, Tier
from flightdeck.release import commands, order_entry, rollout_commands, route_commands
from flightdeck.release.judge.verdict import CanaryVerdict, Outcome
from flightdeck.release.ledger import Ledger
from flightdeck.release.people import People, Person
from flightdeck.release.record import Record
from flightdeck.release.requirements import Bundles, require_target
from flightdeck.release.rollout.followed import FollowedLedger
from flightdeck.release.rollout.label_check import FAILED, OPEN, LabelChecks, Seen
from flightdeck.release.rollout.label_period import LABEL_CHECK, LabelPeriod, label_periods
from flightdeck.release.rollout.observer import Observer
from flightdeck.release.rollout.segments import SegmentCanary, has_alert, segment_canaries
from flightdeck.release.route_edits import Edit, roll_back_segment
from flightdeck.release.stages import CANARY, PROD, SHADOW, ReleaseState, VersionState


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
    orders
        Folder of the rollbacks that the ledger did not take; None: it gives none.
    """

    ledger: Ledger
    bundles: Bundles
    policies: Policies
    people: People
    by: Person
    orders: Path | None = None


class Controller:
    """Drives one model's rollouts.

    Parameters
    ----------
    desk
        Ledger, policies and person.
    observer
        What there is to see of the traffic.
    labels
        Label checks of the versions; None: nothing is known of labels.
    """

    def __init__(self, desk: Desk, observer: Observer, labels: LabelChecks | None = None) -> None:
        self._desk, self._observer, self._labels = desk, observer, labels
        self._followed = FollowedLedger(desk.ledger, desk.orders)
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
        state = self._followed.read_on()
        records = self._followed.records
        canaries = segment_canaries(state, records)
        done = []
        for kind, version in ((CANARY, state.canary), (SHADOW, state.shadow)):
            current = state.versions[version] if version is not None else None
            if current is not None and current.stage == kind and state.champion is not None:
                done += self._look(kind, state, current)
        for canary in canaries:
            done += self._look_at_segment(state, records, canary)
        self._observer.forget(state, canaries)
        return done + self._look_at_labels()

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
        now = self._desk.ledger.clock.now()
        verdict = self._observer.canary(state, current, tier.judged(rule), now)
        failpoint("controller.seen")
        if verdict.outcome is Outcome.FAIL:
            return self._roll_back(current, verdict.reasons, _n_requests(verdict), _metrics(verdict))
        is_young = current.entered_at is not None and now - current.entered_at < timedelta(minutes=rule.min_minutes)
        if verdict.freeze and not (is_young and _is_silent(verdict)):
            return self._freeze(current, "; ".join(verdict.reasons))
        if verdict.outcome is Outcome.PASS and not self._awaits_labels(state, current, tier, now):
            return self._pass(current, rule.by_hand, _n_requests(verdict), _metrics(verdict))
        return []

    def _awaits_labels(self, state: ReleaseState, current: VersionState, tier: Tier, now: datetime) -> bool:
        """Tell whether the tier lets no canary pass before its labels do, and they do not yet."""
        rule = tier.judge.log_loss
        if rule is None or not rule.is_awaited:
            return False
        periods = [one for one in label_periods(state, self._followed.records) if one.version == current.version]
        return self._labels is None or not all(self._labels.look(one, tier.judge, rule, now).is_fine for one in periods)

    def _look_at_labels(self) -> list[str]:
        """Act on what labels say about each version that is under way or was promoted lately.

        The state is read again: what was just decided by other evidence is not decided twice.
        """
        if self._labels is None:
            return []
        state, now = self._followed.read_on(), self._desk.ledger.clock.now()
        done, periods = [], label_periods(state, self._followed.records)
        self._labels.forget(periods)
        for period in periods:
            current = state.versions[period.version]
            policy = self._desk.policies.tier(current.tier).judge
            if policy.log_loss is not None:
                seen = self._labels.look(period, policy, policy.log_loss, now)
                done += self._act_on_labels(state, current, period, seen)
        return done

    def _act_on_labels(self, state: ReleaseState, current: VersionState, period: LabelPeriod, seen: Seen) -> list[str]:
        """Take a version out that failed; record once how a check ended otherwise, or what a person is to decide."""
        if seen.outcome == OPEN:
            return []
        if seen.outcome == FAILED and current.stage == SHADOW:
            return self._freeze(current, seen.line)
        if seen.outcome == FAILED and current.stage == PROD:
            if state.canary is not None:
                return self._once(
                    current, f"version {current.version} failed by its labels; that waits until its canary has ended"
                )
            try:
                require_target(state.versions[period.champion], self._desk.bundles)
            except ReleaseRefused as refusal:
                return self._once(
                    current, f"version {current.version} failed by its labels and stays champion: {refusal.message}"
                )
        if seen.outcome == FAILED and current.stage in (CANARY, PROD):
            return self._roll_back(current, (seen.line,), seen.n_votes, {"log_loss": seen.figures})
        detail = {
            "digest": current.digest,
            "began_seq": period.began_seq,
            "champion": period.champion,
            "outcome": seen.outcome,
            "what": seen.line,
            "metrics": {"log_loss": seen.figures},
        }
        self._desk.ledger.append(LABEL_CHECK, actor=self._desk.by.name, subject=str(current.version), detail=detail)
        return [f"version {current.version}: {seen.line}"]

    def _look_at_segment(self, state: ReleaseState, records: list[Record], canary: SegmentCanary) -> list[str]:
        """Take a segment's canary out where it fails; tell once where it cannot be judged, or may be promoted."""
        desk, where = self._desk, f"version {canary.version} in segment {canary.name}"
        current = state.versions[canary.version]
        tier = desk.policies.tier(current.tier)
        rule = tier.step(canary.share, current.is_emergency)
        if rule is None:
            return self._alert(records, canary, "unjudged", f"{where}: its tier has no step of {canary.share:g}")
        now, policy = desk.ledger.clock.now(), tier.judged(rule)
        verdict = self._observer.segment(state, canary, policy, now)
        is_young = now - canary.entered_at < timedelta(seconds=policy.bake_s)
        is_stuck = verdict.freeze and not (is_young and _is_silent(verdict))
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

    def _look_at_shadow(self, state: ReleaseState, current: VersionState, rule: ShadowStep) -> list[str]:
        now = self._desk.ledger.clock.now()
        report = self._observer.shadow(state, current, now)
        failpoint("controller.seen")
        n_seen = report.n_matched + report.n_failed
        if current.entered_at is None or now - current.entered_at < timedelta(minutes=rule.min_minutes):
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
        if self._record(current, "pass", n_requests, metrics):
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
                entered_seq=current.entered_seq,
            )
            failpoint("controller.promoted")
        except LedgerConflict:
            raise
        except ReleaseRefused as refusal:
            return done + self._once(current, f"version {current.version} waits: {refusal.message}")
        share = f", {moved.detail['share']:.0%} of the units" if "share" in moved.detail else ""
        return [*done, f"version {current.version}: {moved.detail['from']} -> {moved.detail['to']}{share}"]

    def _roll_back(
        self, current: VersionState, reasons: Sequence[str], n_requests: int, metrics: dict[str, Any]
    ) -> list[str]:
        reason = "; ".join(reasons)[:1500]
        desk, evidence = self._desk, {"n_requests": n_requests, "metrics": metrics}
        if desk.orders is None:
            commands.rollback(desk.ledger, by=desk.by, reason=reason, only=current.version, evidence=evidence)
        else:
            order_entry.take_out(desk.ledger, desk.orders, current, by=desk.by, reason=reason, evidence=evidence)
        failpoint("controller.rolled_back")
        return [f"version {current.version} taken out of {_where(current)}: {reason}"]

    def _freeze(self, current: VersionState, reason: str) -> list[str]:
        rollout_commands.freeze(
            self._desk.ledger,
            current.version,
            by=self._desk.by,
            reason=reason[:1500],
            entered_seq=current.entered_seq,
        )
        failpoint("controller.frozen")
        return [f"version {current.version} frozen in {_where(current)}: {reason}"]

    def _record(self, current: VersionState, verdict: str, n_requests: int, metrics: dict[str, Any]) -> bool:
        """Record a verdict where the step does not have it yet; tell whether it was recorded."""
        if current.evidence is not None and current.evidence.verdict == verdict:
            return False
        rollout_commands.record_evidence(
            self._desk.ledger,
            current.version,
            by=self._desk.by,
            entered_seq=current.entered_seq,
            verdict=verdict,
            n_requests=n_requests,
            metrics=metrics,
        )
        failpoint("controller.judged")
        return True

    def _alert(self, records: list[Record], canary: SegmentCanary, name: str, line: str) -> list[str]:
        """Record once what a person should know about a segment's canary."""
        name = f"segment-canary-{name}"
        if has_alert(records, canary, name):
            return []
        detail = {"name": name, "segment": canary.name, "entered_seq": canary.entered_seq, "what": line}
        self._desk.ledger.append("alert", actor=self._desk.by.name, subject=str(canary.version), detail=detail)
        return [line]

    def _once(self, current: VersionState, line: str) -> list[str]:
        if self._said.get(current.version) == line:
            return []
        self._said[current.version] = line
        return [line]


def _take_out(state: ReleaseState, canary: SegmentCanary) -> Edit:
    """Return the edit that takes this canary out, and nobody else."""
    there = next((segment.canary for segment in state.rules.segments if segment.name == canary.name), None)
    if there is None or there.version != canary.version:
        raise ReleaseRefused(f"rolling back segment {canary.name}: version {canary.version} is not its canary any more")
    return roll_back_segment(state, canary.name)


def _is_silent(verdict: CanaryVerdict) -> bool:
    """Tell whether nothing but the absence of traffic speaks against a verdict."""
    return any(reason.startswith(("no data", "stale")) for reason in verdict.reasons)


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
