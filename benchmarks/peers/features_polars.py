"""All views in Polars, on one thread: `join_asof` on running totals, at the head and at each tail.

Entity keys are whole numbers, events and requests are sorted by time once, and views of the same entity and streams
share the head: the fastest form that we found.
"""

import os
from typing import Any

os.environ["POLARS_MAX_THREADS"] = "1"

import polars as pl
from features_task import View, by_source, held, means, read, save
from lines import serve

NO_VALUE = float("nan")


def load(folder: str, views: list[View]) -> None:
    """Read requests and events into data frames."""
    requests, events = read(folder, views)
    held["requests"] = pl.from_arrow(requests)
    held["events"] = {name: pl.from_arrow(table) for name, table in events.items()}
    held["views"] = views


def run() -> dict[str, Any]:
    """Join all views to all requests, as columns in memory."""
    requests = held["requests"].sort("at", maintain_order=True)
    columns: list[pl.Series] = []
    for (entity, sources, is_latest), views in by_source(held["views"]).items():
        asked, tables = _keyed(requests, [held["events"][name] for name in sources], entity)
        if is_latest:
            for view in views:
                columns += _latest(view, tables[0], asked)
        elif len(sources) > 1:
            parts = [
                table.select("key", "created", pl.lit(1 if place == 0 else -1, pl.Int64).alias("open"))
                for place, table in enumerate(tables)
            ]
            events = pl.concat(parts).sort("created", maintain_order=True)
            events = events.select("key", "created", pl.col("open").cum_sum().over("key"))
            columns.append(_as_of(events, asked, pl.col("at"))["open"].alias(views[0]["columns"][0]))
        else:
            columns += _windows(views, tables[0], asked)
    joined = pl.DataFrame([requests["row"], *columns]).sort("row").drop("row")
    held["joined"] = {name: joined[name].cast(pl.Float64).fill_null(NO_VALUE).to_numpy() for name in joined.columns}
    return {"rows": len(requests)}


def _keyed(
    requests: pl.DataFrame, tables: list[pl.DataFrame], entity: tuple[str, ...]
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Return requests and events with one whole number as key; unknown events are dropped."""
    if not entity:
        return requests.with_columns(key=pl.lit(0)), [table.with_columns(key=pl.lit(0)) for table in tables]
    names = list(entity)
    known = pl.all_horizontal(pl.col(name).is_not_null() & (pl.col(name) != "") for name in names)
    values = requests.filter(known).select(names).unique().with_row_index("key")
    values = values.with_columns(pl.col("key").cast(pl.Int64))
    asked = requests.join(values, on=names, how="left", maintain_order="left")
    return asked, [table.join(values, on=names, how="inner", maintain_order="left") for table in tables]


def _as_of(events: pl.DataFrame, asked: pl.DataFrame, time: pl.Expr) -> pl.DataFrame:
    """Return the columns of each key's last event up to a time; 0 where there is none."""
    left = asked.select("key", time.alias("at").set_sorted())
    right = events.with_columns(pl.col("created").set_sorted())
    found = left.join_asof(right, left_on="at", right_on="created", by="key", check_sortedness=False)
    return found.drop("key", "at", "created", strict=False).fill_null(0)


def _windows(views: list[View], events: pl.DataFrame, asked: pl.DataFrame) -> list[pl.Series]:
    sums = list(dict.fromkeys(column for view in views for column in means(view)))
    events = events.select(
        "key", "created", pl.int_range(1, pl.len() + 1).over("key").alias("n"), pl.col(sums).cum_sum().over("key")
    )
    head = _as_of(events, asked, pl.col("at"))
    tails: dict[tuple[int, int], pl.DataFrame] = {}
    result: list[pl.Series] = []
    for view in views:
        names = iter(view["columns"])
        for window_us, tile_us in view["windows"]:
            if (window_us, tile_us) not in tails:
                tails[window_us, tile_us] = _as_of(events, asked, (pl.col("at") - window_us) // tile_us * tile_us)
            tail = tails[window_us, tile_us]
            n = head["n"] - tail["n"]
            for kind, column in view["aggregates"]:
                values = n if kind == "count" else (head[column] - tail[column]) / n
                result.append(values.alias(next(names)))
    return result


def _latest(view: View, events: pl.DataFrame, asked: pl.DataFrame) -> list[pl.Series]:
    columns = [name.split("__", 1)[1] for name in view["columns"][:-1]]
    left = asked.select("key", pl.col("at").set_sorted())
    right = events.select("key", pl.col("created").set_sorted(), *columns, pl.col("created").alias("found"))
    found = left.join_asof(
        right, left_on="at", right_on="created", by="key", tolerance=view["ttl_us"], check_sortedness=False
    )
    age_s = ((found["at"] - found["found"]) / 1e6).alias(view["columns"][-1])
    return [*(found[name].alias(f"{view['name']}__{name}") for name in columns), age_s]


serve(load, run, save)
