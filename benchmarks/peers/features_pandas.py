"""All views in pandas: `merge_asof` on running totals, at the head and at each tail; the fastest form that we found.

Entity keys are whole numbers (merge_asof by one int64 column is its fastest), events and requests are sorted by time
once, and views of the same entity and streams share the head.
"""

from typing import Any

import numpy as np
import pandas as pd
from features_task import Columns, View, by_source, held, means, read, save
from lines import serve


def load(folder: str, views: list[View]) -> None:
    """Read requests and events into data frames."""
    requests, events = read(folder, views)
    held["requests"] = requests.to_pandas()
    held["events"] = {name: table.to_pandas() for name, table in events.items()}
    held["views"] = views


def run() -> dict[str, Any]:
    """Join all views to all requests, as columns in memory."""
    requests = held["requests"].sort_values("at", kind="stable")
    back = np.empty(len(requests), dtype=np.int64)
    back[requests["row"].to_numpy()] = np.arange(len(requests))
    joined: Columns = {}
    for (entity, sources, is_latest), views in by_source(held["views"]).items():
        tables = [held["events"][name] for name in sources]
        asked, keys = _keys(requests, tables, entity)
        at = requests["at"].to_numpy()
        if is_latest:
            for view in views:
                joined.update(_latest(view, tables[0].assign(key=keys[0]), asked, at))
        elif len(sources) > 1:
            parts = [
                pd.DataFrame({"key": key, "created": table["created"], "open": 1 if place == 0 else -1})
                for place, (table, key) in enumerate(zip(tables, keys, strict=True))
            ]
            events = pd.concat(parts, ignore_index=True).sort_values("created", kind="stable")
            events["open"] = events.groupby("key")["open"].cumsum()
            joined[views[0]["columns"][0]] = _as_of(events, ["open"], asked, at)["open"]
        else:
            joined.update(_windows(views, tables[0].assign(key=keys[0]), asked, at))
    held["joined"] = {name: values[back] for name, values in joined.items()}
    return {"rows": len(requests)}


def _keys(
    requests: pd.DataFrame, tables: list[pd.DataFrame], entity: tuple[str, ...]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return one whole number a key, -1 where it is unknown, of the requests and of each table."""
    frames = [requests, *tables]
    key = np.zeros(sum(map(len, frames)), dtype=np.int64)
    for name in entity:
        codes, values = pd.factorize(pd.concat([frame[name] for frame in frames], ignore_index=True))
        codes = np.where(np.isin(codes, np.flatnonzero(values == "")), -1, codes)
        key = np.where((key < 0) | (codes < 0), -1, key * len(values) + codes)
    parts = np.split(key, np.cumsum([len(frame) for frame in frames])[:-1])
    return parts[0], parts[1:]


def _as_of(events: pd.DataFrame, columns: list[str], key: np.ndarray, at: np.ndarray) -> Columns:
    """Return the columns of each key's last event up to a time; 0 where there is none."""
    asked = pd.DataFrame({"key": key, "at": at})
    found = pd.merge_asof(asked, events[["key", "created", *columns]], left_on="at", right_on="created", by="key")
    return {name: found[name].fillna(0).to_numpy() for name in columns}


def _windows(views: list[View], events: pd.DataFrame, key: np.ndarray, at: np.ndarray) -> Columns:
    totals = ["n", *dict.fromkeys(column for view in views for column in means(view))]
    events["n"] = 1
    events[totals] = events.groupby("key")[totals].cumsum()
    head = _as_of(events, totals, key, at)
    tails: dict[tuple[int, int], Columns] = {}
    result: Columns = {}
    for view in views:
        names = iter(view["columns"])
        for window_us, tile_us in view["windows"]:
            if (window_us, tile_us) not in tails:
                tails[window_us, tile_us] = _as_of(events, totals, key, (at - window_us) // tile_us * tile_us)
            tail = tails[window_us, tile_us]
            n = head["n"] - tail["n"]
            with np.errstate(invalid="ignore"):
                for kind, column in view["aggregates"]:
                    result[next(names)] = n if kind == "count" else (head[column] - tail[column]) / n
    return result


def _latest(view: View, events: pd.DataFrame, key: np.ndarray, at: np.ndarray) -> Columns:
    asked = pd.DataFrame({"key": key, "at": at})
    columns = [name.split("__", 1)[1] for name in view["columns"][:-1]]
    events = events.loc[events["key"] >= 0, ["key", "created", *columns]]
    found = pd.merge_asof(
        asked, events, left_on="at", right_on="created", by="key", tolerance=view["ttl_us"], direction="backward"
    )
    picked = {f"{view['name']}__{name}": found[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in columns}
    return {**picked, view["columns"][-1]: ((found["at"] - found["created"]) / 1e6).to_numpy()}


serve(load, run, save)
