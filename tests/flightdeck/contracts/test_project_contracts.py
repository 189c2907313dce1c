"""The contracts of this project say what its code does."""

import inspect
from importlib import import_module

import pytest
import yaml

from flightdeck.contracts.stage import StageContract, read_contract
from flightdeck.core.layout import PROJECT
from flightdeck.events.stream import Stream
from flightdeck.monitoring import freshness, quality, serving_stats, skew
from pipelines.features.model_input import COMPUTED, REQUEST_COLUMNS
from pipelines.ingestion.streams import STREAMS

PIPELINES = ("ingestion", "features", "training", "evaluation", "release", "monitoring")
ARROW = {"timestamp[us, tz=UTC]": "timestamp[us, UTC]", "double": "float64"}


def columns(stage: str, dataset: str, side: str = "outputs") -> list[tuple[str, str]]:
    (found,) = [kept for kept in getattr(read_contract(PROJECT, stage), side) if kept.name == dataset]
    return [(column.name, column.type) for column in found.columns]


def names(stage: str, dataset: str, side: str = "outputs") -> list[str]:
    return [name for name, _ in columns(stage, dataset, side)]


def catalog_names(contract: StageContract, side: str) -> set[str]:
    return {dataset.name for dataset in getattr(contract, side) if dataset.kept_in == "catalog"}


@pytest.mark.parametrize("stage", PIPELINES)
def test_datasets_of_a_contract_are_datasets_of_the_pipeline(stage: str) -> None:
    wired = import_module(f"pipelines.{stage}.pipeline").create_pipeline()
    contract = read_contract(PROJECT, stage)
    assert catalog_names(contract, "inputs") <= wired.inputs()
    assert catalog_names(contract, "outputs") <= wired.all_outputs() | {"draft_bundle"}


@pytest.mark.parametrize("stage", PIPELINES)
def test_what_the_catalog_keeps_of_a_pipeline_is_in_its_contract(stage: str) -> None:
    catalog = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text(encoding="utf-8"))
    wired = import_module(f"pipelines.{stage}.pipeline").create_pipeline()
    kept = {name for name in wired.all_outputs() & set(catalog) if not name.startswith(("monitoring_", "alert"))}
    assert kept <= catalog_names(read_contract(PROJECT, stage), "outputs")


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_event_columns_are_those_of_the_streams(stream: Stream) -> None:
    declared = [(field.name, ARROW.get(str(field.type), str(field.type))) for field in stream.schema]
    assert columns("ingestion", f"{stream.name}_events") == declared


def test_request_columns_and_computed_features_are_those_of_the_code() -> None:
    assert names("inference", "request columns", "inputs") == list(REQUEST_COLUMNS)
    assert names("inference", "request-time features") == list(COMPUTED)
    assert set(COMPUTED) <= set(names("features", "training_set"))


def test_monitoring_tables_are_those_of_the_code() -> None:
    assert names("monitoring", "monitoring/quality.parquet") == list(quality.WINDOW_COLUMNS)
    for table, module in (("freshness", freshness), ("skew", skew), ("serving", serving_stats)):
        assert names("monitoring", f"monitoring/{table}.parquet") == list(module.TABLE_TYPES), table


def test_contracts_name_stages_that_are_pipelines() -> None:
    registry = inspect.getsource(import_module("pipelines.pipeline_registry"))
    for stage in PIPELINES:
        assert f'"{stage}"' in registry
