"""Plots of the gate notebook. Each takes measured values and returns a matplotlib figure; none decides anything."""

import base64
import io
from collections.abc import Mapping
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from flightdeck.gates.checks import quality_table, shared_rows
from flightdeck.gates.evidence import Evidence, day_number
from flightdeck.gates.metrics import day_block_interval, log_losses, reliability, roc_auc
from flightdeck.gates.thresholds import Thresholds

BLUE, ORANGE, GREY, LIGHT, RED, INK = "#2b6cb0", "#dd6b20", "#8795a1", "#e4e7eb", "#c53030", "#1f2933"
Bundle = dict[str, str]
HORIZON_COLOURS = (BLUE, ORANGE, "#2f855a", "#6b46c1")
STYLE: Mapping[str, object] = {
    "figure.dpi": 110,
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


class Picture:
    """A figure as Jupyter shows it, with its titles as the text for those who do not see it."""

    def __init__(self, figure: Figure) -> None:
        self._figure = figure

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[Bundle, dict[str, Bundle]]:
        sink = io.BytesIO()
        self._figure.savefig(sink, format="png")
        titles = [axes.get_title(loc=side) for axes in self._figure.axes for side in ("left", "center")]
        alt = "; ".join(title for title in titles if title)
        return {"image/png": base64.b64encode(sink.getvalue()).decode()}, {"image/png": {"alt": f"plot: {alt}"}}


def use_style() -> None:
    """Set the look of all figures that follow in this process."""
    mpl.rcParams.update(STYLE)


def plot_ranking(evidence: Evidence, thresholds: Thresholds) -> Figure:
    """Return bars of ROC AUC: rules, fallback model and model at each horizon, with floors and the leakage ceiling."""
    figure, axes = _figure(7.6, 3.4)
    horizons = sorted(int(h) for h in evidence.predictions["horizon_min"].unique())
    columns = {"rules": "rule_probability", "fallback": "fallback_probability", "model": "probability"}
    for i, (name, column) in enumerate(columns.items()):
        values = []
        for horizon in horizons:
            rows = evidence.predictions[evidence.predictions["horizon_min"] == horizon]
            values.append(roc_auc(rows["label"].to_numpy(np.int64), rows[column].to_numpy(np.float64)))
        bars = axes.bar(
            np.arange(len(horizons)) + (i - 1) * 0.27, values, 0.25, color=(LIGHT, GREY, BLUE)[i], label=name
        )
        axes.bar_label(bars, fmt="%.3f", padding=2, fontsize=8.5)
    for i, horizon in enumerate(horizons):
        floor = thresholds.auc_at_least.get(str(horizon))
        if floor is not None:
            axes.hlines(floor, i - 0.42, i + 0.42, color=ORANGE, lw=1.8, label="floor" if i == 0 else "_")
    axes.axhline(thresholds.auc_at_most, color=RED, ls="--", lw=1.4, label="leakage ceiling")
    axes.set_xticks(range(len(horizons)), [f"{h} min ahead" for h in horizons])
    axes.set(ylim=(0.5, max(0.95, thresholds.auc_at_most + 0.05)), ylabel="ROC AUC", title="How well it ranks")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_reliability(evidence: Evidence) -> Figure:
    """Return observed against predicted rate in 15 bins by horizon, above the distribution of probabilities."""
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    top.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="perfect")
    for colour, (horizon, rows) in zip(HORIZON_COLOURS, evidence.predictions.groupby("horizon_min"), strict=False):
        label, probability = rows["label"].to_numpy(np.int64), rows["probability"].to_numpy(np.float64)
        predicted, observed, counts = reliability(label, probability)
        top.plot(predicted, observed, color=colour, lw=1.4)
        top.scatter(predicted, observed, s=12 + 160 * counts / counts.max(), color=colour, alpha=0.75, lw=0, zorder=3)
        top.plot([], [], "o-", color=colour, label=f"{horizon} min ahead")
        bottom.hist(probability, bins=np.linspace(0, 1, 51), histtype="step", color=colour, lw=1.3)
    top.set(ylabel="observed rate", title="Calibration (area of a dot: rows in the bin)", xlim=(0, 1), ylim=(0, 1))
    top.legend(loc="upper left")
    bottom.set(xlabel="predicted probability", ylabel="rows", yscale="log")
    return figure


