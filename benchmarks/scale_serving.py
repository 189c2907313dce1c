"""The arithmetic of docs/scale-serving.md: from measured figures to 120,000 and 1,200,000 requests a second.

After new measurements: correct the page's block and run `python -m benchmarks.scale_serving`.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import scale_page
from benchmarks.scale_page import DAY_S

PAGE = Path(__file__).parents[1] / "docs/scale-serving.md"
MEASURED, GIVEN, ASSUMED, EXTRAPOLATED = "measured", "given", "assumed", "extrapolated"
HEADS = ("what", "arithmetic", "value", "ten times that", "")
Row = tuple[str, ...]


class Fleet(NamedTuple):
    """What a load needs: CPU of a mean request, items a second, and so on; cores at the load at which they are run."""

    cpu_us: float
    items_per_s: float
    cores: float
    shadow_cores: float
    machines: int
    workers_gb: float
    in_gbit: float
    out_gbit: float
    logged_per_s: float


def fleet(given: dict[str, Any], requests_per_s: float) -> Fleet:
    """Return what a load needs, a part of whose requests ask about 50 items and the others about one."""
    aim, has = given["aim"], given["measured"]
    many, load = float(aim["share_of_50_items"]), float(aim["load_of_a_core"])

    def mean(one: float, fifty: float) -> float:
        return (1 - many) * one + many * fifty

    cpu_us = mean(has["cpu_us_1"], has["cpu_us_50"])
    items_per_s = requests_per_s * mean(1, 50)
    cores = requests_per_s * cpu_us / 1e6 / load
    shadow_cores = requests_per_s * aim["share_of_shadow"] * has["shadow_cpu_us"] / 1e6 / load
    machines = math.ceil((cores + shadow_cores) / aim["workers_of_a_machine"]) + 1
    return Fleet(
        cpu_us,
        items_per_s,
        cores,
        shadow_cores,
        machines,
        aim["workers_of_a_machine"] * has["mb_of_a_worker"] / 1e3,
        requests_per_s * mean(has["request_bytes_1"], has["request_bytes_50"]) * 8 / 1e9,
        requests_per_s * mean(has["answer_bytes_1"], has["answer_bytes_50"]) * 8 / 1e9,
        requests_per_s * mean(aim["log_rate_1"], 50 * aim["log_rate_50"]),
    )


def answered_share(given: dict[str, Any], load: float) -> float:
    """Return what part of its capacity a core still answers at `load` times of it, if it refuses the rest.

    A core has 1 second a second: answers and refusals together take it all, and together they are what arrives.
    """
    answer_us, refusal_us = float(given["measured"]["cpu_us_1"]), float(given["measured"]["refusal_cpu_us"])
    return max((answer_us - load * refusal_us) / (answer_us - refusal_us), 0.0)


def rows(given: dict[str, Any]) -> list[Row]:
    """Return what is needed, how it follows, how much it is at either load, and how it is known."""
    aim, has = given["aim"], given["measured"]
    small, large = (fleet(given, per_s) for per_s in aim["requests_per_s"])
    return [
        ("requests", "", *(f"{per_s:,} /s" for per_s in aim["requests_per_s"]), GIVEN),
        *_work(given, small, large),
        *_log(given, small, large),
        *_overload(given),
        ("one request, `mlflow models serve`", f"x {has['ratio_mlflow']}", *_us(has, "ratio_mlflow"), MEASURED),
        ("one request, BentoML, its best form", f"x {has['ratio_bentoml']}", *_us(has, "ratio_bentoml"), MEASURED),
    ]


def _work(given: dict[str, Any], small: Fleet, large: Fleet) -> list[Row]:
    aim, has = given["aim"], given["measured"]
    load, of_machine, n_workers = aim["load_of_a_core"], aim["cores_of_a_machine"], aim["workers_of_a_machine"]
    both = (small, large)
    states_gb = aim["keys"] * has["bytes_per_key"] / 1e9
    return [
        ("one request, 1 item", "server CPU, everything on", *2 * (f"{has['cpu_us_1']} us",), MEASURED),
        ("one request, 50 items", "the same", *2 * (f"{has['cpu_us_50']} us",), MEASURED),
        ("of them with 50 items", "", *2 * (f"{aim['share_of_50_items']:.0%}",), ASSUMED),
        ("one request, mean", "by these shares", *(f"{f.cpu_us:.0f} us" for f in both), EXTRAPOLATED),
        ("items", "requests x mean items", *(f"{f.items_per_s:,.0f} /s" for f in both), EXTRAPOLATED),
        ("load of a core", "", *2 * (f"{load:.0%}",), ASSUMED),
        ("cores", "requests x mean / load", *(f"{math.ceil(f.cores)}" for f in both), EXTRAPOLATED),
        ("one shadow, 1 item", "its own CPU", *2 * (f"{has['shadow_cpu_us']} us",), MEASURED),
        (
            f"cores of one shadow for {aim['share_of_shadow']:.0%} of the units",
            "if all asked about 1 item",
            *(f"{math.ceil(f.shadow_cores)}" for f in both),
            EXTRAPOLATED,
        ),
        (
            f"machines of {of_machine} cores",
            f"cores of both / {n_workers} workers each, and one spare",
            *(f"{f.machines}" for f in both),
            EXTRAPOLATED,
        ),
        (
            "core hours a day",
            "cores x 24",
            *(f"{math.ceil(f.cores + f.shadow_cores) * 24:,}" for f in both),
            EXTRAPOLATED,
        ),
        ("a worker's memory", "two releases of 1 MB", *2 * (f"{has['mb_of_a_worker']} MB",), MEASURED),
        ("workers of a machine", f"{n_workers} x that", *(f"{f.workers_gb:.1f} GB" for f in both), EXTRAPOLATED),
        (
            "feature states of a machine",
            f"{aim['keys']:,} keys x {has['bytes_per_key']} bytes, embedded",
            *2 * (f"{states_gb:.1f} GB",),
            EXTRAPOLATED,
        ),
        (
            "network in",
            f"{has['request_bytes_1']} and {has['request_bytes_50']:,} bytes",
            *(f"{f.in_gbit:.1f} Gbit/s" for f in both),
            EXTRAPOLATED,
        ),
        (
            "network out",
            f"{has['answer_bytes_1']} and {has['answer_bytes_50']:,} bytes",
            *(f"{f.out_gbit:.1f} Gbit/s" for f in both),
            EXTRAPOLATED,
        ),
    ]


def _log(given: dict[str, Any], small: Fleet, large: Fleet) -> list[Row]:
    aim, has = given["aim"], given["measured"]
    both, frame, parquet = (small, large), has["log_bytes_item"], has["parquet_bytes_item"]
    compact_us, load = has["columnar_cpu_us_item"], aim["load_of_a_core"]
    rates = f"{aim['log_rate_1']:.0%} of single items, {aim['log_rate_50']:.0%} of searches"
    return [
        ("log, everything", f"items x {frame} bytes", *(_mb(f.items_per_s * frame) for f in both), EXTRAPOLATED),
        ("a day of it", "frames", *(_tb(f.items_per_s * frame) for f in both), EXTRAPOLATED),
        (
            "cores that make it Parquet",
            f"{compact_us} us an item / load",
            *(f"{f.items_per_s * compact_us / 1e6 / load:,.1f}" for f in both),
            EXTRAPOLATED,
        ),
        ("log, sampled", "", *2 * (rates,), ASSUMED),
        ("records kept", "", *(f"{f.logged_per_s:,.0f} /s" for f in both), EXTRAPOLATED),
        ("writing", f"x {frame} bytes", *(_mb(f.logged_per_s * frame) for f in both), EXTRAPOLATED),
        ("a day of it", "frames", *(_tb(f.logged_per_s * frame) for f in both), EXTRAPOLATED),
        ("a day of it", f"Parquet, {parquet} bytes", *(_tb(f.logged_per_s * parquet) for f in both), EXTRAPOLATED),
        (
            "cores that make it Parquet",
            f"{compact_us} us an item / load",
            *(f"{f.logged_per_s * compact_us / 1e6 / load:,.1f}" for f in both),
            EXTRAPOLATED,
        ),
    ]


def _overload(given: dict[str, Any]) -> list[Row]:
    has = given["measured"]
    found = [(f"a core at {load:.0%} of its capacity", answered_share(given, load)) for load in (1.2, 1.5, 2.0)]
    return [
        ("one refusal", "server CPU", *2 * (f"{has['refusal_cpu_us']} us",), MEASURED),
        *((what, "still answers", *2 * (f"{share:.0%} of it",), EXTRAPOLATED) for what, share in found),
    ]


def _us(has: dict[str, Any], ratio: str) -> tuple[str, str]:
    return 2 * (f"{has['cpu_us_1'] * has[ratio]:,.0f} us",)  # type: ignore[return-value]


def _mb(bytes_per_s: float) -> str:
    return f"{bytes_per_s / 1e6:,.0f} MB/s"


def _tb(bytes_per_s: float) -> str:
    return f"{bytes_per_s * DAY_S / 1e12:,.1f} TB"


def rewritten(page: str) -> str:
    """Return the page with its table made from its figures."""
    return scale_page.rewritten(page, HEADS, rows)


def main() -> None:
    lines = scale_page.rewrite(PAGE, HEADS, rows)
    print(json.dumps({"benchmark": "scale_serving", "values": [[line[0], *line[2:4]] for line in lines]}))


if __name__ == "__main__":
    main()
