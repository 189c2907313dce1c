"""The form with which a named person approves or rejects a version.

It calls the same commands as the command line; what they refuse is shown in their words.
"""

from pathlib import Path

import streamlit as st

from dashboards.panels import show_error
from dashboards.releases import Decisions
from dashboards.wording import plain
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import read_policies
from flightdeck.release import commands
from flightdeck.release.people import read_people
from flightdeck.release.record import Record
from flightdeck.release.stages import APPROVABLE, REJECTABLE, VersionState

DONE = "decision_done"
TRUST = (
    "This dashboard runs on loopback and has no login: a name is taken at its word. "
    "The decision is bound to the digest shown here and stays in the ledger."
)


def show_decision(decisions: Decisions, version: VersionState, bundles: Path) -> None:
    """Show the form, and what became of the last one."""
    st.markdown("### Decide")
    done_version, said = st.session_state.get(DONE, (None, ""))
    if done_version == version.version:
        st.success(said, icon=":material/check_circle:")
    if version.stage not in APPROVABLE:
        st.markdown(
            f"Version {version.version} is in **{version.stage.replace('_', ' ')}**: nothing is left to decide here."
        )
        st.caption(TRUST)
        return
    with st.form(f"decide-{version.version}-{decisions.state.seq}", border=False, enter_to_submit=False):
        by = st.text_input("Your name", max_chars=200, placeholder="Ada Lovelace", key="decided_by")
        reason = st.text_area(
            "Reason", max_chars=2000, height=90, placeholder="What convinced you", key=f"reason-{decisions.state.seq}"
        )
        with st.container(horizontal=True):
            approves = st.form_submit_button("Approve", type="primary", icon=":material/check:")
            rejects = st.form_submit_button(
                "Reject",
                icon=":material/close:",
                disabled=version.stage not in REJECTABLE,
                help="Legal in candidate, staging and shadow; take a canary out with kedro release rollback.",
            )
    st.caption(TRUST)
    if approves or rejects:
        _decide(decisions, version, bundles, by=by, reason=reason, approves=approves)


def _decide(
    decisions: Decisions, version: VersionState, bundles: Path, *, by: str, reason: str, approves: bool
) -> None:
    missing = [name for name, value in (("your name", by), ("a reason", reason)) if not value.strip()]
    if missing:
        st.error(f"A decision needs {' and '.join(missing)}: both are kept in the ledger.", icon=":material/error:")
        return
    try:
        record = _append(decisions, version, bundles, by=by, reason=reason, approves=approves)
    except FlightdeckError as error:
        show_error(error)
        return
    st.session_state[DONE] = (version.version, _said(record, version))
    st.rerun()


def _append(
    decisions: Decisions, version: VersionState, bundles: Path, *, by: str, reason: str, approves: bool
) -> Record:
    ledger = decisions.ledger
    person = read_people(PROJECT / "conf").identify(by)
    if approves:
        return commands.approve(
            ledger,
            version.version,
            by=person,
            policies=read_policies(PROJECT / "conf"),
            bundles=bundles,
            reason=reason,
            seen_digest=version.digest,
        )
    return commands.reject(ledger, version.version, by=person, reason=reason)


def _said(record: Record, version: VersionState) -> str:
    """Return what was done and what follows from it."""
    said = f"Version {version.version} {record.action} by {plain(record.actor)}, ledger record {record.seq}."
    if record.action == "approved":
        return f"{said} Next: `kedro release promote {version.version}`"
    return f"{said} MLflow's alias follows with the next release command."
