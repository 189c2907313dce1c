"""Drift and skew: whether the world has moved away from training, and whether serving computes what training did."""

import pandas as pd
import streamlit as st

from dashboards import charts, reports
from dashboards.panels import explained, show_header, show_hint, show_page, show_rows, show_section
from dashboards.reports import MONITOR
from dashboards.sources import readable_page
from dashboards.wording import count, figure
from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.core.layout import Layout, layout

DRIFT_SENTENCE = (
    "Drift: the inputs or the predictions of the newest day are distributed otherwise than in training. Each column "
    "has a threshold of its own, resampled from whole days of the reference: 99 healthy days in 100 stay below it."
)
SKEW_SENTENCE = (
    "Skew: a feature as it was served differs from the same feature recomputed offline from the event log. Both sides "
    "see the same moment, so on a healthy day not one value differs."
)
EVIDENTLY_SENTENCE = (
    "Evidently's report of the columns nearest to their threshold. It bins by its own rule, so its scores differ from "
    "the table's; the table is what alerts are raised from."
)
ALL, MISMATCHED = "All features", "Mismatched only"


def show_drift_and_skew() -> None:
    """Show the page."""
    where = layout()
    show_header("Drift & skew", "Has the world moved away from training, and does serving compute what training did?")
    show_section("Drift", DRIFT_SENTENCE)
    with explained():
        _show_drift(where)
    show_section("Training-serving skew", SKEW_SENTENCE)
    with explained():
        _show_skew(where)


def _show_drift(where: Layout) -> None:
    drift = reports.read_drift(where)
    if drift.empty:
        raise NotFoundError("nothing was compared: there is no champion, or no prediction of it", next_step=MONITOR)
    chart, table, report = st.tabs(
        ["Nearest to their threshold", "All columns", "Evidently report"], on_change="rerun", key="drift_view"
    )
    with chart:
        _show_drift_headline(where, drift)
        if drift["psi"].notna().any():
            st.altair_chart(charts.draw_drift(drift))
        else:
            show_hint(f"no column was judged: {'; '.join(sorted(set(drift['note']) - {''}))}", MONITOR)
    with table:
        _show_drift_table(drift)
    if report.open:
        with report, explained():
            st.caption(EVIDENTLY_SENTENCE)
            show_page(readable_page(where.monitoring / "drift.html", made_by=MONITOR), "Evidently drift report")


def _show_drift_headline(where: Layout, drift: pd.DataFrame) -> None:
    """Say how many columns drifted, how many may on a healthy day, and what the prediction does."""
    inputs, prediction = (drift[drift["kind"] == kind] for kind in ("input", "prediction"))
    n_drifted, n_judged = int(inputs["breached"].sum()), int(inputs["psi"].notna().sum())
    limit = _limit(where)
    is_alarm = limit is not None and n_drifted > limit
    look = (
        ":red-badge[:material/error: more than a healthy day]"
        if is_alarm
        else ":green-badge[:material/check: within a healthy day]"
    )
    allowed = f", up to {figure(limit)} may on a healthy day" if limit is not None else ""
    said = [f"{look} {n_drifted} of {count(n_judged, 'input')} above the threshold{allowed}."]
    if len(prediction) and prediction["psi"].notna().all():
        row = prediction.iloc[0]
        word = "above" if row["breached"] else "within"
        said.append(
            f"The prediction's index is {figure(row['psi'])}, {word} its threshold of {figure(row['threshold'])}."
        )
    st.markdown("  \n".join(said))


def _limit(where: Layout) -> float | None:
    try:
        return reports.read_summary(where).drift_limit
    except FlightdeckError:
        return None  # the overview says what is wrong with the summary


def _show_drift_table(drift: pd.DataFrame) -> None:
    rows = drift.assign(
        ratio=drift["psi"] / drift["threshold"],
        state=drift.apply(lambda row: _state(row["psi"], row["breached"]), axis=1),
    ).sort_values("ratio", ascending=False)
    number = st.column_config.NumberColumn
    reasons = ["note"] if rows["note"].ne("").any() else []
    show_rows(
        rows[["column", "kind", "state", "psi", "threshold", "n_current", *reasons]],
        height=560,
        column=st.column_config.TextColumn("Column", width="medium"),
        kind="Kind",
        state="Result",
        psi=number("PSI", format="%.3f"),
        threshold=number("Threshold", format="%.3f"),
        n_current=number("Predictions", format="localized"),
        note=st.column_config.TextColumn("Why not judged", width="large"),
    )


def _state(psi: float, breached: bool) -> str:
    if pd.isna(psi):
        return "not judged"
    return "drifted" if breached else "within"


def _show_skew(where: Layout) -> None:
    skew = reports.read_skew(where)
    n_compared, n_mismatched = int(skew["n_compared"].sum()), int(skew["n_mismatched"].sum())
    if not n_compared:
        raise NotFoundError("no served feature has been compared yet", next_step=MONITOR)
    if n_mismatched:
        look = f":red-badge[:material/error: {count(n_mismatched, 'mismatch', 'mismatches')}]"
    else:
        look = ":green-badge[:material/check_circle: no mismatch]"
    st.markdown(f"{look} in {count(n_compared, 'value')} of {count(len(skew), 'feature')}.")
    shown = st.segmented_control("Show", [ALL, MISMATCHED], default=ALL, required=True, label_visibility="collapsed")
    rows = skew[skew["n_mismatched"] > 0] if shown == MISMATCHED else skew
    if rows.empty:
        st.markdown(":gray[No feature differs.]")
        return
    rows = rows.sort_values(["n_mismatched", "feature"], ascending=[False, True])
    number = st.column_config.NumberColumn
    show_rows(
        rows.assign(state=(rows["n_mismatched"] > 0).map({True: "differs", False: "same"}))[
            ["feature", "state", "n_compared", "n_mismatched", "max_abs_difference"]
        ],
        height=460,
        feature=st.column_config.TextColumn("Feature", width="large"),
        state="Result",
        n_compared=number("Values compared", format="localized"),
        n_mismatched=number("Mismatches", format="localized"),
        max_abs_difference=number("Largest difference", format="%.3g"),
    )


show_drift_and_skew()
