"""Kedro's door to the lineage graph: a pipeline returns edges, saving records them."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from flightdeck.lineage.graph import Edge, LineageGraph


class LineageDataset(AbstractDataset[list[Edge], list[Edge]]):
    """Edges that a node found beyond what the hook sees; nodes stay pure and return them.

    Parameters
    ----------
    filepath
        SQLite file of the graph.
    """

    def __init__(self, *, filepath: str) -> None:
        self._graph = LineageGraph(Path(filepath))

    def load(self) -> list[Edge]:
        """Return every edge of the graph."""
        return self._graph.edges()

    def save(self, data: list[Edge]) -> None:
        """Append the edges; those that are there stay as they are."""
        self._graph.record(data)

    def _exists(self) -> bool:
        return self._graph.path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._graph.path)}
