"""Feast's point-in-time join (`get_historical_features`) on local files; asked by `benchmarks/feast_join.py`."""

from typing import Any

import pandas as pd
from feast_repo import declare, references
from lines import serve

held: dict[str, Any] = {}


def load(folder: str, offline: str, views: list[dict[str, Any]], rows: str) -> None:
    """Declare the views and read the rows to join to, which every later command uses."""
    online = {"type": "sqlite", "path": f"{folder}/online.db"}
    held["store"] = declare(folder, views, offline, online)
    held["references"] = references(views)
    held["rows"] = pd.read_parquet(rows)


def join() -> dict[str, Any]:
    """Join all features to all rows, as a table in memory."""
    job = held["store"].get_historical_features(
        entity_df=held["rows"], features=held["references"], full_feature_names=True
    )
    held["joined"] = job.to_arrow()
    return {"rows": held["joined"].num_rows}


def save(path: str) -> None:
    """Write what the last join gave, for the comparison."""
    held["joined"].to_pandas().to_parquet(path)


serve(load, join, save)
