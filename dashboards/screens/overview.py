"""Overview: what is live, whether the objectives are met, what is asked, how good the answers are, what alarms."""

from contextlib import suppress
from pathlib import Path

import streamlit as st

from dashboards import charts, reports
from dashboards.alerts import show_alerts
from dashboards.live_now import show_live_now
from dashboards.live_traffic import LiveTraffic
from dashboards.objectives import judge_objectives, overall
from dashboards.panels import explained, show_header, show_hint, show_rows, show_section, show_status, show_tiles
from dashboards.releases import Decisions, read_decisions
from dashboards.reports import Replay, Summary
from dashboards.sources import Unreadable
from dashboards.wording import count, figure, moment
from flightdeck.core.clock import from_us
from flightdeck.core.errors import NotFoundError
from flightdeck.core.layout import Layout, layout

REFRESH_S = 5.0


@st.fragment(run_every=REFRESH_S)
def show_overview() -> None:
    """Show the page, and read everything again every few seconds."""
    where = layout()
    show_header("Overview", f"What is live and how it is doing. Everything here is read again every {REFRESH_S:.0f} s.")
    headline = st.container(horizontal=True, vertical_alignment="center")
    show_section("Live now")
    decisions: Decisions | None = None
    with explained():
        decisions = read_decisions(where)
        show_live_now(decisions)
    show_section("Objectives")
    summary, replay = _read_judged(where)
    tiles = judge_objectives(summary, replay)
    show_tiles(tiles)
    _show_traffic(where)
    _show_quality(where, summary)
    alerts = summary.alerts if summary else ()
    show_alerts(alerts, decisions.records if decisions else [], is_judged=summary is not None)
    with headline:
        show_status(*overall(tiles, len(alerts)))
        if summary is not None and summary.as_of:
            st.caption(f"Judged at {moment(summary.as_of)} of event time", width="content")


def _read_judged(where: Layout) -> tuple[Summary | None, Replay | None]:
    """Return the reports of monitoring and of the last replay, None where missing or damaged, which is shown."""
    summary: Summary | None = None
    replay: Replay | None = None
    with explained():
        summary = reports.read_summary(where)
        if summary.message:
            show_hint(summary.message)
    with explained(), suppress(NotFoundError):  # the tile says that there was none
        replay = reports.read_replay(where)
    return summary, replay


@st.cache_resource
def _traffic(folder: Path) -> LiveTraffic:
    """Return the counters of a prediction log, shared by all visitors."""
    return LiveTraffic(folder)


def _show_traffic(where: Layout) -> None:
    """Show the answers of the last 24 hours of request time, as they are logged."""
    traffic = _traffic(where.prediction_log)
    show_section("Requests")
    with explained():
        try:
            traffic.refresh()
        except OSError as error:
            raise Unreadable(f"the prediction log cannot be read: {error}", next_step="mend the folder") from error
        if traffic.newest_us is None:
            raise NotFoundError("no request has been answered yet", next_step=reports.REPLAY)
        answers = traffic.latest()
        st.markdown(
            ":gray[Answered by]  " + "  ".join(f":{colour}[■] {mode}" for mode, colour in charts.MODE_NAMES.items())
        )
        by_hour, by_surface = st.columns([3, 2], gap="large")
        said = f"{count(int(answers['n'].sum()), 'answer')} in the 24 h up to {moment(from_us(traffic.newest_us))}"
        by_hour.markdown(f"**By hour and mode** :gray[· {said}]")
        by_hour.altair_chart(charts.draw_answers_by_hour(answers))
        by_surface.markdown("**By surface and mode** :gray[· same hours]")
        by_surface.altair_chart(charts.draw_answers_by_surface(answers))
        _show_latency(where)


def _show_latency(where: Layout) -> None:
    with st.expander("Latency by surface, mode and version, as judged by monitoring"), explained():
        rows = reports.read_serving(where).sort_values("n", ascending=False)
        number = st.column_config.NumberColumn
        show_rows(
            rows,
            surface="Surface",
            mode="Mode",
            arm="Arm",
            model_version="Version",
            n=number("Answers", format="localized"),
            p50_ms=number("p50 (ms)", format="%.1f"),
            p95_ms=number("p95 (ms)", format="%.1f"),
        )


def _show_quality(where: Layout, summary: Summary | None) -> None:
    """Show quality by window of request time, of the answers whose outcome is known."""
    show_section(
        "Quality over time",
        "All answers whose outcome is known, whenever they were asked: other questions than the gate's, other figures.",
    )
    with explained():
        quality = reports.read_quality(where)
        if not quality["n_labelled"].sum():
            raise NotFoundError("no outcome is known yet", next_step="let the day go on, then kedro monitor")
        auc, calibration = st.columns(2, gap="large")
        overall_auc = f" :gray[· {figure(summary.auc)} over {summary.n_labelled:,} labelled]" if summary else ""
        auc.markdown(f"**ROC AUC**{overall_auc}")
        auc.altair_chart(charts.draw_auc(quality))
        log_loss = f" :gray[· log loss {figure(summary.log_loss)}, {summary.n_pending:,} pending]" if summary else ""
        calibration.markdown(f"**:blue[Predicted] (solid) and :orange[observed] (dashed)**{log_loss}")
        calibration.altair_chart(charts.draw_calibration(quality))


show_overview()
