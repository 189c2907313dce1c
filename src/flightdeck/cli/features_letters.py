"""`kedro features letters`: what broke its contract, and sending it in again."""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import click
import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flightdeck.cli.errors import reports_errors
from flightdeck.core.clock import SystemClock, from_us, to_us
from flightdeck.core.errors import NotFoundError, nearest
from flightdeck.core.layout import Layout, layout
from flightdeck.events.dead_letters import DeadLetter, DeadLetters
from flightdeck.events.delivery import replay_letters
from flightdeck.events.incoming import Rules
from flightdeck.events.log import EventLog
from flightdeck.events.stream import Stream
from flightdeck.features.store_config import read_stores
from pipelines.ingestion.streams import STREAMS

PATIENCE_S = 30.0


def letters_of(where: Layout) -> DeadLetters:
    """Return the dead letters of a data root."""
    return DeadLetters(where.dead_letters)


@click.group(invoke_without_command=True)
@click.pass_context
@reports_errors
def letters(context: click.Context) -> None:
    """List the events that broke their contract, by stream and reason; `replay` sends them in again."""
    if context.invoked_subcommand is not None:
        return
    found = letters_of(layout())
    waiting = [letter for stream in found.streams() for letter in found.waiting(stream)]
    if not waiting:
        click.echo("no dead letters wait")
        return
    Console().print(_table(waiting))


@letters.command()
@click.argument("stream", metavar="STREAM")
@click.option("--reason", default="", metavar="TEXT", help="Only letters whose reason contains this text.")
@click.option("--env", "env", envvar="KEDRO_ENV", help="Environment whose stores.yml counts, such as scale.")
@reports_errors
def replay(stream: str, reason: str, env: str | None) -> None:
    """Check the dead letters of STREAM again and send in those that keep to the rules now, each at most once.

    They are appended to the event log and, where events come from a Redis stream, published there. The others stay,
    with the reason for which they are refused today.
    """
    where, declared = layout(), _declared(stream)
    delivery = _Delivery(declared, EventLog(where.event_log), read_stores(env).event_stream_url)
    rules = Rules(now_us=to_us(SystemClock().now()))
    n_sent, n_refused = replay_letters(letters_of(where), declared, delivery.send, rules=rules, reason=reason)
    click.echo(f"{stream}: {n_sent:,} sent in, {n_refused:,} still break the rules")
    if delivery.n_there:
        click.echo(
            f"{delivery.n_there:,} of those sent in were in the log already; "
            "a store that follows the log has passed them: kedro features backfill counts them"
        )


class _Delivery:
    """Where accepted letters go: the log first, which refuses another content, then the stream."""

    def __init__(self, stream: Stream, log: EventLog, url: str) -> None:
        self._stream = stream
        self._log = log
        self._url = url
        self.n_there = 0

    def send(self, events: pa.Table) -> None:
        """Append events to the log; publish them where consumers follow a Redis stream."""
        n_duplicates = self._log.append(self._stream, events).n_duplicates
        if not self._url:
            self.n_there += n_duplicates
            return
        from flightdeck.features.redis_publish import RedisPublisher

        publisher = RedisPublisher.open(self._url)
        try:
            publisher.publish(self._stream.name, events, timeout_s=PATIENCE_S)
        finally:
            publisher.close()


def _declared(name: str) -> Stream:
    found = {stream.name: stream for stream in STREAMS}
    if name not in found:
        raise NotFoundError(
            f"replaying dead letters: there is no stream {name!r}{nearest(name, list(found))}",
            next_step="see which streams have some: kedro features letters",
        )
    return found[name]


def _table(waiting: Sequence[DeadLetter]) -> Table:
    """Return one row a stream and reason, the most frequent reason of a stream first."""
    groups: dict[tuple[str, str], list[DeadLetter]] = defaultdict(list)
    for letter in waiting:
        groups[letter.stream, letter.reason].append(letter)
    table = Table(title="dead letters", title_justify="left")
    table.add_column("stream", no_wrap=True)
    table.add_column("reason", overflow="fold")
    table.add_column("letters", justify="right")
    table.add_column("newest known at", no_wrap=True)
    for (stream, reason), group in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]))):
        known_at = [at for at in map(_known_at, group) if at is not None]
        table.add_row(stream, escape(reason), f"{len(group):,}", max(known_at).isoformat() if known_at else "")
    return table


def _known_at(letter: DeadLetter) -> datetime | None:
    """Return when an event says that it became known; None where that cannot be read."""
    with suppress(ValueError, TypeError, KeyError, OverflowError):
        known_at = json.loads(letter.row)["created_timestamp"]
        if isinstance(known_at, int):
            return from_us(known_at)
        at = datetime.fromisoformat(known_at)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return None
