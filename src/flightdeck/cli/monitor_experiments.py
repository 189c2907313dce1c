"""`kedro monitor experiments`: how the arms of experiments did when monitoring looked last."""

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flightdeck.cli.errors import reports_errors
from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.core.layout import layout
from flightdeck.monitoring.experiment_report import (
    ALPHA,
    LATENCY_CAP_MS,
    ExperimentResult,
    ExperimentResults,
    finding,
    void_reasons,
)


@click.command()
@reports_errors
def experiments() -> None:
    """Show the arms of each experiment, and how far they differ from the first arm.

    Intervals hold however often one looks. Shown is what `kedro monitor` found last.
    """
    print_results(read_results(layout().monitoring / "experiments.json"), Console())


def read_results(path: Path) -> ExperimentResults:
    """Return what monitoring wrote about experiments.

    Raises
    ------
    NotFoundError
        If monitoring has not looked yet.
    FlightdeckError
        If the file is not what monitoring writes.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=ExperimentResults)
    except FileNotFoundError as error:
        raise NotFoundError("no experiment has been looked at yet", next_step="kedro monitor") from error
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FlightdeckError(f"reading {path}: {error}", next_step="make it anew: kedro monitor") from error


def print_results(results: ExperimentResults, console: Console) -> None:
    """Print two tables an experiment: its arms, and their differences to the first one."""
    console.print(f"experiments as of {results.judged_at or 'never'}")
    if not results.experiments:
        console.print("there is none; begin one: kedro release route experiment add --help")
    for result in results.experiments:
        _print_result(result, console)


def _print_result(result: ExperimentResult, console: Console) -> None:
    where = f" in segment {result.segment}" if result.segment else ""
    until = f"until {result.until:%Y-%m-%d %H:%M} UTC" if result.until else "running"
    since = f"since record {result.seq}, {result.since:%Y-%m-%d %H:%M} UTC, {until}"
    console.print(_arms(result, escape(f"experiment {result.name}{where}, {since}")))
    for line in void_reasons(result):
        console.print(f"[red]void: {escape(line)}[/red]")
    if result.differences:
        console.print(_differences(result))


def _arms(result: ExperimentResult, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in (
        "arm",
        "version",
        "share",
        "units",
        "prediction",
        "failed",
        "latency",
        "labelled",
        "log loss",
        "AUC",
    ):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm in result.arms:
        table.add_row(
            arm.name,
            str(arm.version),
            f"{arm.share:.4g}",
            f"{arm.n_units:,}",
            _figure(arm.prediction),
            "-" if arm.errors is None else f"{arm.errors:.2%}",
            "-" if arm.latency_ms is None else f"{arm.latency_ms:.3g} ms",
            f"{arm.n_labelled:,}",
            _figure(arm.log_loss),
            _figure(arm.auc),
        )
    return table


def _differences(result: ExperimentResult) -> Table:
    table = Table(
        title=f"less arm {result.arms[0].name}; {1 - ALPHA:.0%} intervals that hold at every look",
        caption=f"latencies above {LATENCY_CAP_MS:g} ms count as that",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("arm", "measure", "difference", "from", "to", ""):
        table.add_column(column, justify="right" if column in ("difference", "from", "to") else "left")
    for one in result.differences:
        low, high = (_figure(one.looks[-1].low), _figure(one.looks[-1].high)) if one.looks else ("-", "-")
        table.add_row(one.arm, one.measure.removesuffix("_ms"), _figure(one.difference), low, high, finding(one))
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
