"""All views in pandas: `merge_asof` on running totals, at the head and at each tail; the fastest form that we found.

Entity keys are whole numbers (merge_asof by one int64 column is its fastest), made of each column once for all views.
Events and requests are sorted by time once, requests that are so already are not, and views of the same entity and
streams share the head.
"""

from typing import Any

import numpy as np
import pandas as pd
from features_task import Columns, View, by_source, held, means, read, save
from lines import serve

Codes = dict[str, tuple[dict[str, np.ndarray], int]]


def load(folder: str, views: list[View]) -> None:
    """Read requests and events into data frames."""
    requests, events = read(folder, views)
    held["requests"] = requests.to_pandas()
    held["events"] = {name: table.to_pandas() for name, table in events.items()}
    held["views"] = views


def run() -> dict[str, Any]:
    """Join all views to all requests, as columns in memory."""
    requests, back = held["requests"], None
    if not requests["at"].is_monotonic_increasing:
        requests = requests.sort_values("at", kind="stable")
        back = np.empty(len(requests), dtype=np.int64)
        back[requests["row"].to_numpy()] = np.arange(len(requests))
    frames = {"requests": requests, **held["events"]}
    codes = _codes(frames, held["views"])
    at = requests["at"].to_numpy()
    joined: Columns = {}
    for (entity, sources, is_latest), views in by_source(held["views"]).items():
        tables = [held["events"][name] for name in sources]
        asked, *keys = (_key(codes, name, len(frames[name]), entity) for name in ("requests", *sources))
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
    held["joined"] = joined if back is None else {name: values[back] for name, values in joined.items()}
    return {"rows": len(requests)}


def _codes(frames: dict[str, pd.DataFrame], views: list[View]) -> Codes:
    """Return codes of each entity column in each frame that has to do with it, -1 where unknown, and their number."""
    needed: dict[str, set[str]] = {}
    for view in views:
        for column in view["entity"]:
            needed.setdefault(column, {"requests"}).update(view["sources"])
    result: Codes = {}
    for column, names in needed.items():
        chosen = [name for name in frames if name in names]
        codes, values = pd.factorize(pd.concat([frames[name][column] for name in chosen], ignore_index=True))
        if "" in values:
            codes = np.where(codes == values.get_loc(""), -1, codes)
        parts = np.split(codes, np.cumsum([len(frames[name]) for name in chosen])[:-1])
        result[column] = dict(zip(chosen, parts, strict=True)), len(values)
    return result


def _key(codes: Codes, name: str, n_rows: int, entity: tuple[str, ...]) -> np.ndarray:
    """Return one whole number a key for each row of a frame, -1 where it is unknown."""
    key = np.zeros(n_rows, dtype=np.int64)
    for column in entity:
        parts, n_values = codes[column]
        key = np.where((key < 0) | (parts[name] < 0), -1, key * n_values + parts[name])
    return key


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
