"""The arithmetic of docs/scale-features.md: from measured figures to 1.5 billion updates a day and 120,000 requests/s.

After new measurements: correct the page's block and run `python -m benchmarks.scale_features`.
"""

import json
import math
from pathlib import Path
from typing import Any

from benchmarks import scale_page
from benchmarks.scale_page import DAY_S

PAGE = Path(__file__).parents[1] / "docs/scale-features.md"
HEADS = ("what", "arithmetic", "value", "")
Row = tuple[str, str, str, str]


def rows(given: dict[str, Any]) -> list[Row]:
    """Return what is needed, how it follows, how much it is, and whether it is measured or extrapolated."""
    aim, has = given["aim"], given["measured"]
    load = aim["load_of_a_core"]
    mean_per_s = aim["updates_per_day"] / DAY_S
    peak_per_s = mean_per_s * aim["peak_to_mean"]
    consumers = math.ceil(peak_per_s / (has["redis_events_per_s"] * load))
    partitions = 2 ** math.ceil(math.log2(consumers * aim["partitions_per_consumer"]))
    state_gb = aim["keys"] * has["bytes_per_key"] / 1e9
    redis_gb = aim["keys"] * (has["bytes_per_key"] + has["redis_overhead_bytes_per_key"]) / 1e9
    reads = aim["requests_per_s"]
    read_cores = reads * has["redis_read_us_1"] / 1e6 / load
    server_cores = reads * has["redis_server_us_1"] / 1e6 / load
    feed_cores = consumers * has["redis_server_share_of_consumer"]
    net_gbit = reads * has["redis_bytes_per_read_1"] * 8 / 1e9
    nodes = max(math.ceil(server_cores + feed_cores), math.ceil(redis_gb / aim["gb_per_node"]), 3)
    embedded_feed = peak_per_s / has["embedded_events_per_s"] / load
    machine_reads = (aim["cores_of_a_machine"] - embedded_feed) * load / (has["read_us_1"] / 1e6)
    machines = math.ceil(reads / machine_reads) + 1
    batch_rows_per_s = aim["keys"] / aim["batch_every_s"]
    batch_cores = batch_rows_per_s / has["offline_rows_per_cpu_s"]
    stream_cores = mean_per_s / has["redis_events_per_s"]
    worst_gb = aim["keys"] * has["bytes_of_largest_key"] / 1e9
    x = "extrapolated"

    def told(figure: str) -> str:
        return str(given["not_measured_yet"].get(figure, "measured"))

    return [
        ("updates, mean", f"{aim['updates_per_day']:,} / {DAY_S:,} s", f"{mean_per_s:,.0f} /s", "given"),
        ("updates, peak", f"x {aim['peak_to_mean']}", f"{peak_per_s:,.0f} /s", "assumed"),
        (
            "one consumer's core",
            "three views each",
            f"{has['redis_events_per_s']:,} /s",
            told("redis_events_per_s"),
        ),
        ("consumer cores", f"peak / (one core x {load})", f"{consumers}", x),
        ("partitions", f"{aim['partitions_per_consumer']} a consumer, power of two", f"{partitions}", x),
        ("a key's state", "mean over Zipf-distributed keys", f"{has['bytes_per_key']:,} bytes", told("bytes_per_key")),
        ("states", f"{aim['keys']:,} keys", f"{state_gb:,.0f} GB", x),
        ("states in Redis", f"+ {has['redis_overhead_bytes_per_key']} bytes a key", f"{redis_gb:,.0f} GB", x),
        ("states, if all keys were as the largest", f"{has['bytes_of_largest_key']:,} bytes", f"{worst_gb:,.0f} GB", x),
        ("one read, client", "four views, one entity", f"{has['redis_read_us_1']} us CPU", told("redis_read_us_1")),
        ("one read, Redis", "one MGET", f"{has['redis_server_us_1']} us CPU", told("redis_server_us_1")),
        ("serving cores, reads only", f"{reads:,} /s x client / {load}", f"{math.ceil(read_cores)}", x),
        ("Redis cores, reads", f"{reads:,} /s x Redis / {load}", f"{server_cores:.1f}", x),
        ("Redis cores, feed", "with the consumers", f"{feed_cores:.1f}", x),
        ("network, reads", f"{has['redis_bytes_per_read_1']:,} bytes a read", f"{net_gbit:.1f} Gbit/s", x),
        ("Redis nodes", f"by cores, by {aim['gb_per_node']} GB each, at least 3; without replicas", f"{nodes}", x),
        ("embedded instead: feed", "every machine applies everything", f"{embedded_feed:.1f} cores a machine", x),
        ("embedded instead: machines", f"{aim['cores_of_a_machine']} cores each, one spare", f"{machines}", x),
        (
            "freshness, streaming",
            "p99, event to readable, 20,000/s",
            f"{has['freshness_p99_ms']} ms",
            told("freshness_p99_ms"),
        ),
        ("one core offline", "rows joined", f"{has['offline_rows_per_cpu_s']:,} /s", told("offline_rows_per_cpu_s")),
        ("cores that streaming takes", "mean updates / one core", f"{stream_cores:.1f}", x),
        (
            "cores that batch takes",
            f"every key anew each {aim['batch_every_s']} s",
            f"{batch_cores:,.0f}",
            x,
        ),
    ]


def rewritten(page: str) -> str:
    """Return the page with its table made from its figures."""
    return scale_page.rewritten(page, HEADS, rows)


def main() -> None:
    lines = scale_page.rewrite(PAGE, HEADS, rows)
    print(json.dumps({"benchmark": "scale_features", "values": {line[0]: line[2] for line in lines}}))


if __name__ == "__main__":
    main()
