import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node, pipeline
from kedro.runner import SequentialRunner

from flightdeck.core.clock import VirtualClock
from flightdeck.events.datasets import EventStreamDataset
from flightdeck.events.raw_file import RawRows
from flightdeck.events.stream import Stream
from flightdeck.lineage.graph import LineageGraph, Node
from flightdeck.lineage.hook import LineageHook

LANDED = Stream("landed", {"origin": pa.string()}, slo_s=60)
AT = datetime(2013, 9, 12, 8, tzinfo=UTC)


def parse(raw: RawRows) -> list[str]:
    return [str(cell) for cell in raw.cells["origin"].to_pylist()]


def to_events(origins: list[str]) -> tuple[Stream, pa.Table]:
    columns: Mapping[str, list[Any]] = {
        "event_id": [f"{origin}/landed" for origin in origins],
        "event_timestamp": [AT] * len(origins),
        "created_timestamp": [AT] * len(origins),
        "source": ["airports"] * len(origins),
        "source_offset": list(range(len(origins))),
        "origin": origins,
    }
    return LANDED, pa.table({name: pa.array(values) for name, values in columns.items()})


def train(events: pa.Table, settings: dict[str, int]) -> bytes:
    return f"{events.num_rows} {settings['seed']}".encode()


def fail(events: pa.Table) -> bytes:
    raise ValueError(f"{events.num_rows} events are not enough")


INGESTION = [node(parse, "raw_airports", "origins"), node(to_events, "origins", "landed_events")]
TRAINING = [node(train, ["landed_events", "params:training"], "model")]
FAILING = [node(fail, "landed_events", "model")]


class World:
    """A data folder with a catalog, a hook and a runner that calls both as Kedro's session does."""

    def __init__(self, folder: Path) -> None:
        self.graph = LineageGraph(folder / "lineage.sqlite")
        self.hook = LineageHook(self.graph.path, VirtualClock(AT))
        self.folder = folder

    def run(self, run_id: str, nodes: list[Any], origins: list[str]) -> None:
        manager = _create_hook_manager()
        manager.register(self.hook)
        params = {"run_id": run_id, "pipeline_names": ["golden"]}
        catalog = self._catalog(origins)
        wired: Pipeline = pipeline(nodes)
        manager.hook.before_pipeline_run(run_params=params, pipeline=wired, catalog=catalog)
        try:
            SequentialRunner().run(wired, catalog, manager, run_id)
        except ValueError as error:
            manager.hook.on_pipeline_error(error=error, run_params=params, pipeline=wired, catalog=catalog)
            raise
        manager.hook.after_pipeline_run(run_params=params, run_result={}, pipeline=wired, catalog=catalog)

    def _catalog(self, origins: list[str]) -> DataCatalog:
        rows = RawRows("airports", pa.table({"origin": origins}), pa.array(range(len(origins))), (), "-".join(origins))
        return DataCatalog(
            {
                "raw_airports": MemoryDataset(rows, copy_mode="assign"),
                "landed_events": EventStreamDataset(filepath=str(self.folder / "events"), stream="landed"),
                "params:training": MemoryDataset({"seed": 7}),
            }
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def of_kind(nodes: list[Node], kind: str) -> set[tuple[str, str]]:
    return {(node.name, node.version) for node in nodes if node.kind == kind}


def test_a_model_is_traced_to_its_source_through_code_and_stream_version(world: World) -> None:
    world.run("run-1", INGESTION + TRAINING, ["EWR", "JFK"])
    (model,) = world.graph.nodes("dataset", "model")
    above = world.graph.ancestors(model)
    assert of_kind(above, "source") == {("airports", "EWR-JFK")}
    assert {name for name, _ in of_kind(above, "code")} == {"parse", "to_events", "train"}
    assert {version.partition(":")[0] for name, version in of_kind(above, "stream") if name == "landed"} == {"0"}
    assert {name for name, _ in of_kind(above, "parameters")} == {"training"}
    assert world.graph.nodes("run") == [Node("run", "run-1", "completed")]


def test_training_alone_is_traced_to_the_run_that_ingested(world: World) -> None:
    world.run("run-1", INGESTION + TRAINING, ["EWR"])
    world.run("run-2", TRAINING, [])
    above = world.graph.ancestors(Node("task", TRAINING[0].name, "run-2"))
    assert of_kind(above, "source") == {("airports", "EWR")}


def test_a_second_delivery_extends_the_first_and_leaves_older_models_alone(world: World) -> None:
    world.run("run-1", INGESTION + TRAINING, ["EWR"])
    world.run("run-2", INGESTION + TRAINING, ["EWR", "JFK"])
    first = world.graph.ancestors(Node("task", TRAINING[0].name, "run-1"))
    second = world.graph.ancestors(Node("task", TRAINING[0].name, "run-2"))
    assert of_kind(first, "source") == {("airports", "EWR")}
    assert of_kind(second, "source") == {("airports", "EWR"), ("airports", "EWR-JFK")}


def test_a_failing_run_keeps_what_it_did_and_is_marked(world: World) -> None:
    with pytest.raises(ValueError, match="not enough"):
        world.run("run-1", INGESTION + FAILING, ["EWR"])
    failed = Node("run", "run-1", "failed")
    assert world.graph.nodes("run") == [failed]
    above = world.graph.ancestors(failed)
    assert Node("task", FAILING[0].name, "run-1") in above
    assert of_kind(above, "source") == {("airports", "EWR")}
    assert not world.graph.nodes("dataset", "model")


def test_trouble_with_the_graph_warns_once_and_the_run_goes_on(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.graph.path.mkdir()  # a folder where the file should be
    monkeypatch.setattr(logging.getLogger("flightdeck"), "propagate", True)
    with caplog.at_level(logging.WARNING, "flightdeck.lineage.hook"):
        world.run("run-1", INGESTION + TRAINING, ["EWR"])
    warnings = [record for record in caplog.records if record.name == "flightdeck.lineage.hook"]
    assert len(warnings) == 1
    assert "lineage of run run-1 is incomplete" in warnings[0].getMessage()
    world.graph.path.rmdir()
    world.run("run-2", INGESTION + TRAINING, ["EWR"])
    assert {edge.run_id for edge in world.graph.edges()} == {"run-2"}
