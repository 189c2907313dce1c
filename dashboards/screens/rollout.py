"""Rollout: what is in shadow or canary now and what is known of it, shares over time, and each version's steps."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboards.panels import explained, show_header, show_hint, show_section, show_table
from dashboards.releases import Decisions, read_decisions, routes_in_force, stage_badge
from dashboards.rollout_charts import draw_groups, draw_shares
from dashboards.rollouts import (
    known_now,
    metric_table,
    shadow_facts,
    shadow_groups,
    shares_over_time,
    step_table,
    steps_of,
)
from dashboards.wording import moment, plain
from flightdeck.core.errors import NotFoundError
from flightdeck.core.layout import Layout, layout
from flightdeck.lineage.rollout_steps import RolloutStep
from flightdeck.release.rollout.label_check import label_line

SHARES_SENTENCE = (
    "Who decided for what share of the units, as the ledger says. Items of a segment and units of an experiment are "
    "dealt by rules of their own and not in this picture."
)


def show_rollout() -> None:
    """Show the page."""
    where = layout()
    show_header("Rollout", "Shadow, canary, prod: each step with the evidence that it rests on.")
    with explained():
        decisions = read_decisions(where)
        if not decisions.state.versions:
            raise NotFoundError("no version has been entered yet", next_step="kedro run --config kedro.yml")
        _show_under_way(where, decisions)
        _show_shares(decisions)
        _show_steps(where, decisions)


def _show_under_way(where: Layout, decisions: Decisions) -> None:
    show_section("Under way")
    state = decisions.state
    live = [version for version in (state.canary, state.shadow) if version is not None]
    if not live:
        show_hint("no version is in shadow or canary", "kedro release promote VERSION --by NAME")
    for version in live:
        with st.container(border=True):
            _show_live(where, decisions, version)


def _show_live(where: Layout, decisions: Decisions, version: int) -> None:
    """Show one version under way: since when, whether it is frozen and why, and what the controller knows."""
    current = decisions.state.versions[version]
    step = steps_of(decisions.records, version)[-1]
    st.markdown(f"### Version {version}  {stage_badge(current)}")
    since = f"Since {moment(step.began['recorded_at'])} · {routes_in_force(decisions.state, version)}"
    st.markdown(f":gray[{since}]")
    if current.frozen_from and step.frozen is not None:
        reason = plain(step.frozen["detail"].get("reason", ""))
        st.error(
            f"Frozen in {current.frozen_from} at {moment(step.frozen['recorded_at'])}: {reason}\n\n"
            f"**Next step:** `kedro release thaw {version} --reason WHY`, or `kedro release rollback`",
            icon=":material/ac_unit:",
        )
    known: Mapping[str, Any] = {}
    with explained():
        known = known_now(where.rollout, current)
    if not known and step.judged:
        known = step.judged[-1]["detail"].get("metrics") or {}
    if not known:
        show_hint("the controller has not looked at this step", "kedro release rollout --follow")
    _show_evidence(known)


def _show_evidence(known: Mapping[str, Any]) -> None:
    """Show a canary's metrics or a shadow's report, whichever it is."""
    metrics = metric_table(known)
    if not metrics.empty:
        show_table(metrics)
    groups = shadow_groups(known)
    if "n_matched" in known:
        facts = shadow_facts(known)
        for column, (name, said) in zip(st.columns(len(facts)), facts.items(), strict=True):
            column.markdown(f":gray[{name}]  \n{said}")
    if not groups.empty:
        st.altair_chart(draw_groups(groups))


def _show_shares(decisions: Decisions) -> None:
    show_section("Shares over time", SHARES_SENTENCE)
    shares = shares_over_time(decisions.records)
    if shares.empty:
        show_hint("no version has decided for anybody yet", "kedro release promote VERSION --by NAME")
    else:
        st.altair_chart(draw_shares(shares))


def _show_steps(where: Layout, decisions: Decisions) -> None:
    show_section("Step by step", "Every step of a version: how long it lasted, what was judged in it, how it ended.")
    versions = sorted(decisions.state.versions, reverse=True)
    live = decisions.state.canary or decisions.state.shadow or decisions.state.champion or versions[0]
    version: int = st.selectbox(
        "Version to look at",
        versions,
        index=versions.index(live),
        format_func=lambda v: f"Version {v} · {decisions.state.versions[v].stage.replace('_', ' ')}",
        width=320,
        key="rollout_version",
    )
    with explained():
        labels = label_line(where.rollout, decisions.state, decisions.records, version)
        if labels:
            st.markdown(f":gray[{plain(labels)}]")
    steps = steps_of(decisions.records, version)
    show_table(step_table(version, steps))
    judged = [step for step in steps if step.judged]
    if not judged:
        st.markdown(":gray[Nothing of it was judged: before there is a champion there is nothing to compare with.]")
    for step in judged:
        with st.expander(_title(step)):
            _show_evidence(step.judged[-1]["detail"].get("metrics") or {})


def _title(step: RolloutStep) -> str:
    share = f" {step.share:.0%}" if step.share else ""
    said = step.judged[-1]["detail"]
    return f"Evidence in {step.stage}{share}: {said['verdict']} after {said['n_requests']:,} requests"


show_rollout()
