"""All views in DuckDB, on one thread: `ASOF LEFT JOIN` on running totals, at the head and at each tail."""

# ruff: noqa: S608 - every name comes from a declaration, no value does

from typing import Any

import duckdb
from features_task import View, by_source, held, means, read, save
from lines import serve

connection = duckdb.connect()
connection.execute("SET threads = 1")


def load(folder: str, views: list[View]) -> None:
    """Read requests and events into tables in memory."""
    requests, events = read(folder, views)
    for name, table in {"requests": requests, **events}.items():
        connection.register("arrow_table", table)
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM arrow_table")
        connection.unregister("arrow_table")
    held["views"] = views


def run() -> dict[str, Any]:
    """Join all views to all requests, as columns in memory."""
    held["parts"] = []
    for (entity, sources, is_latest), views in by_source(held["views"]).items():
        keys = list(entity)
        known = " AND ".join([f"{name} IS NOT NULL" for name in keys] or ["true"])
        if is_latest:
            statements = [_latest(view, keys, known) for view in views]
        elif len(sources) > 1:
            statements = [_open(views[0], list(sources), keys)]
        else:
            statements = [_windows(views, keys)]
        for statement in statements:
            held["parts"].append(connection.execute(statement).fetchnumpy())
    return {"rows": len(held["parts"][0]["row"])}


def collect(path: str) -> None:
    """Write what the last run gave, in the order of the requests."""
    held["joined"] = {}
    for part in held["parts"]:
        row = part.pop("row")
        for name, values in part.items():
            placed = values.astype("float64")
            if hasattr(placed, "filled"):
                placed = placed.filled(float("nan"))
            ordered = placed.copy()
            ordered[row] = placed
            held["joined"][name] = ordered
    save(path)


def _partition(keys: list[str]) -> str:
    return f"PARTITION BY {', '.join(keys)}" if keys else ""


def _on(keys: list[str], alias: str, time: str) -> str:
    return " AND ".join([*(f"r.{name} = {alias}.{name}" for name in keys), f"{time} >= {alias}.created"])


def _windows(views: list[View], keys: list[str]) -> str:
    sums = dict.fromkeys(column for view in views for column in means(view))
    over = f"OVER ({_partition(keys)} ORDER BY created)"  # RANGE: events of one moment share their totals
    totals = ", ".join(["count(*) {o} AS n", *(f"sum({name}) {{o}} AS {name}" for name in sums)]).format(o=over)
    windows = list(dict.fromkeys(tuple(window) for view in views for window in view["windows"]))
    selected, joins = [], []
    for number, (window_us, tile_us) in enumerate(windows):
        joins.append(
            f"ASOF LEFT JOIN totals t{number} ON "
            + _on(keys, f"t{number}", f"(r.at - {window_us}) // {tile_us} * {tile_us}")
        )
    for view in views:
        names = iter(view["columns"])
        for window in view["windows"]:
            tail = f"t{windows.index(tuple(window))}"
            n = f"(coalesce(h.n, 0) - coalesce({tail}.n, 0))"
            for kind, column in view["aggregates"]:
                value = f"(coalesce(h.{column}, 0) - coalesce({tail}.{column}, 0))::DOUBLE / nullif({n}, 0)"
                selected.append(f"{n if kind == 'count' else value} AS {next(names)}")
    columns = ", ".join([*keys, "created", totals])
    return (
        f"WITH totals AS MATERIALIZED (SELECT {columns} FROM {views[0]['sources'][0]}) "
        f"SELECT r.row, {', '.join(selected)} FROM requests r "
        f"ASOF LEFT JOIN totals h ON {_on(keys, 'h', 'r.at')} {' '.join(joins)}"
    )


def _open(view: View, sources: list[str], keys: list[str]) -> str:
    columns = ", ".join([*keys, "created"])
    parts = " UNION ALL ".join(
        f"SELECT {columns}, {1 if place == 0 else -1} AS step FROM {name}" for place, name in enumerate(sources)
    )
    totals = f"SELECT {columns}, sum(step) OVER ({_partition(keys)} ORDER BY created) AS open FROM ({parts})"
    return (
        f"SELECT r.row, coalesce(h.open, 0) AS {view['columns'][0]} FROM requests r "
        f"ASOF LEFT JOIN ({totals}) h ON {_on(keys, 'h', 'r.at')}"
    )


def _latest(view: View, keys: list[str], known: str) -> str:
    names = [name.split("__", 1)[1] for name in view["columns"][:-1]]
    order = ", ".join([*keys, "created"])
    chosen = (
        f"SELECT {order}, {', '.join(names)} FROM {view['sources'][0]} WHERE {known} "
        f"QUALIFY row_number() OVER (PARTITION BY {order} ORDER BY event_id DESC) = 1"
    )
    fresh = f"r.at - h.created <= {view['ttl_us']}"
    columns = [f"CASE WHEN {fresh} THEN h.{name}::DOUBLE END AS {view['name']}__{name}" for name in names]
    columns.append(f"CASE WHEN {fresh} THEN (r.at - h.created) / 1e6 END AS {view['columns'][-1]}")
    return f"SELECT r.row, {', '.join(columns)} FROM requests r ASOF LEFT JOIN ({chosen}) h ON {_on(keys, 'h', 'r.at')}"


serve(load, run, collect)
