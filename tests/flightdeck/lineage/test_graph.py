import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.lineage.graph import Edge, LineageGraph, Node

AT = datetime(2013, 9, 12, 8, tzinfo=UTC)


def edge(parent: str, child: str, *, run_id: str = "r1", relation: str = "made") -> Edge:
    return Edge(Node("dataset", parent), Node("dataset", child), run_id, relation, AT)


def names(nodes: list[Node]) -> set[str]:
    return {node.name for node in nodes}


def test_a_missing_file_is_an_empty_graph(tmp_path: Path) -> None:
    graph = LineageGraph(tmp_path / "none.sqlite")
    assert graph.edges() == []
    assert graph.ancestors(Node("dataset", "a")) == []
    assert graph.nodes("dataset") == []
    assert not graph.path.exists()


def test_edges_come_back_as_they_were_recorded(tmp_path: Path) -> None:
    graph = LineageGraph(tmp_path / "deep" / "lineage.sqlite")
    recorded = [edge("a", "b"), edge("b", "c", run_id="r2")]
    graph.record(recorded)
    assert graph.edges() == recorded
    assert graph.edges("r2") == recorded[1:]


def test_recording_again_changes_nothing(tmp_path: Path) -> None:
    graph = LineageGraph(tmp_path / "lineage.sqlite")
    graph.record([edge("a", "b"), edge("a", "b")])
    graph.record([edge("a", "b")])
    assert graph.edges() == [edge("a", "b")]


def test_ancestors_and_descendants_go_all_the_way_and_survive_a_cycle(tmp_path: Path) -> None:
    graph = LineageGraph(tmp_path / "lineage.sqlite")
    graph.record([edge("a", "b"), edge("b", "c"), edge("x", "c"), edge("c", "d"), edge("d", "b")])
    assert names(graph.ancestors(Node("dataset", "d"))) == {"a", "b", "c", "x"}
    assert names(graph.descendants(Node("dataset", "a"))) == {"b", "c", "d"}


def test_versions_of_one_thing_are_different_nodes(tmp_path: Path) -> None:
    graph = LineageGraph(tmp_path / "lineage.sqlite")
    old, new, model = Node("source", "flights", "1"), Node("source", "flights", "2"), Node("model", "m")
    graph.record([Edge(new, model, "r", "trained", AT), Edge(old, Node("model", "n"), "r", "trained", AT)])
    assert graph.ancestors(model) == [new]
    assert set(graph.nodes("source", "flights")) == {old, new}


@pytest.mark.parametrize("statement", ["delete from edges", "update edges set relation = 'x'", "delete from nodes"])
def test_nothing_can_be_changed_or_deleted(tmp_path: Path, statement: str) -> None:
    graph = LineageGraph(tmp_path / "lineage.sqlite")
    graph.record([edge("a", "b")])
    connection = sqlite3.connect(graph.path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
    assert graph.edges() == [edge("a", "b")]


def test_a_file_that_is_no_database_is_an_error_of_the_database(tmp_path: Path) -> None:
    path = tmp_path / "lineage.sqlite"
    path.write_text("not a database, though long enough to be taken for one" * 20, encoding="utf-8")
    with pytest.raises(sqlite3.DatabaseError):
        LineageGraph(path).record([edge("a", "b")])


@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=12))
def test_the_walk_agrees_with_a_closure_in_memory(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    graph = LineageGraph(tmp_path_factory.mktemp("graph") / "lineage.sqlite")
    graph.record([edge(parent, child) for parent, child in pairs])
    above: set[str] = set()
    frontier = {"a"}
    while frontier:
        frontier = {parent for parent, child in pairs if child in frontier} - above
        above |= frontier
    assert names(graph.ancestors(Node("dataset", "a"))) == above - {"a"}


def test_origins_of_many_are_found_in_one_query(tmp_path: Path) -> None:
    graph = LineageGraph(tmp_path / "lineage.sqlite")
    one, two, lost = (Node("stream", name, "1") for name in ("one", "two", "lost"))
    raw, other, step = Node("source", "raw", "a"), Node("source", "other", "b"), Node("task", "read", "r")
    assert graph.origins([one], "source") == {one: []}
    pairs = ((raw, step), (step, one), (step, two), (other, two))
    graph.record([Edge(parent, child, "r", "made", AT) for parent, child in pairs])
    assert graph.origins([one, lost, two], "source") == {one: [raw], lost: [], two: [other, raw]}
    assert graph.origins([], "source") == {}
