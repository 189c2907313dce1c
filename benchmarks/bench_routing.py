"""What routing costs: microseconds a batch by table and batch, the best of seven runs. One JSON line last.

`python -m benchmarks.bench_routing`. Items: one; 64 of one request (one unit); 64 of 64 requests.
"""

import json
import timeit
from functools import partial

import numpy as np

from flightdeck.inference.experiments import Experiment, split
from flightdeck.inference.routing import RoutingTable, route
from flightdeck.inference.routing_rules import NO_RULES, Canary, Rules, Segment, Shadow

N_CALLS, N_RUNS = 500, 7
SEGMENTS = (
    Segment("EWR", {"origin": ("EWR",)}, 6, Canary(7, 0.1)),
    Segment("JFK-UA", {"origin": ("JFK",), "carrier": ("UA",)}, 8),
)
FULL = Rules(
    (Shadow(3, 1.0), Shadow(4, 0.2)),
    (Experiment("prices", "prices@7", split([("old", 1, 0.3), ("new", 5, 0.3)])),),
    SEGMENTS,
)


def make_table(canary: Canary | None = None, rules: Rules = NO_RULES) -> RoutingTable:
    named = rules.versions | {1} | ({canary.version} if canary is not None else set())
    return RoutingTable(1, canary, rules, {version: f"{version:064d}" for version in named})


def main() -> None:
    tables = {
        "champion": make_table(),
        "canary": make_table(Canary(2, 0.1)),
        "segments": make_table(Canary(2, 0.1), Rules(segments=SEGMENTS)),
        "everything": make_table(Canary(2, 0.1), FULL),
    }
    random = np.random.default_rng(1)
    found = {}
    for batch, n_items, n_units in (("1", 1, 1), ("64_of_1_unit", 64, 1), ("64_of_64_units", 64, 64)):
        units = [f"traveller-{n % n_units}" for n in range(n_items)]
        columns = {
            "origin": np.array(random.choice(["EWR", "JFK", "LGA"], n_items).tolist(), dtype=object),
            "carrier": np.array(random.choice(["UA", "DL"], n_items).tolist(), dtype=object),
        }
        for name, table in tables.items():
            runs = timeit.repeat(partial(route, table, units, columns), number=N_CALLS, repeat=N_RUNS)
            found[f"{name}_{batch}_us"] = round(min(runs) / N_CALLS * 1e6, 2)
            print(f"{name:10} {batch:>14}: {found[f'{name}_{batch}_us']:7.2f} us")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
