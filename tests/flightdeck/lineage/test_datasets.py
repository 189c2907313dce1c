from datetime import UTC, datetime
from pathlib import Path

from flightdeck.lineage.datasets import LineageDataset
from flightdeck.lineage.graph import Edge, Node


def test_edges_that_a_node_returns_are_recorded(tmp_path: Path) -> None:
    dataset = LineageDataset(filepath=str(tmp_path / "lineage.sqlite"))
    edge = Edge(Node("a", "x"), Node("b", "y"), "run", "made", datetime(2013, 1, 1, tzinfo=UTC))
    assert not dataset.exists()
    dataset.save([edge])
    assert dataset.exists()
    assert dataset.load() == [edge]
