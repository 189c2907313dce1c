"""`kedro release why`: the whole way of a version on one page, and the same few queries however long the history."""

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flightdeck.cli.release import release
from flightdeck.cli.release_why import explain_traffic
from flightdeck.core.clock import VirtualClock
from flightdeck.core.layout import Layout, layout
from flightdeck.lineage.graph import Edge, LineageGraph, Node
from flightdeck.lineage.identity import stream_node
from flightdeck.release.ledger import open_ledger
from flightdeck.release.record import from_row, make_record, to_row
from flightdeck.release.session import ROWS
from tests.dashboards.data_root import DAY, write_data_root
from tests.rollout_story import Story


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("story") / "data"
    written = write_data_root(root)
    Story(written.where, written.ledger).tell(root / "drafts")
    raw = Node("source", "flights", "a" * 64)
    LineageGraph(written.where.lineage).record([Edge(raw, stream_node("departed", 3, "d" * 64), "run", "became", DAY)])
    return root


@pytest.fixture
def where(told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    shutil.copytree(told, tmp_path / "data")
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path / "data"))
    return layout()


def why(*arguments: str) -> Result:
    return CliRunner().invoke(release, ["why", *arguments])


def test_a_canary_is_explained_from_its_sources_to_its_traffic(where: Layout) -> None:
    result = why("2")
    assert result.exit_code == 0, result.output
    parts = (
        "canary with a share of 0.5",
        "champion of segment newark",
        "arm colour:new with a share of 0.1",
        "flights sha256 aaaaaaaaaaaa",
        "departed version 3, 1,000 events, digest dddddddddddd <- flights",
        "origin_departures digest",
        "git commit 0000",
        "seed 2",
        "files compared with it",
        "passed (5 checks, tier medium), by pipeline",
        "worst_month_auc advisory, not met: 0.61, bound 0.65",
        "Mary Jackson, as reviewer",
        "known by stated",
        "shadow since",
        "pass after 5,003 requests",
        "mean difference +0.004",
        "let go on by Ada Lovelace: the feed was down",
        "frozen by controller: no data for 10 minutes",
        "errors pass (errors: shown to be within the margin)",
        "canary 50% since",
        "still there",
        "routes: experiment colour",
    )
    told = [result.output.find(part) for part in parts]
    assert -1 not in told, parts[told.index(-1)]


def test_a_version_that_was_taken_out_says_why(where: Layout) -> None:
    output = why("3").output
    for part in (
        "no place in the routing table",
        "fail after 120 requests",
        "errors fail (14 failed)",
        "taken out by controller: errors: 14 of 120 failed",
        "rolled back from canary, version 1 answers",
        "refused to approve",
    ):
        assert part in output, part


def test_now_is_everything_that_serves(where: Layout) -> None:
    output = why("now").output
    for part in (
        "newark: origin in {EWR}",
        "champion: version 2",
        "colour, layer colour@",
        "arm old: version 1 for 10.00%",
        "canary: version 2 for 50.00%",
        "champion: version 1",
        "version 1 of flight-delay",
        "version 2 of flight-delay",
    ):
        assert part in output, part
    assert "version 3 of" not in output


def test_the_page_is_one_file_whose_words_are_no_markup(where: Layout, tmp_path: Path) -> None:
    ledger = open_ledger(where.ledger, VirtualClock(DAY + timedelta(days=9)))
    ledger.append(
        "refused", actor="Eve", subject="2", detail={"what": "approve", "reason": "<script>alert(1)</script>"}
    )
    result = why("2", "--html", str(tmp_path / "why.html"))
    assert result.exit_code == 0, result.output
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>")
    assert "&lt;script&gt;alert(1)" in page and "<script" not in page
    assert "http" not in page, "nothing is loaded from elsewhere"
    assert page.count("<section>") == 10


def test_an_altered_bundle_is_said_and_what_the_ledger_knows_is_shown(where: Layout) -> None:
    for path in where.bundles.glob("*/training.json"):
        path.chmod(0o644)
        path.write_text("{}", encoding="utf-8")
    output = why("2").output
    assert "the bundle cannot be read" in output and "not compared" in output
    assert "Mary Jackson" in output and "0000000" not in output


@pytest.mark.parametrize(("asked", "said"), [("9", "versions there: 1, 2, 3"), ("x", "neither a version nor now")])
def test_what_is_not_there_is_refused_in_words(asked: str, said: str, where: Layout) -> None:
    result = why(asked)
    assert result.exit_code == 1 and said in result.output


def test_before_the_first_release_the_next_step_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path / "nothing"))
    for asked, step in (("1", "kedro run --config kedro.yml"), ("now", "kedro release list")):
        result = why(asked)
        assert result.exit_code == 1 and step in result.output
    assert not (tmp_path / "nothing").exists(), "looking makes nothing"


def lengthen(where: Layout, n_records: int) -> None:
    """Append evidence, refusals and alerts until the ledger has `n_records`; one transaction, the chain whole."""
    with closing(sqlite3.connect(where.ledger)) as connection, connection:
        rows = [from_row(row) for row in connection.execute(ROWS, (1,))]
        step = next(r for r in reversed(rows) if r.action == "promoted" and r.subject == "2")
        judged = {
            "digest": step.detail["digest"],
            "entered_seq": step.seq,
            "stage": "canary",
            "share": 0.5,
            "verdict": "inconclusive",
            "n_requests": 7,
            "metrics": {},
        }
        kinds = (
            ("judged", "2", judged),
            ("refused", "2", {"what": "approve", "reason": "no"}),
            ("alert", "-", {"name": "drift"}),
        )
        last = rows[-1]
        for seq in range(last.seq + 1, n_records + 1):
            action, subject, detail = kinds[seq % 3]
            last = make_record(seq, last.recorded_at, action, "controller", subject, detail, last.digest)
            connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", to_row(last))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect every statement that any SQLite connection runs."""
    seen: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: Any, **more: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **more)
        connection.set_trace_callback(seen.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return seen


def test_a_long_history_takes_no_more_queries_and_no_longer_page(where: Layout, statements: list[str]) -> None:
    sizes, queries = [], []
    for n_records in (60, 10_000):
        lengthen(where, n_records)
        statements.clear()
        trees = explain_traffic(where, "now", VirtualClock(DAY + timedelta(days=2)))
        queries.append([statement.split()[0].lower() for statement in statements])
        sizes.append(sum(len(tree.lines()) for tree in trees))
    assert queries[0] == queries[1]
    assert queries[1].count("select") + queries[1].count("with") <= 4
    assert abs(sizes[1] - sizes[0]) <= 25
    text = "\n".join(line for tree in trees for line in tree.lines())
    assert "judged 3," in text and "earlier ones: kedro release show" in text
