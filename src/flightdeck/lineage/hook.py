"""The Kedro hook that leaves each run's edges in the lineage graph.

For every executed node: what it read -> the task -> what it wrote, and the code that defined it. A dataset written and
read back in one run is joined to the version that it turned out to be. A failing run keeps the edges up to the failure
and is marked as failed. Lineage never breaks a run: where the graph cannot be written the run goes on, with one clear
warning.
"""

import logging
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline.node import Node as KedroNode

from flightdeck.core.clock import Clock, SystemClock
from flightdeck.lineage.graph import Edge, LineageGraph, Node
from flightdeck.lineage.identity import catalog_name, code_of, identify

_log = logging.getLogger(__name__)


class LineageHook:
    """Records the runs of this process in the graph at `path`.

    Parameters
    ----------
    path
        SQLite file of the graph.
    clock
        Tells when an edge was recorded; the machine's clock where left out.
    """

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._graph = LineageGraph(path)
        self._clock = clock or SystemClock()
        self._begin("")

    @hook_impl
    def before_pipeline_run(self, run_params: Mapping[str, Any]) -> None:
        """Begin a run: forget what the run before it wrote."""
        self._begin(str(run_params.get("run_id") or run_params.get("session_id") or ""))

    @hook_impl
    def after_node_run(self, node: KedroNode, inputs: Mapping[str, Any], run_id: str | None) -> None:
        """Record what a node read and the code that it ran."""
        self._record_inputs(node, inputs, run_id)

    @hook_impl
    def on_node_error(self, node: KedroNode, inputs: Mapping[str, Any], run_id: str | None) -> None:
        """Record what a node had read when it failed."""
        self._record_inputs(node, inputs, run_id)
        self._record([(self._task(node), Node("run", self._run_id, "failed"), "failed")])

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: KedroNode) -> None:
        """Record what a node wrote, once it is written."""
        output = identify(dataset_name, data, self._run_id)
        self._written[catalog_name(dataset_name)] = output
        self._record([(self._task(node), output, "wrote")])

    @hook_impl
    def after_pipeline_run(self, run_params: Mapping[str, Any]) -> None:
        """Mark the run as completed."""
        self._record([(_pipeline(run_params), Node("run", self._run_id, "completed"), "completed")])

    @hook_impl
    def on_pipeline_error(self, run_params: Mapping[str, Any]) -> None:
        """Mark the run as failed, whatever failed: a node, or reading and writing a dataset."""
        self._record([(_pipeline(run_params), Node("run", self._run_id, "failed"), "failed")])

    def _begin(self, run_id: str) -> None:
        self._run_id = run_id
        self._written: dict[str, Node] = {}
        self._is_failing = False

    def _record_inputs(self, node: KedroNode, inputs: Mapping[str, Any], run_id: str | None) -> None:
        self._run_id = run_id or self._run_id  # a worker process of a parallel run sees no beginning
        task = self._task(node)
        edges: list[tuple[Node, Node, str]] = []
        for name, value in inputs.items():
            read = identify(name, value, self._run_id)
            written = self._written.get(catalog_name(name), read)
            if written != read:
                edges.append((written, read, "became"))
            edges += [(read, task, "read"), *self._extended(read)]
        code = code_of(node.func.__name__, node.func) if hasattr(node.func, "__name__") else None
        if code is not None:
            edges.append((code, task, "defined"))
        self._record(edges)

    def _extended(self, read: Node) -> list[tuple[Node, Node, str]]:
        """Return the edge from the version of a stream before `read`, where the graph knows one."""
        if read.kind != "stream" or self._is_failing:
            return []
        try:
            known = self._graph.nodes("stream", read.name)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)
            return []
        older = [node for node in known if _number(node) < _number(read)]
        return [(max(older, key=_number), read, "extended")] if older else []

    def _task(self, node: KedroNode) -> Node:
        return Node("task", node.name, self._run_id)

    def _record(self, triples: Iterable[tuple[Node, Node, str]]) -> None:
        if self._is_failing:
            return
        now = self._clock.now()
        try:
            self._graph.record(Edge(parent, child, self._run_id, relation, now) for parent, child, relation in triples)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        self._is_failing = True
        _log.warning(
            "lineage of run %s is incomplete: %s cannot be used (%s); the run goes on. Free the disk or move the "
            "file away, then run again.",
            self._run_id,
            self._graph.path,
            error,
        )


def _pipeline(run_params: Mapping[str, Any]) -> Node:
    names = run_params.get("pipeline_names") or run_params.get("pipeline_name") or "__default__"
    return Node("pipeline", names if isinstance(names, str) else ",".join(names))


def _number(stream: Node) -> int:
    number = stream.version.partition(":")[0]
    return int(number) if number.isdigit() else -1
