"""What becomes of requests when more come than can be answered: open loop, 2,000 connections, three surfaces.

The critical surface (alerts) sends a steady fifth of the capacity throughout; the normal one (itinerary) a steady part
of the rest; the lowest (search) bursts, a second of much and a second of little. Capacity is what the closed loop does
at 16 connections. Loads: 50, 80, 120 and 200 % with the flight model, and 1200 % with a bundle each rung of which costs
5 ms an item, where nothing is cheaper than a refusal. Latency counts from the intended time of sending.

Keys, each of the worst load: `critical_answered_pct` (by any rung), `critical_p95_ms`, `reject_p99_ms` (until a 503),
`goodput_ratio` (answered within 150 ms, by capacity, above 100 %), `recovery_s` (after the load fell from 200 %
to 50 %, until nothing is late or refused any more); and `max_refusals_per_s`, the most in any second.

Run: `python -m benchmarks.bench_overload [--quick]`. The table of all loads goes to stderr; its `lag` is how
late requests were sent, by the generator or for want of a free connection: figures of a load with much of it are not
the server's. On two cores the generator has one for itself, good for about 30,000 requests a second.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dear_model import dear_files
from benchmarks.http_load import Load, stream
from benchmarks.machine import QUIET_SHARE, Used, Watch
from benchmarks.seen import MODES, Seen, together
from benchmarks.server_process import Server, our_server
from benchmarks.serving_world import World, questions, train
from flightdeck.core.errors import FlightdeckError

PATH = "/v1/predictions"
CRITICAL, NORMAL, LOWEST = "alerts", "itinerary", "search"
CONNECTIONS = {CRITICAL: 400, NORMAL: 600, LOWEST: 1000}
CRITICAL_SHARE, NORMAL_PART = 0.2, 0.3  # of the capacity; of what is left
BURSTS = (1.7, 0.3)
GOOD_S = 0.150
LOADS = (0.5, 0.8, 1.2, 2.0)
DEAR_LOAD, DEAR_ITEM_S = 12.0, 0.005
CALM_LOAD, RECOVER_S, WINDOW_S = 0.5, 15.0, 0.25
N_BODIES, TRIES = 256, 2
Parts = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Outcome:
    """What was seen at one load.

    Parameters
    ----------
    load
        Offered load by capacity.
    capacity
        Requests a second.
    seconds
        How long it was offered.
    seen
        Of each surface.
    used
        Of the machine.
    """

    load: float
    capacity: float
    seconds: float
    seen: dict[str, Seen]
    used: Used

    @property
    def critical_answered_pct(self) -> float:
        """Share of the critical requests that were answered by any rung, in percent."""
        critical = self.seen[CRITICAL]
        return float((critical.status == 200).mean()) * 100

    @property
    def critical_p95_ms(self) -> float:
        """95th percentile of the critical answers."""
        critical = self.seen[CRITICAL]
        return critical.take(critical.status == 200).percentile_ms(95)

    @property
    def refused(self) -> Seen:
        """All that was refused."""
        seen = together(self.seen.values())
        return seen.take(seen.status == 503)

    @property
    def goodput_ratio(self) -> float:
        """Answers within 150 ms a second, by capacity."""
        return int(is_good(together(self.seen.values())).sum()) / self.seconds / self.capacity


def possible_ratio(load: float) -> float:
    """Return the goodput by capacity of a server that refuses for nothing: bursts leave seconds with less than it can.

    Examples
    --------
    >>> [round(possible_ratio(load), 3) for load in (0.8, 1.2, 2.0)]
    [0.753, 0.855, 1.0]
    """
    parts = rates(load, 1.0, 2.0)
    steady = sum(parts[name][0][1] for name in (CRITICAL, NORMAL))
    return sum(min(steady + lowest, 1.0) for _, lowest in parts[LOWEST]) / len(parts[LOWEST])


def is_good(seen: Seen) -> Any:
    """Tell for each request whether it was answered within 150 ms."""
    return (seen.status == 200) & (seen.latency_s <= GOOD_S)


def rates(load: float, capacity: float, seconds: float) -> dict[str, Parts]:
    """Return (seconds, requests a second) of each surface that together offer `load` times the capacity."""
    critical = CRITICAL_SHARE * capacity
    rest = max(load * capacity - critical, 0.0)
    lowest = (1 - NORMAL_PART) * rest
    n_parts = max(2, round(seconds / 2) * 2)
    bursts = [(seconds / n_parts, lowest * BURSTS[place % 2]) for place in range(n_parts)]
    return {CRITICAL: [(seconds, critical)], NORMAL: [(seconds, NORMAL_PART * rest)], LOWEST: bursts}


def offer(server: Server, plan: dict[str, Parts], seconds: float) -> tuple[dict[str, Seen], Used]:
    """Send what is planned; return what was seen of each surface."""
    streams = [
        stream(surface, PATH, questions(N_BODIES, 1, surface=surface), CONNECTIONS[surface], rates=parts)
        for surface, parts in plan.items()
    ]
    with Load(server.port, streams, seconds) as load:
        watch = Watch(server.pid, load.pid)
        seen = load.run()
        return seen, watch.stop()


def capacity_of(server: Server, seconds: float) -> float:
    """Return the requests a second that the model answers, closed loop at 16 connections, once it is warm.

    Raises
    ------
    FlightdeckError
        If it answers none.
    """
    answered = 0.0
    for run_s in (seconds / 2, seconds):
        with Load(server.port, [stream("all", PATH, questions(N_BODIES, 1), 16)], run_s) as load:
            seen = load.run()["all"]
        answered = int((seen.mode == MODES.index("model")).sum()) / run_s
    if not answered:
        raise FlightdeckError("measuring the capacity: the model answered nothing in the closed loop")
    return answered


def overload(server: Server, load: float, capacity: float, seconds: float) -> Outcome:
    """Offer a load for some seconds; a disturbed run is taken once more, and the quieter counts."""
    print(f"offering {load:.0%} of {capacity:,.0f} requests a second for {seconds:g} s", file=sys.stderr)
    tries: list[Outcome] = []
    while len(tries) < TRIES and not any(not outcome.used.is_disturbed for outcome in tries):
        tries.append(Outcome(load, capacity, seconds, *offer(server, rates(load, capacity, seconds), seconds)))
    return min(tries, key=lambda outcome: outcome.used.others_share)


def recovery_s(server: Server, capacity: float, seconds: float) -> float:
    """Return how long after an overload of 200 % requests are still late, refused or answered by less than the model.

    The time from the moment at which the load falls to 50 % to the end of the last quarter of a second with more than
    1 % such requests.
    """
    over, calm = rates(LOADS[-1], capacity, seconds), rates(CALM_LOAD, capacity, RECOVER_S)
    print(f"recovering from {seconds:g} s of {LOADS[-1]:.0%}", file=sys.stderr)
    seen, _ = offer(server, {name: [*over[name], *calm[name]] for name in over}, seconds + RECOVER_S)
    return last_trouble_s(together(seen.values()), seconds)


def last_trouble_s(seen: Seen, since_s: float) -> float:
    """Return the end of the last window after `since_s` in which over 1 % had no good answer of the model."""
    after = seen.take(seen.at_s >= since_s)
    windows = ((after.at_s - since_s) // WINDOW_S).astype(int)
    bad = ~(is_good(after) & (after.mode == MODES.index("model")))
    n_bad, n_all = (np.bincount(windows, weights, minlength=1) for weights in (bad, np.ones(len(after))))
    troubled = np.flatnonzero(n_bad > 0.01 * n_all)
    return float(troubled[-1] + 1) * WINDOW_S if len(troubled) else 0.0


def most_in_a_second(seen: Seen) -> int:
    """Return the most requests that were answered in any whole second."""
    return int(np.bincount((seen.at_s + seen.latency_s).astype(int)).max(initial=0)) if len(seen) else 0


def report(outcomes: Sequence[Outcome], recovered_s: float) -> Iterator[tuple[str, float | None]]:
    """Yield the keys of the JSON line; null where nothing was refused."""
    refused = [outcome.refused for outcome in outcomes if len(outcome.refused)]
    yield "critical_answered_pct", round(min(outcome.critical_answered_pct for outcome in outcomes), 3)
    yield "critical_p95_ms", round(max(outcome.critical_p95_ms for outcome in outcomes), 2)
    yield "reject_p99_ms", round(max(seen.percentile_ms(99) for seen in refused), 2) if refused else None
    yield "goodput_ratio", round(min(outcome.goodput_ratio for outcome in outcomes if outcome.load > 1), 3)
    yield "recovery_s", round(recovered_s, 2)
    yield "max_refusals_per_s", max(most_in_a_second(seen) for seen in refused) if refused else 0


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines of the table of all loads."""
    heads = ("good", "model", "lower", "503", "lost")
    shown = " ".join(f"{head:>7}" for head in heads)
    yield f"{'load':>6} {'surface':<10} {'sent':>8} {shown} p50 ms  p95 ms  503 p50  503 p99  lag p99"
    for outcome in outcomes:
        for surface, seen in outcome.seen.items():
            answered, refused = seen.take(seen.status == 200), seen.take(seen.status == 503)
            shares = (is_good(seen), seen.mode == 1, seen.mode > 1, seen.status == 503, seen.status == 0)
            yield (
                f"{outcome.load:6.0%} {surface:<10} {len(seen):8,} "
                + " ".join(f"{float(share.mean()):7.2%}" for share in shares)
                + f" {answered.percentile_ms(50):6.1f} {answered.percentile_ms(95):7.1f}"
                + f" {refused.percentile_ms(50):8.1f} {refused.percentile_ms(99):8.1f}"
                + f" {float(np.percentile(seen.lag_s, 99)) * 1e3:8.1f}"
            )
        marks = f"capacity {outcome.capacity:,.0f}/s, goodput {outcome.goodput_ratio:.2f} of it, "
        marks += f"{possible_ratio(outcome.load):.2f} if no answer were cheaper and refusals cost nothing"
        disturbed = ", disturbed" if outcome.used.others_share > QUIET_SHARE else ""
        yield f"       {marks}; others used {outcome.used.others_share:.1%} of the machine{disturbed}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Serving under overload.")
    parser.add_argument("--quick", action="store_true", help="seconds instead of tens of seconds at each load")
    seconds = 4.0 if parser.parse_args().quick else 20.0
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        world = World(Path(name) / "flights")
        world.feed_store()
        world.release(world.seal(train().files))
        server = stack.enter_context(our_server(world.layout.root))
        capacity = capacity_of(server, seconds / 2)
        outcomes = [overload(server, load, capacity, seconds) for load in LOADS]
        recovered_s = recovery_s(server, capacity, seconds)
        dear = World(Path(name) / "dear")
        dear.feed_store()
        dear.release(dear.seal(dear_files(DEAR_ITEM_S)))
        server = stack.enter_context(our_server(dear.layout.root))
        outcomes.append(overload(server, DEAR_LOAD, capacity_of(server, seconds / 2), seconds))
    print("\n".join(table(outcomes)), file=sys.stderr)
    print(json.dumps(dict(report(outcomes, recovered_s))))


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
