"""Whatever is done to a ledger or its checkpoints is found: 10,000 random mutations, each replayable by its number."""

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from flightdeck.cli.audit import audit as cli
from flightdeck.core.layout import Layout
from flightdeck.release.audit import audit
from flightdeck.release.checkpoints import FILE, PUBLIC_KEY
from flightdeck.release.signing import Signer
from flightdeck.release.sqlite_ledger import GUARDS, TABLE
from tests.conformance.ledger_mutations import MUTATIONS, Evidence, make_evidence

N_MUTATIONS, N_LEDGERS, N_THROUGH_FILES = 10_000, 12, 270
SIGNER = Signer.make()


@pytest.fixture(scope="module")
def ledgers() -> list[Evidence]:
    return [make_evidence(random.Random(number), SIGNER) for number in range(N_LEDGERS)]


def mutated(number: int, ledgers: list[Evidence]) -> tuple[str, Evidence, Evidence]:
    """Return the name of mutation `number`, what there was before and what there is after."""
    dice = random.Random(number)
    now, other = dice.sample(ledgers, 2)
    mutation = MUTATIONS[number % len(MUTATIONS)]
    after = mutation(dice, now, other)
    while after == now:  # the dice chose to change nothing
        after = mutation(dice, now, other)
    return mutation.__name__, now, after


def test_what_nobody_touched_is_whole(ledgers: list[Evidence]) -> None:
    for ledger in ledgers:
        n_known = len(ledger.lines) // 2
        found = audit(ledger.rows, ledger.lines, SIGNER.public, copy=ledger.lines[:n_known])
        assert found.problems == () and found.n_records == len(ledger.rows) and found.n_uncovered == 0
        assert found.n_checkpoints == len(ledger.lines) > 4


def test_ten_thousand_mutations_are_all_found(ledgers: list[Evidence]) -> None:
    missed, done = list[tuple[int, str]](), Counter[str]()
    for number in range(N_MUTATIONS):
        name, before, after = mutated(number, ledgers)
        done[name] += 1
        if not audit(after.rows, after.lines, SIGNER.public, copy=before.lines).problems:
            missed.append((number, name))
    assert missed == []
    assert sum(done.values()) == N_MUTATIONS and min(done.values()) > N_MUTATIONS // len(MUTATIONS) - 1


def test_without_a_copy_all_is_found_but_what_takes_the_newest_lines_too(ledgers: list[Evidence]) -> None:
    for number in range(1_000):
        name, before, after = mutated(number, ledgers)
        found = audit(after.rows, after.lines, SIGNER.public)
        is_cut = after.lines == before.lines[: len(after.lines)]
        if name not in ("restore_both", "replace_all_but_the_copy", "delete_lines") or (after.lines and not is_cut):
            assert found.problems or name == "replace_all_but_the_copy", (number, name)


def write(where: Layout, evidence: Evidence) -> None:
    """Write what an auditor finds: a real SQLite file with its guards, and the file of checkpoints."""
    where.ledger.unlink(missing_ok=True)
    with closing(sqlite3.connect(where.ledger)) as connection:
        connection.executescript(TABLE)
        connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", evidence.rows)
        for guard in GUARDS.values():
            connection.execute(guard)
        connection.commit()
    (where.audit / FILE).write_bytes(b"".join(line + b"\n" for line in evidence.lines))


def test_the_command_finds_them_in_real_files(
    ledgers: list[Evidence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    where = Layout(tmp_path)
    for folder in (where.ledger.parent, where.audit):
        folder.mkdir(parents=True)
    (where.audit / PUBLIC_KEY).write_bytes(SIGNER.public.pem())
    copy, runner, n_done, n_refused = tmp_path / "copy.jsonl", CliRunner(), 0, 0
    for ledger in ledgers:
        write(where, ledger)
        assert runner.invoke(cli, ["verify"]).exit_code == 0
    for number in range(N_THROUGH_FILES):
        name, before, after = mutated(number, ledgers)
        if sorted(after.rows) == list(before.rows) and after.lines == before.lines:
            continue  # only their order in memory: a table has none
        copy.write_bytes(b"".join(line + b"\n" for line in before.lines))
        try:
            write(where, after)
        except sqlite3.IntegrityError:  # a number or a digest twice: the database itself refuses
            n_refused += 1
            continue
        found = runner.invoke(cli, ["verify", "--copy", str(copy)])
        assert found.exit_code == 3, (number, name, found.output)
        n_done += 1
    assert n_done > 0.8 * N_THROUGH_FILES and n_done + n_refused <= N_THROUGH_FILES
