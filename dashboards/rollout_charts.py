"""The charts of rollouts and experiments. Times are shown in UTC; a colour never says anything that words do not."""

import altair as alt
import pandas as pd

from dashboards.charts import AMBER, BLUE, GRAY, RED, VIOLET

_COLOURS = [BLUE, AMBER, VIOLET, "#2c8a6b", RED, GRAY]
_LEGEND = alt.Legend(orient="top", title=None, labelLimit=300, symbolType="square")


def draw_shares(shares: pd.DataFrame) -> alt.Chart:
    """Return who decides for what share of the units, over time."""
    rows = shares.assign(when=shares["at"].dt.strftime("%d %b %H:%M UTC"))
    chart: alt.Chart = (
        alt.Chart(rows, height=230)
        .mark_area(interpolate="step-after", opacity=0.9)
        .encode(
            x=alt.X(
                "at:T",
                title="time (UTC)",
                scale=alt.Scale(type="utc"),
                axis=alt.Axis(format="%d %b %H:%M", grid=False, tickCount=8, labelOverlap=True),
            ),
            y=alt.Y(
                "share:Q",
                title="share of the units",
                stack="zero",
                axis=alt.Axis(format=".0%", tickCount=5),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color("version:N", legend=_LEGEND, scale=alt.Scale(range=_COLOURS)),
            tooltip=[alt.Tooltip("when:N", title="from"), "version:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    return chart


def draw_groups(groups: pd.DataFrame) -> alt.LayerChart:
    """Return the mean difference of a shadow by group, with zero as a line."""
    rows = groups.assign(what=groups["group"].where(groups["group"] != "all", "all items"))
    base = alt.Chart(rows, height=30 * len(rows) + 60)
    bars = base.mark_bar(size=14, color=BLUE).encode(
        x=alt.X("mean_difference:Q", title="mean of shadow less champion, probability", axis=alt.Axis(tickCount=6)),
        y=alt.Y("what:N", title=None, sort=rows["what"].tolist(), axis=alt.Axis(labelLimit=260)),
        tooltip=[
            alt.Tooltip("what:N", title="group"),
            alt.Tooltip("n:Q", title="items", format=","),
            alt.Tooltip("mean_difference:Q", format="+.4f"),
            alt.Tooltip("mean_absolute_difference:Q", format=".4f"),
        ],
    )
    layers: alt.LayerChart = bars + alt.Chart().mark_rule(color=GRAY).encode(x=alt.datum(0))
    return layers


def draw_looks(looks: pd.DataFrame, unit: str) -> alt.LayerChart:
    """Return how the interval of a difference narrowed with the units: one band an arm.

    Parameters
    ----------
    looks
        `arm`, `n_units`, `low`, `high`.
    unit
        Name of the measure with its unit.
    """
    legend = _LEGEND if len(set(looks["arm"])) > 1 else None
    base = alt.Chart(looks, height=190).encode(
        x=alt.X(
            "n_units:Q",
            title="units of both arms",
            scale=alt.Scale(type="log", nice=False),
            axis=alt.Axis(format="~s", grid=False, tickCount=4),
        ),
        color=alt.Color("arm:N", legend=legend, scale=alt.Scale(range=_COLOURS)),
        tooltip=[
            "arm:N",
            alt.Tooltip("n_units:Q", title="units", format=","),
            alt.Tooltip("low:Q", format="+.4f"),
            alt.Tooltip("high:Q", format="+.4f"),
        ],
    )
    band = base.mark_area(opacity=0.25, line=True).encode(
        y=alt.Y("low:Q", title=unit, axis=alt.Axis(tickCount=5)), y2="high:Q"
    )
    ends = base.mark_line(strokeWidth=1).encode(y="high:Q")
    zero = alt.Chart().mark_rule(color=GRAY, strokeDash=[4, 3]).encode(y=alt.datum(0))
    layers: alt.LayerChart = band + ends + zero
    return layers
