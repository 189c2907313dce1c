"""`kedro audit`: whether the release ledger is what was written, signed checkpoints of it, and its records as text.

Exit codes of `verify`: 0 whole, 3 not what was written, 4 could not be checked. Orders that wait for their record make
no difference to it: they are told of, and say nothing about what was written.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import IO

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import AuditFailed, AuditImpossible, FlightdeckError, LedgerCorrupt
from flightdeck.core.layout import layout
from flightdeck.release.audit import audit as compare
from flightdeck.release.checkpoints import CheckpointLog, split_lines
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.ledger_config import read_ledger_places
from flightdeck.release.orders import Order, read_orders
from flightdeck.release.record import follow_chain
from flightdeck.release.signing import read_public_key

EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def audit() -> None:
    """Check the release ledger against its signed checkpoints, sign it, export it.

    Checkpoints are signed after each decision and kept outside the database. Copy their file to where nobody who can
    write to this machine can write, and compare with the copy.
    """


@audit.command()
@click.option("--copy", type=EXISTING, help="Copy of the file of checkpoints, kept elsewhere.")
@click.option("--key", type=EXISTING, help="Public key kept elsewhere; the one beside the checkpoints where left out.")
@reports_errors
def verify(copy: Path | None, key: Path | None) -> None:
    """Compare all records, their meaning, the guards and every checkpoint: exit code 0 whole, 3 tampered, 4 unknown."""
    started_s = perf_counter()
    with _exit_codes():
        ledger, checkpoints = _opened()
        lines = checkpoints.lines()  # before the records: what is appended meanwhile is beyond them
        if not ledger.exists() and not lines:
            raise AuditImpossible(f"verifying: there is neither a ledger at {ledger.place} nor a checkpoint of one")
        if not lines and not checkpoints.public_key.exists() and copy is None:
            raise AuditImpossible(
                f"verifying {ledger.place}: no checkpoint was ever signed in {checkpoints.path.parent}",
                next_step="kedro audit checkpoint signs the ledger as it is now",
            )
        public = read_public_key(key or checkpoints.public_key)
        copied = split_lines(copy.read_bytes()) if copy is not None else []
        if ledger.exists():
            with ledger.snapshot() as session:
                problems = session.problems()
                found = compare(session.rows(1), lines, public, copy=copied)
        else:
            problems, found = [], compare([], lines, public, copy=copied)
    problems += found.problems
    if problems:
        raise AuditFailed(
            "\n  - ".join([f"the ledger {ledger.place} is not what was written:", *map(_inert, problems)]),
            next_step="release nothing; keep ledger and checkpoints as they are, compare with the newest backup",
        )
    click.echo(
        f"{found.n_records:,} records and {found.n_checkpoints:,} checkpoints are what was written "
        f"({perf_counter() - started_s:.1f} s)"
    )
    if found.n_uncovered:
        click.secho(
            f"warning: {found.n_uncovered} decisions are newer than the newest checkpoint; "
            "if nobody is deciding right now, sign them: kedro audit checkpoint",
            fg="yellow",
            err=True,
        )
    _tell_of_orders(read_orders(layout().orders))


@audit.command()
@reports_errors
def checkpoint() -> None:
    """Sign the last record, so that nothing before it can be changed or cut off unseen."""
    with _exit_codes():
        ledger, checkpoints = _opened()
        signed = ledger.checkpoint()
    if signed is None:
        click.echo("there is no record to sign")
        return
    click.echo(f"record {signed.seq} ({signed.digest[:16]}) is signed by key {signed.key} in {checkpoints.path}")


@audit.command()
@click.option("--out", type=click.File("w", encoding="ascii"), default="-", help="File; standard output by default.")
@reports_errors
def export(out: IO[str]) -> None:
    """Write all records as JSON lines, oldest first; whatever a name or a reason holds, it stays text on its line."""
    with _exit_codes():
        ledger, _ = _opened()
        if not ledger.exists():
            raise AuditImpossible(f"exporting: there is no ledger at {ledger.place}")
        with ledger.snapshot() as session:
            for seq, at, action, actor, subject, detail, previous, digest in follow_chain(session.rows(1)):
                record = {"seq": seq, "recorded_at": at, "action": action, "actor": actor, "subject": subject}
                digests = {"previous_digest": previous, "digest": digest}
                out.write(json.dumps({**record, "detail": json.loads(detail), **digests}).replace("\x7f", "\\u007f"))
                out.write("\n")


def _tell_of_orders(waiting: Sequence[Order]) -> None:
    """Say which rollbacks the service obeys that the ledger does not know yet."""
    if waiting:
        oldest = waiting[0]
        click.secho(
            f"warning: {len(waiting)} rollbacks that the service obeys are not in the ledger yet, the oldest by "
            f"{_inert(oldest.by)} at {oldest.at:%Y-%m-%d %H:%M:%S} UTC; record them: kedro release reconcile",
            fg="yellow",
            err=True,
        )


def _opened() -> tuple[Ledger, CheckpointLog]:
    """Return the ledger as it is, and its checkpoints."""
    where, places = layout(), read_ledger_places()
    checkpoints = places.checkpoint_log(where)
    return open_ledger(places.ledger(where.ledger), SystemClock(), checkpoints=checkpoints), checkpoints


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn what goes wrong into the two answers that an audit has beside `whole`."""
    try:
        yield
    except (AuditFailed, AuditImpossible):
        raise
    except LedgerCorrupt as error:
        raise AuditFailed(_inert(error.message), next_step=error.next_step) from error
    except FlightdeckError as error:
        raise AuditImpossible(_inert(error.message), next_step=error.next_step) from error
    except OSError as error:
        raise AuditImpossible(f"reading: {error}", next_step="mend the disk or the permissions") from error


def _inert(text: str) -> str:
    """Return a text whose control characters a terminal does not obey."""
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)
