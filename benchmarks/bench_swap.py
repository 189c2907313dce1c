"""100 swaps of the champion under load: what fails, and what becomes of the tail.

Bundles of the same models with different files are sealed beforehand; under an open loop at 40 % of the capacity each
is registered and promoted in the ledger once the server answers with the one before, and each is verified, opened and
swapped in while requests go on. The same load without swaps, before and after them, is what the tail is compared with.

Keys: `swaps`, `failed` (requests that were not answered by a model, swaps included), `p99_ms_steady`,
`p99_ms_swapping`, `p99_ratio`. Run: `python -m benchmarks.bench_swap [--quick]`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench_overload import N_BODIES, PATH, capacity_of
from benchmarks.http_load import Load, stream
from benchmarks.machine import QUIET_SHARE, Watch
from benchmarks.seen import LOST, MODES, Seen, together
from benchmarks.server_process import Server, our_server
from benchmarks.serving_world import World, questions, train
from flightdeck.core.errors import FlightdeckError
from flightdeck.inference.bundle import Bundle

N_SWAPS, CONNECTIONS, LOAD = 100, 64, 0.4
STEADY_S, LONGEST_SWAP_S, LOOK_S = 20.0, 15.0, 0.05


@dataclass(frozen=True)
class Swapped:
    """What was seen while the champion was swapped.

    Parameters
    ----------
    seen
        All requests.
    n_swaps
        How many swaps were completed.
    ended_s
        When the last was, seconds from the start of the load.
    """

    seen: Seen
    n_swaps: int
    ended_s: float


def prepare(world: World, n: int) -> list[Bundle]:
    """Seal `n` bundles that differ in a file which no answer hangs on."""
    files = train().files
    return [world.seal({**files, "runbook.md": f"# Serving, number {number}\n".encode()}) for number in range(n)]


def swap_all(world: World, server: Server, bundles: Sequence[Bundle]) -> int:
    """Promote one bundle after the other, each once the one before answers; return how many came to answer.

    Raises
    ------
    FlightdeckError
        If one does not within 15 s.
    """
    for n_swaps, bundle in enumerate(bundles):
        version = world.release(bundle)
        deadline_s = time.monotonic() + LONGEST_SWAP_S
        while champion_of(server) != version:
            if time.monotonic() > deadline_s:
                raise FlightdeckError(f"swapping to version {version}: it does not answer after {n_swaps} swaps")
            time.sleep(LOOK_S)
    return len(bundles)


def champion_of(server: Server) -> int | None:
    """Return the version that answers."""
    state = server.get("/readyz")
    return next((entry["model_version"] for entry in state["releases"] if entry["arm"] == "champion"), None)


def swap_under_load(world: World, server: Server, bundles: Sequence[Bundle], per_s: float) -> Swapped:
    """Swap through the bundles while requests come at a steady rate."""
    print(f"swapping {len(bundles)} times under {per_s:,.0f} requests a second", file=sys.stderr)
    longest_s = len(bundles) * LONGEST_SWAP_S
    with Load(server.port, [asked_at(per_s, longest_s)], longest_s) as load, ThreadPoolExecutor(1) as sender:
        began_s = time.monotonic()
        sending = sender.submit(load.run)
        try:
            n_swaps = swap_all(world, server, bundles)
        finally:
            ended_s = time.monotonic() - began_s
            load.stop()
        return Swapped(sending.result()["all"], n_swaps, ended_s)


def asked_at(per_s: float, seconds: float) -> dict[str, Any]:
    """Return a steady stream of requests."""
    return stream("all", PATH, questions(N_BODIES, 1), CONNECTIONS, rates=[(seconds, per_s)])


def steady(server: Server, per_s: float, seconds: float) -> Seen:
    """Return what an open loop at a steady rate sees."""
    with Load(server.port, [asked_at(per_s, seconds)], seconds) as load:
        watch = Watch(server.pid, load.pid)
        seen = load.run()["all"]
        others = watch.stop().others_share
    if others > QUIET_SHARE:
        print(f"disturbed: others used {others:.1%} of the machine", file=sys.stderr)
    return seen


def report(calm: Seen, swapped: Swapped) -> dict[str, float]:
    """Return the keys of the JSON line."""
    failed = sum(int((seen.mode != MODES.index("model")).sum()) for seen in (calm, swapped.seen))
    before_ms, during_ms = calm.percentile_ms(99), swapped.seen.percentile_ms(99)
    return {
        "swaps": swapped.n_swaps,
        "failed": failed,
        "p99_ms_steady": round(before_ms, 2),
        "p99_ms_swapping": round(during_ms, 2),
        "p99_ratio": round(during_ms / before_ms, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Swapping the champion under load.")
    parser.add_argument("--quick", action="store_true", help="10 swaps")
    parser.add_argument("--swaps", type=int, help="another number of swaps")
    arguments = parser.parse_args()
    n_swaps = arguments.swaps or (10 if arguments.quick else N_SWAPS)
    seconds = STEADY_S / 4 if arguments.quick else STEADY_S
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        world.feed_store()
        first, *bundles = prepare(world, n_swaps + 1)
        world.release(first)
        with our_server(world.layout.root) as server:
            per_s = LOAD * capacity_of(server, seconds / 2)
            before = steady(server, per_s, seconds)
            swapped = swap_under_load(world, server, bundles, per_s)
            after = steady(server, per_s, seconds)
    calm = together([before, after])
    rows = [("before", before), ("swapping", swapped.seen), ("after", after)]
    print(f"{'part':<10} requests  lower rung   503  lost   p50 ms   p99 ms   max ms", file=sys.stderr)
    for part, seen in rows:
        figures = " ".join(f"{seen.percentile_ms(q):8.2f}" for q in (50, 99, 100))
        lower, refused, lost = (int(found.sum()) for found in (seen.mode > 1, seen.status == 503, seen.status == LOST))
        print(f"{part:<10} {len(seen):8,} {lower:11,} {refused:5,} {lost:5,} {figures}", file=sys.stderr)
    print(f"{swapped.ended_s / max(swapped.n_swaps, 1):.2f} s a swap, promotion to answer", file=sys.stderr)
    print(json.dumps(report(calm, swapped)))


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
