"""The table of docs/faults.md names tests that there are, and every staged fault is in it."""

import re

from flightdeck.core.layout import PROJECT

TABLE = (PROJECT / "docs/faults.md").read_text("utf-8")
NAMED = re.findall(r"\| (tests/[\w/]+\.py)::(test_\w+) \|", TABLE)


def test_every_test_of_the_table_is_there() -> None:
    assert len(NAMED) >= 25
    missing = [name for file, name in NAMED if f"def {name}(" not in (PROJECT / file).read_text("utf-8")]
    assert missing == []


def test_every_staged_fault_is_in_the_table() -> None:
    named = {name for _, name in NAMED}
    files = [path for path in (PROJECT / "tests/faults").glob("test_*.py") if path.name != "test_table.py"]
    staged = {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)}
    assert staged - named == set()
