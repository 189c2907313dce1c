"""Our server against its peers, closed loop: requests a second, latency, and server CPU of a request.

Task: the probability that a flight is late, of one model (25 features, 250 trees), for one flight a request and for 50.
Ours validates, reads four entities' features from the store, routes, logs and counts; peers are given the finished
features and do none of that. All run on this machine with one worker, each in an environment of its own, and must
answer what scikit-learn answers before anything is measured.

A ratio is a peer's server CPU of a request, over its whole process tree, by ours, at 16 connections; for BentoML and
LitServe that of their best form here, for mlflow the scikit-learn flavour with a signature (the table on stderr has the
other). `ratio_ceiling` is the CPU of an empty ASGI answer by ours: the share of our time that nobody could save. Runs
are shuffled, medians are reported, and a run during which anything else used the machine is taken again; if the machine
never becomes quiet, the quietest runs count and stderr says so. A request counts as served when the model answered it.

Run: `python -m benchmarks.bench_serving [--quick]`.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_load import Load, stream
from benchmarks.machine import QUIET_SHARE, Watch
from benchmarks.seen import MODES
from benchmarks.server_process import Server
from benchmarks.serving_sides import Asked, Side, all_sides, asked_of, write_model
from benchmarks.serving_world import World, questions, train
from flightdeck.core.errors import FlightdeckError

OURS, CEILING = "flightdeck", "empty_asgi"
N_SINGLE, N_MANY, MANY = 256, 32, 50
ROUNDS, SECONDS, TRIES = 3, 4.0, 3
CELLS = ((1, 1), (1, 16), (1, 64), (MANY, 16))  # items a request, connections
PAIRED = (1, 16)
RATIOS = {
    "ratio_mlflow": ("mlflow_sklearn",),
    "ratio_bentoml": ("bentoml", "bentoml_adaptive"),
    "ratio_litserve": ("litserve", "litserve_batch"),
    "ratio_fastapi_sklearn": ("fastapi_sklearn",),
}
Key = tuple[str, int, int]  # side, items a request, connections


@dataclass(frozen=True)
class Run:
    """One measurement of a side.

    Parameters
    ----------
    per_s
        Requests a second that the model answered.
    p95_ms
        95th percentile of their latency.
    cpu_us
        Server CPU of a request.
    others_share
        Share of the machine that others used.
    lesser_share
        Share of the requests that were refused or answered by less than the model.
    """

    per_s: float
    p95_ms: float
    cpu_us: float
    others_share: float
    lesser_share: float


@dataclass(frozen=True)
class Contender:
    """A side that runs."""

    side: Side
    server: Server
    bodies: Mapping[int, list[object]]

    def measure(self, n_items: int, connections: int, seconds: float) -> Run:
        """Measure one run, after a short one that warms up."""
        asked = stream("all", self.side.path, self.bodies[n_items], connections, headers=self.side.headers)
        with Load(self.server.port, [asked], seconds / 4) as load:
            load.run()
        with Load(self.server.port, [asked], seconds) as load:
            watch = Watch(self.server.pid, load.pid)
            seen = load.run()["all"]
            used = watch.stop()
        good = seen.take((seen.status == 200) & ((seen.mode == MODES.index("model")) | (seen.mode == 0)))
        return Run(
            per_s=len(good) / seconds,
            p95_ms=good.percentile_ms(95),
            cpu_us=used.cpu_s / len(seen) * 1e6,
            others_share=used.others_share,
            lesser_share=1 - len(good) / len(seen),
        )


def start_all(sides: Sequence[Side], scratch: Path, asked: Mapping[int, Asked], stack: ExitStack) -> list[Contender]:
    """Start every side and check its answers; a peer that cannot be started is left out and named on stderr.

    Raises
    ------
    FlightdeckError
        If ours cannot be started, or anybody answers wrongly.
    """
    found = []
    for side in sides:
        print(f"starting {side.name}", file=sys.stderr)
        try:
            server = stack.enter_context(side.start(scratch / side.name))
        except (FlightdeckError, OSError) as error:
            if side.name in (OURS, CEILING):
                raise
            print(f"without {side.name}: {error}", file=sys.stderr)
            continue
        for each in asked.values():
            side.require_right(server, each)
        found.append(Contender(side, server, {n_items: side.bodies(each) for n_items, each in asked.items()}))
    return found


def plan(names: Sequence[str], rounds: int, *, is_quick: bool) -> list[Key]:
    """Return the runs in their shuffled order: each round holds every cell of every side once.

    Quick: peers only at the connections that ratios are of.
    """
    shuffle = random.Random(1)  # noqa: S311 - an order, not a secret
    order: list[Key] = []
    for _ in range(rounds):
        cells = [(name, *cell) for name in names for cell in CELLS if name == OURS or not is_quick or cell == PAIRED]
        shuffle.shuffle(cells)
        order += cells
    return order


def measure(contenders: Sequence[Contender], order: Sequence[Key], seconds: float) -> dict[Key, list[Run]]:
    """Return the runs of each cell; one that was disturbed is taken again, at most twice, and the quietest counts."""
    by_name = {contender.side.name: contender for contender in contenders}
    runs: dict[Key, list[Run]] = {}
    for place, (name, n_items, connections) in enumerate(order):
        print(f"run {place + 1} of {len(order)}: {name}, {n_items} items, {connections} connections", file=sys.stderr)
        tries: list[Run] = []
        while len(tries) < TRIES and not any(run.others_share <= QUIET_SHARE for run in tries):
            tries.append(by_name[name].measure(n_items, connections, seconds))
        runs.setdefault((name, n_items, connections), []).append(min(tries, key=lambda run: run.others_share))
    return runs


def median(runs: Sequence[Run]) -> Run:
    """Return the median of each figure."""
    return Run(
        *(
            statistics.median(values)
            for values in zip(
                *((r.per_s, r.p95_ms, r.cpu_us, r.others_share, r.lesser_share) for r in runs), strict=True
            )
        )
    )


def report(medians: Mapping[Key, Run]) -> Iterator[tuple[str, float | None]]:
    """Yield the keys of the JSON line; a ratio to a peer that did not run is null."""
    for connections in (1, 16, 64):
        yield f"rps_{connections}", round(medians[OURS, 1, connections].per_s, 1)
    yield "items_per_s_50", round(medians[OURS, MANY, 16].per_s * MANY, 1)
    yield "p95_ms_64", round(medians[OURS, 1, 64].p95_ms, 3)
    ours_us = medians[OURS, *PAIRED].cpu_us
    for key, names in RATIOS.items():
        costs = [medians[name, *PAIRED].cpu_us for name in names if (name, *PAIRED) in medians]
        yield key, round(min(costs) / ours_us, 2) if costs else None
    yield "ratio_ceiling", round(medians[CEILING, *PAIRED].cpu_us / ours_us, 3)
    yield "cpu_us_per_request", round(medians[OURS, 1, 64].cpu_us, 1)


def table(medians: Mapping[Key, Run]) -> Iterator[str]:
    """Yield the lines of the table of all sides."""
    yield f"{'side':<20} items conns  served/s    p95 ms  CPU us/request  lesser %  others %"
    for (name, n_items, connections), run in sorted(medians.items(), key=lambda each: (each[0][1:], each[1].cpu_us)):
        is_disturbed = "  disturbed" if run.others_share > QUIET_SHARE else ""
        yield (
            f"{name:<20} {n_items:5} {connections:5} {run.per_s:9,.0f} {run.p95_ms:9.2f} {run.cpu_us:15,.1f}"
            f" {run.lesser_share:9.2%} {run.others_share:9.1%}{is_disturbed}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Serving, against peers.")
    parser.add_argument("--quick", action="store_true", help="one short round, peers only at 16 connections")
    parser.add_argument("--sides", help="some of the peers, by comma")
    arguments = parser.parse_args()
    rounds, seconds = (1, 2.0) if arguments.quick else (ROUNDS, SECONDS)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        scratch = Path(name)
        world, model = World(scratch / "data"), train()
        world.feed_store()
        bundle = world.seal(model.files)
        world.release(bundle)
        asked = {n: asked_of(world, bundle, model, questions(many, n)) for n, many in ((1, N_SINGLE), (MANY, N_MANY))}
        write_model(scratch / "model", model, asked[MANY].rows[0])
        sides = all_sides(world.layout.root, scratch / "model")
        wanted = {OURS, CEILING, *arguments.sides.split(",")} if arguments.sides else {side.name for side in sides}
        contenders = start_all([side for side in sides if side.name in wanted], scratch, asked, stack)
        order = plan([contender.side.name for contender in contenders], rounds, is_quick=arguments.quick)
        medians = {key: median(runs) for key, runs in measure(contenders, order, seconds).items()}
    print("\n".join(table(medians)), file=sys.stderr)
    print(json.dumps(dict(report(medians))))


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
