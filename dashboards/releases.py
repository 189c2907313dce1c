"""What the ledger says, arranged for reading: versions, what is live since when and by whom, a version's history.

Deciding is the business of `flightdeck.release.commands`; this module only arranges. Pure, except for `Decisions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from dashboards.wording import NOTHING, count, figure, moment, plain, share, short
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import Layout
from flightdeck.gates.policy import Tier
from flightdeck.gates.verdict import Check, Verdict
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.people import People, person_key
from flightdeck.release.record import Record
from flightdeck.release.requirements import missing_approvals, void_because
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import PROD, ReleaseState, VersionState
from flightdeck.release.state import fold

STAGE_COLOURS = {
    "candidate": "blue",
    "staging": "blue",
    "shadow": "violet",
    "canary": "orange",
    "frozen": "orange",
    "prod": "green",
    "archived": "gray",
    "rejected": "red",
    "rolled_back": "red",
    "superseded": "gray",
}
JUDGED = {"pass": ("green", "check"), "fail": ("red", "close"), "error": ("red", "error")}
ALERT = "alert"
_SAID = ("reason", "tier", "name", "about", "what")
_NAMED = ("tier", "about")


@dataclass(frozen=True)
class Decisions:
    """Ledger, its records and the state that they amount to, read at one moment."""

    ledger: Ledger
    records: list[Record]
    state: ReleaseState


def read_decisions(where: Layout) -> Decisions:
    """Read the ledger.

    Raises
    ------
    NotFoundError
        If there is none yet.
    LedgerCorrupt
        If its chain is broken.
    """
    ledger = released_ledger(where, SystemClock())
    if not ledger.exists():
        current_state(ledger)
    records = ledger.records()
    return Decisions(ledger, records, fold(records))


def bundle_path(where: Layout, version: VersionState) -> Path:
    """Return the folder of a version's sealed bundle."""
    return where.bundles / version.digest[:16]


def approvals_table(version: VersionState, tier: Tier, people: People, now: datetime) -> pd.DataFrame:
    """Return one row an approval: whose, with which role, until when, whether it counts and why not; in Markdown."""
    asked, _ = tier.way(version.is_emergency)
    rows = []
    for given in version.approvals:
        why_not = void_because(given, tier, people, now, valid_for_h=asked.valid_for_h)
        until = min(given.expires_at, given.at + timedelta(hours=asked.valid_for_h))
        rows.append(
            {
                "Person": f"**{plain(given.name)}**",
                "Role": plain(", ".join(given.roles)) or NOTHING,
                "Until": moment(until),
                "Counts": f":red-badge[:material/close: no] {plain(why_not)}"
                if why_not
                else ":green-badge[:material/check: yes]",
            }
        )
    return pd.DataFrame(rows)


def approvals_sentence(version: VersionState, tier: Tier, people: People, now: datetime) -> str:
    """Return how many approvals count of those that the tier asks for, and what is missing, in Markdown."""
    asked, _ = tier.way(version.is_emergency)
    counting = {
        person_key(given.name): given
        for given in version.approvals
        if not void_because(given, tier, people, now, valid_for_h=asked.valid_for_h)
    }
    missing = missing_approvals(list(counting.values()), asked.n, asked.roles)
    said = f"{len(counting)} of {asked.n} needed in tier {plain(version.tier)}"
    return f"{said}; missing: {plain(missing)}" if missing else said


def evidence_badge(version: VersionState) -> str:
    """Return what the judge last said about the present step, as a Markdown badge with what it rests on."""
    said = version.evidence
    if said is None:
        return ":gray-badge[:material/remove: nothing yet]"
    colour, icon = JUDGED.get(said.verdict, ("orange", "help"))
    badge = f":{colour}-badge[:material/{icon}: {plain(said.verdict)}]"
    return f"{badge} {count(said.n_requests, 'request')}, {moment(said.at)}"


def went_live(records: Sequence[Record], version: int) -> Record | None:
    """Return the record that last made `version` champion, None if none did."""
    for record in reversed(records):
        is_promotion = record.action == "promoted" and record.subject == str(version) and record.detail["to"] == PROD
        is_return = record.action == "rolled_back" and record.detail.get("to") == version and _was_prod(record)
        if is_promotion or is_return:
            return record
    return None


def last_promotion(records: Sequence[Record], version: int) -> Record | None:
    """Return the last promotion of `version`, None if there was none."""
    own = [r for r in records if r.action == "promoted" and r.subject == str(version)]
    return own[-1] if own else None


