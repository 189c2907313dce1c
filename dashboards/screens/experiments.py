"""Experiments: the arms, how far they differ from the first one, and whether the comparison can be trusted."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dashboards.panels import explained, show_header, show_hint, show_section, show_table
from dashboards.reports import MONITOR
from dashboards.rollout_charts import draw_looks
from dashboards.sources import read_record
from dashboards.wording import NOTHING, count, figure, moment, plain, share
from flightdeck.core.layout import layout
from flightdeck.monitoring.experiment_report import (
    ALPHA,
    ERRORS,
    LATENCY,
    LATENCY_CAP_MS,
    LOG_LOSS,
    MEASURES,
    PREDICTION,
    Difference,
    ExperimentResult,
    ExperimentResults,
    finding,
    void_reasons,
)

SENTENCE = (
    f"Each unit counts once, with what it was given first. The {1 - ALPHA:.0%} intervals hold however often one looks: "
    "an experiment may be ended at any moment."
)
NAMES = {
    PREDICTION: "Mean prediction",
    ERRORS: "Failed, share of units",
    LATENCY: "Latency, ms",
    LOG_LOSS: "Log loss, nats",
}
LOOKS = {"higher": "orange", "lower": "blue"}


def show_experiments() -> None:
    """Show the page."""
    show_header("Experiments", SENTENCE)
    with explained():
        found = read_record(layout().monitoring / "experiments.json", ExperimentResults, made_by=MONITOR)
        if not found.experiments:
            show_hint("there is no experiment", "kedro release route experiment add --help")
        for result in found.experiments:
            _show_experiment(result)
        st.caption(f"Judged at {moment(found.judged_at)} of event time; made anew by `{MONITOR}`.")


def _show_experiment(result: ExperimentResult) -> None:
    state = ":gray-badge[ended]" if result.until else ":green-badge[running]"
    show_section(result.name)
    until = f" until {moment(result.until)}" if result.until else ""
    where = f" · segment {plain(result.segment)}" if result.segment else ""
    st.markdown(f"{state} :gray[since {moment(result.since)} (record {result.seq}){until}{where}]")
    for line in void_reasons(result):
        st.error(f"Void: {plain(line)}.", icon=":material/error:")
    show_table(arm_table(result))
    if not result.differences:
        show_hint("one arm alone is compared with nothing", "kedro release route experiment add --help")
        return
    st.markdown(f"**Less arm {plain(result.arms[0].name)}**")
    show_table(difference_table(result))
    shown = [name for name in MEASURES if any(one.measure == name and one.looks for one in result.differences)]
    for column, name in zip(st.columns(max(len(shown), 1)), shown, strict=False):
        column.altair_chart(draw_looks(look_table(result.differences, name), NAMES[name]))
    st.caption(_ratios(result))


def arm_table(result: ExperimentResult) -> pd.DataFrame:
    """Return one row an arm, its cells in Markdown."""
    rows = [
        (
            f"**{plain(arm.name)}**",
            f"version {arm.version}",
            share(arm.share),
            f"{arm.n_units:,}",
            figure(arm.prediction),
            share(arm.errors),
            NOTHING if arm.latency_ms is None else f"{figure(arm.latency_ms)} ms",
            f"{arm.n_labelled:,}",
            figure(arm.log_loss),
            figure(arm.auc),
        )
        for arm in result.arms
    ]
    columns = ["Arm", "Decides", "Share", "Units", "Prediction", "Failed", "Latency", "Labelled", "Log loss", "AUC"]
    return pd.DataFrame(rows, columns=columns)


def difference_table(result: ExperimentResult) -> pd.DataFrame:
    """Return one row an arm and measure, its cells in Markdown; an arm that lost units is compared with nobody."""
    void = {ratio.arm for ratio in result.ratios if ratio.is_mismatch}
    rows = [
        (plain(one.arm), NAMES[one.measure], figure(one.difference), _interval(one), _finding(one, one.arm in void))
        for one in result.differences
    ]
    return pd.DataFrame(rows, columns=["Arm", "Measure", "Difference", f"{1 - ALPHA:.0%} interval", "Finding"])


def look_table(differences: Sequence[Difference], measure: str) -> pd.DataFrame:
    """Return the looks of a measure, one row an arm and look."""
    rows = [
        (one.arm, look.n_units, look.low, look.high)
        for one in differences
        if one.measure == measure
        for look in one.looks
    ]
    return pd.DataFrame(rows, columns=["arm", "n_units", "low", "high"])


def _interval(one: Difference) -> str:
    return f"{figure(one.looks[-1].low)} to {figure(one.looks[-1].high)}" if one.looks else NOTHING


def _finding(one: Difference, is_void: bool) -> str:
    if is_void:
        return ":red-badge[:material/block: void]"
    said = finding(one)
    return f":{LOOKS.get(said, 'gray')}-badge[{said}]"


def _ratios(result: ExperimentResult) -> str:
    """Return how many units each arm has beside the first one, and whether that is its share."""
    said = [
        f"arm {plain(ratio.arm)} {share(ratio.seen)} of the units of both, {share(ratio.expected)} expected"
        for ratio in result.ratios
    ]
    n = sum(arm.n_units for arm in result.arms)
    return (
        f"Sample ratio over {count(n, 'unit')}: {'; '.join(said)}. Latencies above {LATENCY_CAP_MS:g} ms count as that."
    )


show_experiments()
