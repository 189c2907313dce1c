"""Ledgers with signed checkpoints, and everything that somebody may do to them behind Flightdeck's back."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from flightdeck.core.identifiers import digest_bytes
from flightdeck.release.checkpoints import sign_checkpoint
from flightdeck.release.record import GENESIS, INERT, Row, digest_row, make_record, to_row
from flightdeck.release.signing import Signer

NOON = datetime(2013, 9, 12, 12, tzinfo=UTC)
TEXTS = ("", "me", "Ada", "rolled_back", "alert", "-", "2", "{}", '{"value":1}', "f" * 64, "ü\n\x1b[31m", "0")


@dataclass(frozen=True)
class Evidence:
    """Rows of a ledger and lines of its file of checkpoints, as an auditor finds them."""

    rows: tuple[Row, ...]
    lines: tuple[bytes, ...]


Mutation = Callable[[random.Random, Evidence, Evidence], Evidence]


def make_evidence(dice: random.Random, signer: Signer) -> Evidence:
    """Return a ledger of versions that go to prod one after the other, signed after each decision."""
    rows, lines = list[Row](), list[bytes]()
    previous = GENESIS

    def append(action: str, subject: str, **detail: object) -> None:
        nonlocal previous
        at = NOON + timedelta(minutes=len(rows), seconds=dice.randrange(60))
        actor = dice.choice(["pipeline", "Ada Lovelace", "Grace Hopper"])
        record = make_record(len(rows) + 1, at, action, actor, subject, detail, previous)
        rows.append(to_row(record))
        previous = record.digest
        if action not in INERT:
            sign(at)

    def sign(at: datetime) -> None:
        before = digest_bytes(lines[-1]) if lines else GENESIS
        lines.append(sign_checkpoint(signer, len(rows), previous, str(rows[0][7]), at, before))

    for version in range(1, dice.randint(2, 3)):
        digest = f"{dice.getrandbits(256):064x}"
        append("registered", str(version), digest=digest, model_name="flight-delay", tier="medium")
        append("alert", "-", name="freshness", about=f"day {dice.randrange(99)}")
        append("verdict", str(version), digest=digest, passed=True, n_checks=12)
        append("approved", str(version), digest=digest, reason="looks good")
        for to in ("staging", "canary", "prod"):
            append("promoted", str(version), digest=digest, to=to, share=0.05)
            if dice.random() < 0.3:
                append("lease", "-", holder="controller", expires_at=NOON.isoformat())
    if rows[-1][2] in INERT:
        sign(NOON + timedelta(days=1))
    return Evidence(tuple(rows), tuple(lines))


def chained(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows renumbered, their digests made to fit: what a forger who knows the format does."""
    found: list[Row] = []
    for number, row in enumerate(rows, start=1):
        content = (number, *row[1:6], found[-1][7] if found else GENESIS, "")
        found.append((*content[:7], digest_row(content)))
    return tuple(found)


