"""Feast's online read (`get_online_features`) on SQLite or Redis; asked by `benchmarks/bench_online_read.py`."""

import statistics
import time
from typing import Any

import pandas as pd
from feast_repo import declare, references
from lines import serve

held: dict[str, Any] = {}


def load(folder: str, online: dict[str, str], views: list[dict[str, Any]]) -> None:
    """Declare the views and write their feature rows to the online store."""
    store = declare(folder, views, "dask", online)
    for view in views:
        store.write_to_online_store(view["name"], df=pd.read_parquet(view["path"]), allow_registry_cache=True)
    held["read"] = lambda rows: store.get_online_features(
        features=held["references"], entity_rows=rows, full_feature_names=True
    ).to_dict()
    held["references"] = references(views)


def read(rows: dict[str, list[str]]) -> dict[str, Any]:
    """Return the features of one batch, for the comparison."""
    return {"features": held["read"](rows)}


def hold(batches: list[dict[str, list[str]]]) -> None:
    """Keep the batches that `measure` reads."""
    held["batches"] = batches


def measure() -> dict[str, Any]:
    """Read every batch once; return CPU and wall microseconds of one read: mean of CPU, median of wall."""
    walls, cpu = [], time.process_time()
    for batch in held["batches"]:
        wall = time.perf_counter()
        held["read"](batch)
        walls.append(time.perf_counter() - wall)
    cpu = (time.process_time() - cpu) / len(walls)
    return {"cpu_us": cpu * 1e6, "wall_us": statistics.median(walls) * 1e6}


serve(load, read, hold, measure)
