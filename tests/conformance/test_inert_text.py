"""What people write is text: in the ledger, in the tables of the command line and on the dashboard."""

import io
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from dashboards.releases import approvals_table
from dashboards.releases import history_table as dashboard_history
from dashboards.wording import plain
from flightdeck.cli.release_tables import history_table, versions_table
from flightdeck.core.errors import ReleaseRefused
from flightdeck.release import rollout_commands
from flightdeck.release.decisions import record_refusal
from flightdeck.release.people import PermissionDenied
from flightdeck.release.state import fold
from tests import release_desk
from tests.conformance.authority import FRESH, STAGED, House, write_house
from tests.release_desk import PEOPLE, POLICIES

PRINTABLE = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "formula": '=HYPERLINK("http://127.0.0.1","x")',
    "markup of the terminal": "[red]Ada[/red] [/nonsense] [link=file:///etc/passwd]x[/link]",
    "markup of the page": ":red[x] **y** [z](javascript:alert(1)) $e$ `c` :material/home:",
}
BLANKS = {"newline": "fine\n2013-09-12 promoted by Mary", "carriage return": "fine\rMary", "page": "fine\x0cMary"}
CONTROL = {
    "colours": "\x1b[2J\x1b[31mfine",
    "title of the window": "\x1b]0;owned\x07fine",
    "other direction": "fine \u202eyraM",
    "end of a string": "fine\x00Mary",
}
MEGABYTE = "x" * 1_000_000


@pytest.fixture
def house(tmp_path: Path) -> House:
    return write_house(tmp_path / "data")


def stored(house: House) -> bytes:
    with sqlite3.connect(house.where.ledger) as connection:
        rows = connection.execute("SELECT actor, subject, detail FROM records").fetchall()
    return "\n".join("|".join(row) for row in rows).encode()


def printed(house: House) -> str:
    """Return what the command line prints of the ledger to a wide terminal."""
    records = house.ledger.records()
    console = Console(file=io.StringIO(), width=5000, force_terminal=True, color_system=None)
    console.print(versions_table(fold(records)))
    console.print(history_table(records))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(house: House) -> str:
    """Return the Markdown that the dashboard shows of the ledger."""
    records = house.ledger.records()
    version = fold(records).versions[FRESH]
    approvals = approvals_table(version, POLICIES.tier("medium"), PEOPLE, house.ledger.clock.now())
    return "\n".join(str(cell) for table in (dashboard_history(records), approvals) for cell in table.to_numpy().flat)


@pytest.mark.parametrize("text", PRINTABLE.values(), ids=PRINTABLE)
def test_printable_text_is_kept_and_shown_as_itself(house: House, text: str) -> None:
    release_desk.approve(house.ledger, FRESH, by=text, bundles=house.bundles, reason=text)
    record = house.ledger.records()[-1]
    assert (record.actor, record.detail["reason"]) == (text, text)
    assert printed(house).count(text) >= 3, "name and reason in the history, name in the list"
    assert "\x1b]8" not in printed(house)
    page = shown(house)
    assert page.count(plain(text)) >= 3
    assert text not in page.replace(plain(text), "")


@pytest.mark.parametrize("text", CONTROL.values(), ids=CONTROL)
def test_control_characters_are_no_part_of_names_and_reasons(house: House, text: str) -> None:
    with pytest.raises(ReleaseRefused, match="a person's name"):
        release_desk.approve(house.ledger, FRESH, by=text, bundles=house.bundles)
    with pytest.raises(ReleaseRefused, match="a person's name"):
        rollout_commands.revoke_approval(house.ledger, STAGED, by=PEOPLE.identify("Mary"), name=text, reason="w")
    require_inert(house, "Ada", text)


@pytest.mark.parametrize("text", BLANKS.values(), ids=BLANKS)
def test_ends_of_lines_become_blanks(house: House, text: str) -> None:
    require_inert(house, text, text)
    assert house.ledger.records()[-1].actor == " ".join(text.split())


def require_inert(house: House, by: str, text: str) -> None:
    """Check that an approval and a refusal with that text stay on their lines, without control characters."""
    release_desk.approve(house.ledger, FRESH, by=by, bundles=house.bundles, reason=text)
    record_refusal(house.ledger, FRESH, text, "approve", PermissionDenied(text))
    for record in house.ledger.records()[-2:]:
        assert record.actor.isprintable() and record.detail["reason"].isprintable()
    for said in (stored(house).decode(), printed(house), shown(house)):
        lines = said.split("\n")
        assert all(line.isprintable() for line in lines)
        assert "2013-09-12 promoted by Mary" not in [line.strip() for line in lines]


def test_a_megabyte_is_refused_and_leaves_next_to_nothing(house: House) -> None:
    before = len(stored(house))
    mary = PEOPLE.identify("Mary")
    attempts: tuple[Callable[[], object], ...] = (
        lambda: release_desk.approve(house.ledger, FRESH, by=MEGABYTE, bundles=house.bundles),
        lambda: release_desk.approve(house.ledger, FRESH, by="Ada", bundles=house.bundles, reason=MEGABYTE),
        lambda: release_desk.reject(house.ledger, FRESH, by="Ada", reason=MEGABYTE),
        lambda: rollout_commands.revoke_approval(house.ledger, STAGED, by=mary, name=MEGABYTE, reason="w"),
    )
    for attempt in attempts:
        with pytest.raises(ReleaseRefused) as error:
            attempt()
        assert len(str(error.value)) < 1000
    record_refusal(house.ledger, FRESH, MEGABYTE, "approve", PermissionDenied(MEGABYTE))
    assert len(stored(house)) - before < 3000
