"""The point-in-time join against pandas on the same task, in pairs: CPU seconds and their ratio.

Task: count, mean delay and late share of departures by origin in the last 60 minutes, for every flight of the log at
T-2h. The pandas side is the best of the pandas forms measured on this data: `merge_asof` on running sums, once for the
head of the window and once for its tail. Both must agree in every cell before anything is timed.

Run: `python -m benchmarks.bench_join [rounds]` on a data root with an event log.
"""

import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa

from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import layout
from flightdeck.events.log import EventLog
from flightdeck.features.join import EntityFrame, point_in_time_join
from flightdeck.features.view import FeatureView, Windowed

VIEW = FeatureView(
    "bench", ("origin",), "departed", Windowed((3600,), ("dep_delay_min", "is_late")), ttl_s=86_400, owner="bench"
)
WINDOW_US = 3600 * 1_000_000


def ours(departed: pa.Table, origin: np.ndarray, at_us: np.ndarray) -> np.ndarray:
    joined = point_in_time_join(VIEW, {"departed": departed}, EntityFrame({"origin": origin}, at_us))
    return np.stack([joined[name] for name in VIEW.columns])


def with_pandas(departed: pa.Table, origin: np.ndarray, at_us: np.ndarray) -> np.ndarray:
    events = pd.DataFrame(
        {
            "origin": departed["origin"].to_numpy(zero_copy_only=False),
            "at": departed["created_timestamp"].cast(pa.int64()).to_numpy(),
            "count": 1,
            "delay": departed["dep_delay_min"].to_numpy(),
            "late": departed["is_late"].to_numpy(),
        }
    )
    sums = ["count", "delay", "late"]
    events[sums] = events.groupby("origin")[sums].cumsum()
    requests = pd.DataFrame({"row": np.arange(len(at_us)), "origin": origin, "head": at_us})
    requests["tail"] = (at_us - WINDOW_US) // VIEW.tile_us * VIEW.tile_us
    sides = [
        pd.merge_asof(requests.sort_values(side), events, left_on=side, right_on="at", by="origin")
        .sort_values("row")[sums]
        .fillna(0)
        .to_numpy()
        for side in ("head", "tail")
    ]
    count, delay, late = (sides[0] - sides[1]).T
    with np.errstate(invalid="ignore"):
        return np.stack([count, delay / count, late / count])


def cpu_s(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    log = EventLog(layout().event_log)
    departed, scheduled = log.read("departed"), log.read("scheduled", columns=["origin", "scheduled_departure"])
    origin = scheduled["origin"].to_numpy(zero_copy_only=False)
    at_us = scheduled["scheduled_departure"].cast(pa.int64()).to_numpy() - 2 * WINDOW_US
    np.testing.assert_array_equal(ours(departed, origin, at_us), with_pandas(departed, origin, at_us))
    pairs = [
        (cpu_s(lambda: ours(departed, origin, at_us)), cpu_s(lambda: with_pandas(departed, origin, at_us)))
        for _ in range(rounds)
    ]
    result = {
        "benchmark": "join",
        "rows": len(at_us),
        "cpu_s": round(float(np.median([pair[0] for pair in pairs])), 4),
        "pandas_cpu_s": round(float(np.median([pair[1] for pair in pairs])), 4),
        "ratio_pandas": round(float(np.median([pair[1] / pair[0] for pair in pairs])), 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