def plot_months(evidence: Evidence, n_rows: int) -> Figure:
    """Return two panels by month of at least `n_rows` rows: ROC AUC at each horizon, predicted and observed rate."""
    month = evidence.month
    enough = month.groupby(month).transform("size") >= n_rows
    evidence = replace(evidence, predictions=evidence.predictions[enough].reset_index(drop=True))
    figure = Figure(figsize=(9.4, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (horizon, rows) in zip(HORIZON_COLOURS, evidence.predictions.groupby("horizon_min"), strict=False):
        part = replace(evidence, predictions=rows.reset_index(drop=True))
        table = quality_table(part, part.month)
        left.plot(table.index, table["AUC"], "o-", color=colour, label=f"{horizon} min ahead")
    table = quality_table(evidence, evidence.month)
    right.bar(table.index, table["rate"], 0.6, color=LIGHT, label="observed rate")
    right.plot(table.index, table["mean probability"], "o-", color=BLUE, label="mean probability")
    left.set(title="Ranking by month", ylabel="ROC AUC", ylim=(left.get_ylim()[0] - 0.02, left.get_ylim()[1] + 0.03))
    right.set(title="Level by month", ylabel="rate", ylim=(0, 1.35 * right.get_ylim()[1]))
    for axes in (left, right):
        axes.legend(loc="upper center", ncols=2)
        axes.grid(axis="x", visible=False)
    return figure


def plot_segments(table: pd.DataFrame, overall_auc: float, n_rows: int) -> Figure:
    """Return dots of ROC AUC and ECE by segment, most rows first; segments below `n_rows` rows are hollow."""
    table = table.sort_values("rows")
    figure = Figure(figsize=(9.4, 1.1 + 0.26 * len(table)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [f"{name}  ({rows:,.0f})" for name, rows in table["rows"].items()]
    enough = (table["rows"] >= n_rows).to_numpy()
    for axes, measure in ((left, "AUC"), (right, "ECE")):
        values = table[measure].to_numpy(np.float64)
        axes.hlines(names, overall_auc if measure == "AUC" else 0, values, color=GREY, lw=2)
        axes.scatter(values, names, s=34, color=np.where(enough, BLUE, "white"), edgecolor=BLUE, zorder=3)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.margins(y=0.5 / len(table))
    left.axvline(overall_auc, color=ORANGE, lw=1.2)
    low, high = left.get_xlim()
    left.set(title=f"ROC AUC by {table.index.name} (rows; line: all)", xlim=(low - 0.02, high + 0.02))
    right.set(title=f"Calibration error by {table.index.name}", xlim=(0, None))
    return figure


def plot_champion(evidence: Evidence, bound: float) -> Figure:
    """Return the draft's log loss above the champion's by day, with the day-block interval of the mean."""
    shared = shared_rows(evidence)
    label = shared["label"].to_numpy(np.int64)
    excess = log_losses(label, shared["probability"].to_numpy(np.float64)) - log_losses(
        label, shared["champion_probability"].to_numpy(np.float64)
    )
    mean, low, high = day_block_interval(excess, day_number(shared))
    by_day = pd.Series(excess).groupby(shared["request_timestamp"].dt.floor("D")).mean()
    figure, axes = _figure(9.4, 3.0)
    axes.axhline(0, color=GREY, lw=1)
    axes.bar(by_day.index, by_day, 0.9, color=np.where(by_day > 0, ORANGE, BLUE))
    axes.axhspan(low, high, color=INK, alpha=0.15, lw=0, label="95 % interval of the mean")
    axes.axhline(mean, color=INK, lw=1.2, label=f"mean {mean:+.4f}")
    axes.axhline(bound, color=RED, lw=1.2, ls="--", label="bound")
    axes.set(title="Log loss above the champion's, by day", ylabel="nats (below 0: better)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_latency(latency_ms: NDArray[np.float64], bound_ms: float) -> Figure:
    """Return a histogram of single-row times with their 95th percentile."""
    p95 = float(np.quantile(latency_ms, 0.95))
    figure, axes = _figure(6.4, 2.4)
    axes.hist(latency_ms, bins=40, range=(0.0, p95 * 1.5), color=BLUE)
    axes.axvline(p95, color=ORANGE, lw=1.8, label=f"p95 {p95:.3f} ms (bound {bound_ms:g} ms)")
    axes.set(title="One row through the exported model", xlabel="milliseconds", ylabel="calls")
    axes.legend()
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