def concerns(record: Record, version: int) -> bool:
    """Tell whether a record moved `version`, itself or by moving another one."""
    detail = record.detail
    returned_to = record.action == "rolled_back" and detail.get("to") == version and _was_prod(record)
    is_routed = record.action == "routed" and version in detail["versions"]
    return record.subject == str(version) or returned_to or is_routed or detail.get("replaces") == version


def routes_in_force(state: ReleaseState, version: int) -> str:
    """Return what a version does in the routing table, in words."""
    return plain("; ".join(routing_table(state).roles_of(version))) or "none"


def stage_badge(version: VersionState) -> str:
    """Return the stage as a Markdown badge, with the share of a canary."""
    at = f" {share(version.canary_share)}" if version.canary_share else ""
    return f":{STAGE_COLOURS[version.stage]}-badge[{version.stage.replace('_', ' ')}{at}]"


def verdict_badge(version: VersionState) -> str:
    """Return the verdict as a Markdown badge."""
    return {
        None: ":gray-badge[:material/remove: none]",
        True: ":green-badge[:material/check: passed]",
        False: ":red-badge[:material/close: failed]",
    }[version.verdict_passed]


def version_table(decisions: Decisions) -> pd.DataFrame:
    """Return one row a version, newest first, its cells in Markdown."""
    entered = {r.subject: moment(r.recorded_at) for r in decisions.records if r.action == "registered"}
    return pd.DataFrame(
        [
            {
                "Version": f"**{version.version}**",
                "Stage": stage_badge(version),
                "Verdict": verdict_badge(version),
                "Tier": plain(version.tier),
                "Bundle": f"`{short(version.digest)}`",
                "Entered": entered.get(str(version.version), NOTHING),
                "Approved by": plain(", ".join(version.approved_by)) or "nobody",
            }
            for version in sorted(decisions.state.versions.values(), key=lambda v: -v.version)
        ]
    )


def check_table(verdict: Verdict) -> pd.DataFrame:
    """Return one row a check, failed ones first, its cells in Markdown."""
    return pd.DataFrame(
        [
            {
                "Check": f"`{check.name}`",
                "Result": _outcome(check),
                "Value": figure(check.value, 4),
                "Threshold": figure(check.threshold, 4),
                "Kind": "blocking" if check.blocking else "advisory",
                "Meaning": plain(check.detail),
            }
            for check in sorted(verdict.checks, key=lambda check: (check.passed, not check.blocking))
        ]
    )


def history_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row a record, newest first, its cells in Markdown."""
    return pd.DataFrame(
        [
            {
                "Record": str(record.seq),
                "At": moment(record.recorded_at),
                "Action": f"**{plain(record.action.replace('_', ' '))}**",
                "Version": plain(record.subject),
                "By": _by(record),
                "Digest": f"`{short(record.digest)}`",
                "Detail": _detail(record),
            }
            for record in reversed(records)
        ]
    )


def _by(record: Record) -> str:
    """Return who it was and how that is known."""
    proof = str(record.detail.get("proof", ""))
    return f"{plain(record.actor)} :gray[:small[{plain(proof)}]]" if proof else plain(record.actor)


def _was_prod(record: Record) -> bool:
    return bool(record.detail.get("stage", PROD) == PROD)


def _outcome(check: Check) -> str:
    if check.passed:
        return ":green-badge[:material/check: passed]"
    return ":red-badge[:material/close: failed]" if check.blocking else ":orange-badge[:material/info: not met]"


def _detail(record: Record) -> str:
    """Return what a record decided, as a sentence."""
    detail = record.detail
    if record.action == "verdict":
        word = "passed" if detail.get("passed") else f"failed: {', '.join(detail.get('failed', ()))}"
        return plain(f"{word}, {count(detail.get('n_checks', 0), 'check')}, tier {detail.get('tier', '')}")
    if record.action == "promoted":
        return plain(_move(detail))
    if record.action == "rolled_back":
        back = f"version {detail['to']} serves" if detail.get("to") else "no champion yet"
        return plain(f"out of {detail.get('stage', '')}, {back}: {detail.get('reason') or 'no reason given'}")
    said = [f"{name} {detail[name]}" if name in _NAMED else str(detail[name]) for name in _SAID if detail.get(name)]
    return plain(", ".join(said))


def _move(detail: Mapping[str, Any]) -> str:
    units = f", {share(detail['share'])} of the units" if "share" in detail else ""
    replaced = f", replaces version {detail['replaces']}" if detail.get("replaces") else ""
    return f"{detail['from']} → {detail['to']}{units}{replaced}"
