"""`kedro predictions`: the prediction log and the shadow log as Parquet files."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import Layout, layout
from flightdeck.inference.prediction_log_compact import Compacted, compact, compacting

EVERY_S = 30.0


@click.group()
def predictions() -> None:
    """Look after the prediction log and the shadow log."""


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

    Then: select * from read_parquet('data/07_model_output/predictions/*.parquet', union_by_name = true). What shadows
    predicted is a log of its own, data/07_model_output/shadow, and is made Parquet likewise.
    """
    place = layout()
    with ExitStack() as held:
        for folder in (place.prediction_log, place.shadow_log):
            with _own_errors(folder):
                held.enter_context(compacting(folder))
        _round(place, delete_segments, is_first=True)
        while follow:
            time.sleep(every_s)
            _round(place, delete_segments)


def _round(place: Layout, delete_segments: bool, *, is_first: bool = False) -> None:
    """Compact both logs once and say what was done, of the predictions at first also that there was nothing."""
    for folder, of_whom in ((place.prediction_log, ""), (place.shadow_log, " of shadows")):
        with _own_errors(folder):
            done = compact(folder, delete_segments=delete_segments)
        if done != Compacted() or (is_first and not of_whom):
            deleted = f"; {done.n_deleted:,} segments deleted" if done.n_deleted else ""
            click.echo(f"{done.n_records:,} records{of_whom} in {done.n_parts:,} new Parquet files{deleted}")


@contextmanager
def _own_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FlightdeckError(
            f"making the log {folder} columnar: {error}",
            next_step="free the disk or restore the folder, then start again: it goes on where it was",
        ) from error
