"""The charts, drawn from tables. Times are shown in UTC; a colour never says anything that words do not."""

import altair as alt
import pandas as pd

BLUE, AMBER, VIOLET, RED, GRAY = "#1f5f99", "#b86a14", "#7d4fa0", "#b3362c", "#5d6b7a"
# the modes as the theme names their colours, for the legend in words: draw_* below leave it out
MODE_NAMES = {"model": "blue", "fallback": "orange", "rules": "violet", "refused": "red"}
MODES = {"model": BLUE, "fallback": AMBER, "rules": VIOLET, "refused": RED}
DRIFTED, WITHIN = "above its threshold", "within its threshold"
N_DRIFT_BARS = 15
_LEGEND = alt.Legend(orient="top", title=None, labelLimit=300, symbolType="square")
_UTC = alt.Scale(type="utc")


def draw_answers_by_hour(answers: pd.DataFrame) -> alt.Chart:
    """Return answers by hour of request time, stacked by mode."""
    by_hour = answers.groupby(["hour", "mode"], as_index=False)["n"].sum()
    by_hour["rank"] = by_hour["mode"].map(_rank)
    by_hour["at"] = by_hour["hour"].dt.strftime("%d %b %H:%M UTC")
    chart: alt.Chart = (
        alt.Chart(by_hour, height=210)
        .mark_bar(size=12)
        .encode(
            x=alt.X("hour:T", title="hour of the request (UTC)", scale=_UTC, axis=alt.Axis(format="%H:%M", grid=False)),
            y=alt.Y("n:Q", title="answers", axis=alt.Axis(format=",.0f", tickCount=5)),
            color=_by_mode(),
            order="rank:Q",
            tooltip=[alt.Tooltip("at:N", title="hour"), "mode:N", alt.Tooltip("n:Q", title="answers", format=",")],
        )
    )
    return chart


def draw_answers_by_surface(answers: pd.DataFrame) -> alt.Chart:
    """Return answers by surface, stacked by mode."""
    by_surface = answers.groupby(["surface", "mode"], as_index=False)["n"].sum()
    by_surface["rank"] = by_surface["mode"].map(_rank)
    widest = 1.08 * float(answers.groupby("surface")["n"].sum().max())
    chart: alt.Chart = (
        alt.Chart(by_surface, height=210)
        .mark_bar(size=26)
        .encode(
            x=alt.X(
                "n:Q", title="answers", axis=alt.Axis(format=",.0f", tickCount=3), scale=alt.Scale(domainMax=widest)
            ),
            y=alt.Y("surface:N", title=None),
            color=_by_mode(),
            order="rank:Q",
            tooltip=["surface:N", "mode:N", alt.Tooltip("n:Q", title="answers", format=",")],
        )
    )
    return chart


def draw_auc(quality: pd.DataFrame) -> alt.LayerChart:
    """Return the AUC of each window, the size of a point by its labelled answers."""
    rows = _windows(quality[quality["auc"].notna()])
    base = alt.Chart(rows, height=250).encode(
        x=_window_axis(),
        y=alt.Y("auc:Q", title="ROC AUC", scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(tickCount=5)),
        tooltip=[
            alt.Tooltip("window:N"),
            alt.Tooltip("auc:Q", title="AUC", format=".3f"),
            alt.Tooltip("log_loss:Q", title="log loss", format=".3f"),
            alt.Tooltip("n_labelled:Q", title="labelled answers", format=","),
        ],
    )
    points = base.mark_point(filled=True, color=BLUE, opacity=1).encode(
        size=alt.Size("n_labelled:Q", scale=alt.Scale(range=[20, 140]), legend=None)
    )
    layers: alt.LayerChart = base.mark_line(color=BLUE, strokeWidth=2) + points
    return layers


def draw_calibration(quality: pd.DataFrame) -> alt.Chart:
    """Return the mean probability and the rate that came true, by window."""
    names = {"mean_probability": "predicted", "positive_rate": "observed"}
    rows = _windows(quality[quality["positive_rate"].notna()]).rename(columns=names)
    long = rows.melt(["window_start", "window", "n_labelled"], list(names.values()), "kind", "rate")
    chart: alt.Chart = (
        alt.Chart(long, height=250)
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=36))
        .encode(
            x=_window_axis(),
            y=alt.Y("rate:Q", title="share of answers", axis=alt.Axis(format=".0%", tickCount=5)),
            color=alt.Color("kind:N", legend=None, scale=alt.Scale(domain=list(names.values()), range=[BLUE, AMBER])),
            strokeDash=alt.StrokeDash(
                "kind:N", legend=None, scale=alt.Scale(domain=list(names.values()), range=[[1, 0], [5, 3]])
            ),
            tooltip=[
                alt.Tooltip("window:N"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("rate:Q", format=".1%"),
                alt.Tooltip("n_labelled:Q", title="labelled answers", format=","),
            ],
        )
    )
    return chart


def draw_drift(drift: pd.DataFrame) -> alt.LayerChart:
    """Return the index of the columns nearest to their threshold or above it, each with its threshold as a tick."""
    judged = drift[drift["psi"].notna() & drift["threshold"].gt(0)]
    order = (judged["psi"] / judged["threshold"]).sort_values(ascending=False).index[:N_DRIFT_BARS]
    rows = judged.loc[order, ["column", "psi", "threshold"]].assign(
        state=judged["breached"].map({True: DRIFTED, False: WITHIN})
    )
    base = alt.Chart(rows, height=24 * len(rows) + 90).encode(
        y=alt.Y(
            "column:N", title=None, sort=rows["column"].tolist(), axis=alt.Axis(labelLimit=330, labelOverlap=False)
        ),
        tooltip=["column:N", "state:N", alt.Tooltip("psi:Q", format=".3f"), alt.Tooltip("threshold:Q", format=".3f")],
    )
    bars = base.mark_bar(size=13).encode(
        x=alt.X(
            "psi:Q",
            title="population stability index; the tick is the column's own threshold",
            axis=alt.Axis(tickCount=6),
        ),
        color=alt.Color("state:N", legend=_LEGEND, scale=alt.Scale(domain=[WITHIN, DRIFTED], range=[BLUE, RED])),
    )
    layers: alt.LayerChart = bars + base.mark_tick(color="#1d2733", thickness=2, size=19).encode(x="threshold:Q")
    return layers


def _rank(mode: str) -> int:
    """Return the place of a mode in a stack, from below; one that is not known lies on top."""
    return list(MODES).index(mode) if mode in MODES else len(MODES)


def _by_mode() -> alt.Color:
    return alt.Color("mode:N", legend=None, scale=alt.Scale(domain=list(MODES), range=list(MODES.values())))


def _window_axis() -> alt.X:
    return alt.X(
        "window_start:T", title="time of the request (UTC)", scale=_UTC, axis=alt.Axis(format="%H:%M", grid=False)
    )


def _windows(quality: pd.DataFrame) -> pd.DataFrame:
    text = quality["window_start"].dt.strftime("%d %b %H:%M to ") + quality["window_end"].dt.strftime("%H:%M UTC")
    return quality.assign(window=text)
