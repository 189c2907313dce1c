"""Releases: every version with its evidence, and the place where a person approves or rejects one."""

import streamlit as st

from dashboards import evidence
from dashboards.decision import show_decision
from dashboards.panels import explained, show_header, show_section, show_table
from dashboards.releases import (
    Decisions,
    approvals_sentence,
    approvals_table,
    bundle_path,
    concerns,
    evidence_badge,
    history_table,
    read_decisions,
    routes_in_force,
    stage_badge,
    verdict_badge,
    version_table,
)
from dashboards.reports import PIPELINE
from dashboards.wording import count, moment, plain
from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.core.layout import PROJECT, Layout, layout
from flightdeck.gates.policy import read_policies
from flightdeck.inference.bundle import Bundle, open_bundle
from flightdeck.release.moves import legal_moves
from flightdeck.release.people import read_people
from flightdeck.release.stages import VersionState

CHECKS, NOTEBOOK, PROVENANCE, HISTORY = "Checks", "Executed notebook", "Provenance", "History"


def show_releases() -> None:
    """Show all versions, then the chosen one."""
    show_header("Releases", "A release is evidence plus a person's decision about its digest.")
    where = layout()
    with explained():
        decisions = read_decisions(where)
        if not decisions.state.versions:
            raise NotFoundError("no version has been entered yet", next_step=PIPELINE)
        show_section("Versions", f"{count(decisions.state.seq, 'ledger record')}, chain of digests intact.")
        show_table(version_table(decisions))
        version = decisions.state.versions[_choose(decisions)]
        bundle = _open(where, version)
        facts, decision = st.columns([3, 2], gap="medium")
        with facts.container(border=True, height="stretch"):
            _show_facts(decisions, version, bundle)
        with decision.container(border=True, height="stretch"):
            show_decision(decisions, version, where)
        _show_evidence(decisions, version, bundle)


def _choose(decisions: Decisions) -> int:
    """Return the version to look at: the one that waits, else the newest."""
    versions = sorted(decisions.state.versions, reverse=True)
    first = decisions.state.candidate or versions[0]
    chosen: int = st.selectbox(
        "Version to look at",
        versions,
        index=versions.index(first),
        format_func=lambda v: f"Version {v} · {decisions.state.versions[v].stage.replace('_', ' ')}",
        width=320,
        key="version",
    )
    return chosen


def _open(where: Layout, version: VersionState) -> Bundle | FlightdeckError:
    """Return the verified bundle, or why it is none: evidence of altered files is not shown."""
    try:
        return open_bundle(bundle_path(where, version), expected_digest=version.digest)
    except FlightdeckError as error:
        return error


def _show_facts(decisions: Decisions, version: VersionState, bundle: Bundle | FlightdeckError) -> None:
    st.markdown(f"### Version {version.version}  {stage_badge(version)}")
    tier, people = read_policies(PROJECT / "conf").tier(version.tier), read_people(PROJECT / "conf")
    now = decisions.ledger.clock.now()
    whole = (
        f":green-badge[:material/verified: verified] {count(len(bundle.manifest.files), 'file')} compared"
        if isinstance(bundle, Bundle)
        else ":red-badge[:material/gpp_bad: does not verify]"
    )
    failed = f" {plain(', '.join(version.failed_checks))}" if version.failed_checks else ""
    facts = {
        "Model": plain(version.model_name),
        "Bundle": whole,
        "Gate": f"{verdict_badge(version)}{failed}",
        "Judge, present step": evidence_badge(version),
    }
    for column, (name, said) in zip([*st.columns(2), *st.columns(2)], facts.items(), strict=True):
        column.markdown(f":gray[{name}]  \n{said}")
    if version.frozen_from:
        st.markdown(f":gray[Frozen in]  \n{plain(version.frozen_from)}: nothing moves it on until a person does")
    if version.review_due_at is not None:
        st.markdown(f":gray[Emergency release]  \nits review is due until {moment(version.review_due_at)}")
    st.markdown(f":gray[Digest]  \n`{version.digest}`")
    st.markdown(f":gray[Routes in force]  \n{routes_in_force(decisions.state, version.version)}")
    moves = " ".join(f":blue-badge[{move}]" for move in legal_moves(decisions.state, version.version))
    st.markdown(f":gray[Legal now, as far as the stage says]  \n{moves or 'nothing more'}")
    st.markdown(f":gray[Approvals]  \n{approvals_sentence(version, tier, people, now)}")
    if version.approvals:
        show_table(approvals_table(version, tier, people, now))


def _show_evidence(decisions: Decisions, version: VersionState, bundle: Bundle | FlightdeckError) -> None:
    """Show the tab that is open; the others are not read."""
    tabs = st.tabs([CHECKS, NOTEBOOK, PROVENANCE, HISTORY], key="evidence", on_change="rerun")
    views = (evidence.show_checks, evidence.show_notebook, evidence.show_provenance)
    for tab, show in zip(tabs, views, strict=False):
        if tab.open:
            with tab, explained():
                if not isinstance(bundle, Bundle):
                    raise bundle
                show(bundle)
    if tabs[-1].open:
        with tabs[-1]:
            show_table(history_table([r for r in decisions.records if concerns(r, version.version)]))


show_releases()
