"""The column functions as Kedro nodes: one dataset a column, the same wiring in training and at the server."""

from kedro.pipeline.node import Node, node

from flightdeck.core.columns import ColumnFunction
from pipelines.features.model_input import COLUMN_FUNCTIONS


def column_nodes() -> list[Node]:
    """Return one node for each request-time feature; dataset names are column names."""
    return [_column_node(function) for function in COLUMN_FUNCTIONS]


def _column_node(declared: ColumnFunction) -> Node:
    return node(
        declared.function,
        list(declared.inputs),
        [output.name for output in declared.outputs],
        name=declared.name,
        tags=["request_time"],
    )
