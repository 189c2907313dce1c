"""Taking events in: checked, dead letters and schema changes on the disk before anything else sees the batch."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from flightdeck.core.clock import Clock, SystemClock
from flightdeck.core.errors import ContractViolation
from flightdeck.events.dead_letters import DeadLetter, DeadLetters
from flightdeck.events.incoming import UNDECLARED, Incoming, Rules, check_events, undeclared_letters
from flightdeck.events.schema_history import SchemaChange, SchemaHistory
from flightdeck.events.stream import Stream

MIN_ROWS = 10  # fewer rows that all break in the same way are bad events, not yet a change of the schema
Mend = Callable[[dict[str, Any]], dict[str, Any]]


class Reception:
    """Checks batches and keeps what they leave behind.

    Parameters
    ----------
    letters
        Where dead letters go.
    history
        Where schema changes and their alerts go.
    clock
        Tells when something was seen first.
    """

    def __init__(self, letters: DeadLetters, history: SchemaHistory, clock: Clock | None = None) -> None:
        self.letters = letters
        self.history = history
        self._clock: Clock = clock or SystemClock()
        self._n_broken: Counter[tuple[str, str]] = Counter()

    def take_in(
        self,
        stream: Stream,
        rows: pa.Table | Sequence[Any],
        *,
        rules: Rules | None = None,
        offsets: Sequence[str] | None = None,
    ) -> Incoming:
        """Check a batch (`check_events`) and write its dead letters and schema changes to the disk.

        Raises
        ------
        OSError
            If the disk refuses: the batch must not be applied then.
        """
        incoming = check_events(stream, rows, rules=rules, offsets=offsets)
        if incoming.dead:
            self.letters.add(incoming.dead)
        self.history.record(self._established(stream, incoming), self._now())
        return incoming

    def refuse(
        self,
        name: str,
        rows: pa.Table | Sequence[Any],
        declared: Collection[str],
        *,
        offsets: Sequence[str] | None = None,
    ) -> int:
        """Keep the events of a stream that nobody declares as dead letters; return how many they are.

        Raises
        ------
        OSError
            If the disk refuses: the batch must not be acknowledged then.
        """
        letters = undeclared_letters(name, rows, declared, offsets=offsets)
        self.letters.add(letters)
        return len(letters)

    def _established(self, stream: Stream, incoming: Incoming) -> list[SchemaChange]:
        """Return the changes that enough rows show, over batches in a row.

        Rows of a new producer come between those of an old one: what some rows show counts as well.
        """
        found = [change for change in incoming.changes if change.kind == "additive"]
        breaking = {change: len(incoming.dead) for change in incoming.changes if change.kind == "breaking"}
        seen = {**breaking, **incoming.partly}
        if incoming.accepted.num_rows:
            shown = {(stream.name, change.what) for change in seen}
            for key in [key for key in self._n_broken if key[0] == stream.name and key not in shown]:
                del self._n_broken[key]
        for change, n_rows in seen.items():
            self._n_broken[(stream.name, change.what)] += n_rows
            if self._n_broken[(stream.name, change.what)] >= MIN_ROWS:
                found.append(change)
        return found

    def _now(self) -> datetime:
        return self._clock.now()


def replay_letters(
    letters: DeadLetters,
    stream: Stream,
    send: Callable[[pa.Table], object],
    *,
    mend: Mend | None = None,
    rules: Rules | None = None,
    reason: str = "",
) -> tuple[int, int]:
    """Send the waiting dead letters of a stream in again; return how many were accepted and how many still wait.

    Those that came before anybody declared the stream are among them.

    Parameters
    ----------
    letters
        Where they lie; those that were accepted are settled as replayed, the others wait with their new reason.
    stream
        Declaration of the stream.
    send
        Takes accepted events: `lambda events: log.append(stream, events)`. It may see events again after a crash. An
        event that it refuses by a `ContractViolation` still waits: the log holds it with another content, so what was
        mended needs an id of its own.
    mend
        Turns a row into what it should have been; None sends it as it was (the declaration has changed).
    rules
        As for `check_events`.
    reason
        Only letters whose reason contains this text.
    """
    with letters.replaying(stream.name):
        nobodys = [letter for letter in letters.waiting(UNDECLARED) if letter.named == stream.name]
        waiting = [letter for letter in [*letters.waiting(stream.name), *nobodys] if reason in letter.reason]
        rows = [_decoded(letter) for letter in waiting]
        mended = [mend(row) if mend and isinstance(row, dict) else row for row in rows]
        incoming = check_events(stream, mended, rules=rules, offsets=[str(place) for place in range(len(mended))])
        refused = {int(letter.offset): letter.reason for letter in incoming.dead}
        places = [place for place in range(len(waiting)) if place not in refused]
        refused |= {places[row]: why for row, why in _send_all(incoming.accepted, send).items()}
        letters.settle([waiting[place] for place in places if place not in refused], "replayed")
        letters.explain([replace(waiting[place], reason=why) for place, why in refused.items()])
    return len(waiting) - len(refused), len(refused)


def _send_all(events: pa.Table, send: Callable[[pa.Table], object]) -> dict[int, str]:
    """Send events, one by one where they are refused together; return by row why one was refused."""
    if not events.num_rows:
        return {}
    try:
        send(events)
    except ContractViolation as error:
        if events.num_rows == 1:
            return {0: str(error).partition("\n")[0]}
        parts = (_send_all(events.slice(row, 1), send) for row in range(events.num_rows))
        return {row: why[0] for row, why in enumerate(parts) if why}
    return {}


def _decoded(letter: DeadLetter) -> Any:
    try:
        return json.loads(letter.row)
    except json.JSONDecodeError:
        return letter.row