def edit(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    place, column = dice.randrange(len(now.rows)), dice.randrange(1, 8)
    row = list(now.rows[place])
    row[column] = changed_text(dice, str(row[column]))
    return with_rows(now, [*now.rows[:place], tuple(row), *now.rows[place + 1 :]])


def edit_and_fit(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    place, column = dice.randrange(len(now.rows)), dice.choice([1, 2, 3, 4])
    row = list(now.rows[place])
    row[column] = changed_text(dice, str(row[column]))
    return with_rows(now, chained([*now.rows[:place], tuple(row), *now.rows[place + 1 :]]))


def delete(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    place = dice.randrange(len(now.rows))
    return with_rows(now, fitted(dice, [*now.rows[:place], *now.rows[place + 1 :]]))


def swap(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    first, second = sorted(dice.sample(range(len(now.rows)), 2))
    rows = list(now.rows)
    rows[first], rows[second] = rows[second], rows[first]
    return with_rows(now, fitted(dice, rows))


def swap_numbers(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    first, second = sorted(dice.sample(range(len(now.rows)), 2))
    rows = list(now.rows)
    one, other = rows[first], rows[second]
    rows[first], rows[second] = (one[0], *other[1:]), (other[0], *one[1:])
    return with_rows(now, rows)


def insert(dice: random.Random, now: Evidence, other: Evidence) -> Evidence:
    place = dice.randrange(len(now.rows))
    return with_rows(now, fitted(dice, [*now.rows[:place], dice.choice(other.rows), *now.rows[place:]]))


def truncate(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    return with_rows(now, now.rows[: dice.randrange(len(now.rows))])


def restore_and_go_on(dice: random.Random, now: Evidence, other: Evidence) -> Evidence:
    """Bring an old backup back and append other records, perhaps more than there were."""
    kept = now.rows[: dice.randrange(len(now.rows))]
    alerts = [row for row in other.rows if row[2] == "alert"]
    return with_rows(now, chained([*kept, *(dice.choice(alerts) for _ in range(dice.randint(1, 2 * len(now.rows))))]))


def replace_ledger(_: random.Random, now: Evidence, other: Evidence) -> Evidence:
    return with_rows(now, other.rows)


def replace_all_but_the_copy(_: random.Random, __: Evidence, other: Evidence) -> Evidence:
    return other


def restore_both(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    """Bring ledger and checkpoints back from the same old backup: only the copy knows better."""
    n_lines = dice.randrange(len(now.lines))
    return Evidence(now.rows[: dice.randrange(len(now.rows))], now.lines[:n_lines])


def edit_line(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    place = dice.randrange(len(now.lines))
    line = bytearray(now.lines[place])
    line[dice.randrange(len(line))] ^= 1 << dice.randrange(8)
    return with_lines(now, [*now.lines[:place], bytes(line), *now.lines[place + 1 :]])


def pad_line(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    place = dice.randrange(len(now.lines))
    line = now.lines[place].replace(b":", b": ", 1) if dice.random() < 0.5 else now.lines[place] + b" "
    return with_lines(now, [*now.lines[:place], line, *now.lines[place + 1 :]])


def delete_lines(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    start = dice.randrange(len(now.lines))
    stop = dice.randint(start + 1, len(now.lines))
    return with_lines(now, [*now.lines[:start], *now.lines[stop:]])


def swap_lines(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    first, second = dice.sample(range(len(now.lines)), 2)
    lines = list(now.lines)
    lines[first], lines[second] = lines[second], lines[first]
    return with_lines(now, lines)


def insert_line(dice: random.Random, now: Evidence, other: Evidence) -> Evidence:
    place = dice.randint(0, len(now.lines))
    line = dice.choice([*other.lines, *now.lines, b"", b"{}", b"null", b"\xff"])
    return with_lines(now, [*now.lines[:place], line, *now.lines[place:]])


def cut_line(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    return with_lines(now, [*now.lines[:-1], now.lines[-1][: dice.randrange(1, len(now.lines[-1]))]])


def sign_with_a_key_of_his_own(dice: random.Random, now: Evidence, _: Evidence) -> Evidence:
    """Change a record, make all digests fit and sign all of it, with another private key."""
    forged = edit_and_fit(dice, now, now)
    signer = Signer.make()
    lines: list[bytes] = []
    for row in forged.rows:
        before = digest_bytes(lines[-1]) if lines else GENESIS
        lines.append(sign_checkpoint(signer, row[0], row[7], forged.rows[0][7], NOON, before))
    return Evidence(forged.rows, tuple(lines))


MUTATIONS: tuple[Mutation, ...] = (
    edit, edit_and_fit, delete, swap, swap_numbers, insert, truncate, restore_and_go_on, replace_ledger,
    replace_all_but_the_copy, restore_both, edit_line, pad_line, delete_lines, swap_lines, insert_line, cut_line,
    sign_with_a_key_of_his_own,
)  # fmt: skip


def changed_text(dice: random.Random, text: str) -> str:
    place = dice.randrange(len(text) + 1)
    if dice.random() < 0.5:
        return dice.choice([other for other in TEXTS if other != text])
    return text[:place] + chr(dice.randrange(1, 0x250)) + text[place + dice.randint(0, 1) :]


def fitted(dice: random.Random, rows: Sequence[Row]) -> Sequence[Row]:
    return chained(rows) if dice.random() < 0.5 else rows


def with_rows(now: Evidence, rows: Sequence[Row]) -> Evidence:
    return replace(now, rows=tuple(rows))


def with_lines(now: Evidence, lines: Sequence[bytes]) -> Evidence:
    return replace(now, lines=tuple(lines))
