"""Minimum, maximum and distinct values over windows in Ibis: what cannot be had as a difference of running totals.

Every event belongs to one tile of its window. A window is then some whole tiles, at most about 120, and the part of the
head's tile that is known. Both are found by equality of (key, tile), so that the work is linear in requests times tiles
and spreads over any number of machines; no range join, which both engines would run as a nested loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ibis
import ibis.expr.types as ir

from flightdeck.core.clock import SECOND_US

WHOLE = "int64"


@dataclass(frozen=True)
class Chosen:
    """A column of the events of which a window's extreme value or number of values is asked.

    Parameters
    ----------
    kind
        `min`, `max` or `distinct`.
    column
        Column of the prepared events, null where there is no value.
    name
        Name of the feature.
    at_most
        Bound of `distinct`.
    """

    kind: str
    column: str
    name: str
    at_most: int = 0


def floor_to(micros: Any, tile_us: int) -> Any:
    """Return times cut down to a multiple of `tile_us`, in whole numbers throughout."""
    return micros - ((micros % tile_us) + tile_us) % tile_us


def choose(
    events: ir.Table, requests: ir.Table, keys: Sequence[str], window_s: int, tile_us: int, wanted: Sequence[Chosen]
) -> ir.Table:
    """Return `row_id` and each wanted feature; rows whose window holds no event are left out.

    Parameters
    ----------
    events
        Columns `keys`, `created_us` and those that are wanted.
    requests
        Columns `row_id`, `keys`, `at_us`, `seen_us`.
    """
    tail = floor_to(requests.at_us - window_s * SECOND_US, tile_us)
    head = floor_to(requests.seen_us - 1, tile_us)  # the head's tile is (head, head + tile]
    placed = requests.select("row_id", *keys, "seen_us", tail_us=tail, head_us=head)
    tiled = events.mutate(tile_end_us=floor_to(events.created_us - 1, tile_us) + tile_us)
    n_tiles = ibis.greatest((placed.head_us - placed.tail_us) // tile_us, 0)
    whole = placed.select("row_id", *keys, "tail_us", place=ibis.range(0, n_tiles).unnest())
    whole = whole.mutate(tile_end_us=whole.tail_us + (whole.place.cast(WHOLE) + 1) * tile_us)
    partly = placed.mutate(tile_end_us=placed.head_us + tile_us)
    extremes = [c for c in wanted if c.kind != "distinct"]
    found = [_extremes(tiled, whole, partly, keys, extremes)] if extremes else []
    found += [_distinct(tiled, whole, partly, keys, chosen) for chosen in wanted if chosen.kind == "distinct"]
    result = found[0]
    for other in found[1:]:
        result = result.outer_join(
            other.rename(other_id="row_id"), result.row_id == other.rename(other_id="row_id").other_id
        )
        result = result.mutate(row_id=ibis.coalesce(result.row_id, result.other_id)).drop("other_id")
    return result


def _extremes(
    tiled: ir.Table, whole: ir.Table, partly: ir.Table, keys: Sequence[str], wanted: Sequence[Chosen]
) -> ir.Table:
    names = [c.name for c in wanted]
    of_tile = tiled.group_by([*keys, "tile_end_us"]).aggregate(
        **{c.name: _extreme(tiled[c.column], c.kind) for c in wanted}
    )
    rows = _at(whole, of_tile, keys).select("row_id", *names)
    single = tiled.select(*keys, "tile_end_us", "created_us", **{c.name: tiled[c.column] for c in wanted})
    both = rows.union(_seen(_at(partly, single, keys)).select("row_id", *names))
    return both.group_by("row_id").aggregate(**{c.name: _extreme(both[c.name], c.kind) for c in wanted})


def _distinct(tiled: ir.Table, whole: ir.Table, partly: ir.Table, keys: Sequence[str], chosen: Chosen) -> ir.Table:
    known = tiled.filter(tiled[chosen.column].notnull())
    of_tile = known.select(*keys, "tile_end_us", value=known[chosen.column]).distinct()
    single = known.select(*keys, "tile_end_us", "created_us", value=known[chosen.column])
    both = _at(whole, of_tile, keys).select("row_id", "value")
    both = both.union(_seen(_at(partly, single, keys)).select("row_id", "value"))
    counted = both.distinct().group_by("row_id").aggregate(n=lambda t: t.count())
    return counted.select("row_id", **{chosen.name: ibis.least(counted.n, chosen.at_most).cast("float64")})


def _extreme(column: Any, kind: str) -> Any:
    return column.min() if kind == "min" else column.max()


def _at(requests: ir.Table, events: ir.Table, keys: Sequence[str]) -> ir.Table:
    return requests.inner_join(events, [*keys, "tile_end_us"])


def _seen(joined: ir.Table) -> ir.Table:
    return joined.filter(joined.created_us <= joined.seen_us, joined.created_us > joined.tail_us)
