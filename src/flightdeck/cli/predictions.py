"""`kedro predictions`: the prediction log as Parquet files."""

import time
from pathlib import Path

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import layout
from flightdeck.inference.prediction_log_compact import Compacted, compact, compacting

EVERY_S = 30.0


@click.group()
def predictions() -> None:
    """Look after the prediction log."""


@predictions.command("compact")
@click.option("--follow", is_flag=True, help="Go on until stopped; killing it loses nothing.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.1),
    default=EVERY_S,
    show_default=True,
    help="Seconds between rounds of --follow: each makes a file of what a process wrote meanwhile.",
)
@click.option(
    "--delete-segments", is_flag=True, help="Delete segments that are finished, undamaged and all in Parquet."
)
@reports_errors
def compact_log(follow: bool, every_s: float, delete_segments: bool) -> None:
    """Make Parquet files of what the service wrote, beside its segments, while it writes.

    Then: select * from read_parquet('data/07_model_output/predictions/*.parquet', union_by_name = true).
    """
    folder = layout().prediction_log
    try:
        _compact(folder, delete_segments, every_s if follow else None)
    except OSError as error:
        raise FlightdeckError(
            f"making the prediction log {folder} columnar: {error}",
            next_step="free the disk or restore the folder, then start again: it goes on where it was",
        ) from error


def _compact(folder: Path, delete_segments: bool, every_s: float | None) -> None:
    """Do one round and say so; with `every_s` go on for ever, and speak when there was something to do."""
    with compacting(folder):
        _tell(compact(folder, delete_segments=delete_segments))
        while every_s is not None:
            time.sleep(every_s)
            done = compact(folder, delete_segments=delete_segments)
            if done != Compacted():
                _tell(done)


def _tell(done: Compacted) -> None:
    deleted = f"; {done.n_deleted:,} segments deleted" if done.n_deleted else ""
    click.echo(f"{done.n_records:,} records in {done.n_parts:,} new Parquet files{deleted}")
