"""`kedro monitor`: judge the released model now, and print what was found; its parts print what was found last."""

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from flightdeck.cli.monitor_experiments import experiments
from flightdeck.cli.run import error_of_ours
from flightdeck.core.layout import PROJECT, layout


@click.group(invoke_without_command=True)
@click.pass_context
def monitor(context: click.Context) -> None:
    """Join labels, measure quality, drift, skew and freshness, and print the alerts.

    The time of the judgement is the online store's watermark. Alerts go to the ledger and are no failure: exit code 0.
    """
    if context.invoked_subcommand is None:
        _judge()


monitor.add_command(experiments)


def _judge() -> None:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(PROJECT)
    try:
        with KedroSession.create(project_path=PROJECT) as session:
            session.run(pipeline_names=["monitoring"])  # type: ignore[call-arg]  # its base class lags behind
    except Exception as error:  # the process edge; what is not ours goes on
        ours = error_of_ours(error)
        if ours is None:
            raise
        click.secho(f"error: {ours}", fg="red", err=True)
        sys.exit(ours.exit_code)
    print_summary(json.loads((layout().monitoring / "summary.json").read_text(encoding="utf-8")), Console())


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print the content of `summary.json` as two tables: the figures, and the alerts if there are any."""
    if summary["message"]:
        console.print(f"[yellow]{summary['message']}[/yellow]")
    table = Table(title=f"monitoring as of {summary['as_of'] or 'never'}", show_header=False)
    for name, value in _rows(summary):
        table.add_row(name, value)
    console.print(table)
    if not summary["alerts"]:
        console.print("no alerts")
        return
    alerts = Table("alert", "about", "value", "threshold", "runbook", title="alerts")
    for alert in summary["alerts"]:
        alerts.add_row(
            alert["name"], alert["about"], _number(alert["value"]), _number(alert["threshold"]), alert["runbook"]
        )
    console.print(alerts)


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values in the order of reading."""
    modes = ", ".join(f"{mode} {n}" for mode, n in summary["by_mode"].items()) or "none"
    return [
        ("champion", "none" if summary["champion"] is None else f"version {summary['champion']}"),
        ("predictions", f"{summary['n_predictions']} ({modes})"),
        ("labelled, pending", f"{summary['n_labelled']}, {summary['n_pending']}"),
        ("AUC, log loss", f"{_number(summary['auc'])}, {_number(summary['log_loss'])}"),
        (
            "late, predicted late",
            f"{_number(summary['positive_rate'])}, {_number(summary['mean_probability'])}",
        ),
        ("drifted columns", f"{len(summary['drift_columns'])} of {summary['drift_judged']}"),
        ("skew", f"{summary['skew_mismatches']} of {summary['skew_compared']} values differ"),
        ("not fresh", ", ".join(summary["freshness_breaches"]) or "none"),
        ("p95 latency", f"{_number(summary['p95_ms'])} ms"),
    ]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
