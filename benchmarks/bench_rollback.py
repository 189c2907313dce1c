"""How long a rollback takes: until no connection to any of two workers is answered by the version that is out.

Keys, p50 and p99 of seconds each: `by_hand_s` from the call of what `kedro release rollback` calls; `by_judge_s`
from the last answer that the judge needed, which includes its log, a controller that looks every 0.25 s, and the
record; `all_down_s` by hand with Redis ended, MLflow at an address where nobody listens, and the ledger's file gone.
Run: `python -m benchmarks.bench_rollback [--repeats 20]`.
"""

import argparse
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from benchmarks.redis_server import redis_server
from benchmarks.server_process import Server, our_server
from benchmarks.serving_world import FOUR, NOON_US, NUMERIC, World, draft_files, questions, train
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import PROJECT
from flightdeck.events.log import EventLog
from flightdeck.features.materializer import Materializer
from flightdeck.features.stores import open_store
from flightdeck.gates.policy import read_policies
from flightdeck.inference.bundle import Bundle
from flightdeck.inference.prediction_log_folder import list_sources
from flightdeck.release.order_entry import enter_orders, roll_back
from flightdeck.release.people import read_people
from flightdeck.release.rollout.controller import Controller, Desk
from flightdeck.release.rollout.observer import LogObserver, Logs
from pipelines.features.model_input import CATEGORICAL, FALLBACK_NUMERIC

N_WORKERS, N_CONNECTIONS, N_EVIDENCE = 2, 16, 200
LOOK_S, PATIENCE_S = 0.25, 30.0
DEAD = "http://127.0.0.1:9"
PEOPLE = read_people(PROJECT / "conf")


@dataclass
class Clients:
    """Kept connections to every worker, asked one after the other."""

    connections: list[http.client.HTTPConnection]
    bodies: list[bytes]
    n_asked: int = 0

    def ask(self) -> list[dict[str, Any]]:
        """Ask once on each connection; return the items.

        Raises
        ------
        FlightdeckError
            If a request is not answered with 200.
        """
        items = []
        for connection in self.connections:
            body = self.bodies[self.n_asked % len(self.bodies)]
            self.n_asked += 1
            connection.request("POST", "/v1/predictions", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            content = reply.read()
            if reply.status != 200:
                raise FlightdeckError(f"asking: status {reply.status}, {content[:300]!r}")
            items += json.loads(content)["predictions"]
        return items

    def until(self, is_so: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Ask until the answers of one round are as wanted.

        Raises
        ------
        FlightdeckError
            If they are not within 30 s.
        """
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so(self.ask()):
            if time.monotonic() > deadline_s:
                raise FlightdeckError(f"asking: not every worker had changed after {PATIENCE_S:g} s")


@contextmanager
def connected(server: Server, world: World) -> Any:
    """Give connections, at least one of which leads to each worker."""
    bodies = [json.dumps({**one, "unit_id": f"unit-{n}"}).encode() for n, one in enumerate(questions(4096, 1))]
    opened = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S) for _ in range(N_CONNECTIONS)]
    try:
        clients = Clients(opened, bodies)
        clients.until(lambda _: len(list_sources(world.layout.prediction_log)) == N_WORKERS)
        yield clients
    finally:
        for connection in opened:
            connection.close()


def by_version(version: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda items: {item["model_version"] for item in items} == {version}


def by_hand(world: World, clients: Clients, bundles: list[Bundle]) -> list[float]:
    """Return the seconds of each rollback from a champion to the one before, by the ledger."""
    took_s = []
    for bundle in bundles:
        former, live = _former(clients), world.release(bundle)
        clients.until(by_version(live))
        took_s.append(_order(world, clients, former, is_recorded=True))
    return took_s


def all_down(world: World, clients: Clients, bundles: list[Bundle]) -> list[float]:
    """Return the same where the ledger's file is gone; it is brought back in between."""
    took_s = []
    ledger, aside = world.layout.ledger, world.layout.ledger.with_name("aside.sqlite")
    for bundle in bundles:
        former, live = _former(clients), world.release(bundle)
        clients.until(by_version(live))
        ledger.rename(aside)
        took_s.append(_order(world, clients, former, is_recorded=False))
        aside.rename(ledger)
        if len(enter_orders(world.ledger, world.layout.orders)) != 1:
            raise FlightdeckError("the order has no record")
    return took_s


def by_judge(world: World, clients: Clients, bundles: list[Bundle], random: np.random.Generator) -> list[float]:
    """Return the seconds from the last answer that was evidence to the last worker without the canary."""
    took_s, controller = [], _controller(world)
    for bundle in bundles:
        former, version = _former(clients), world.release(bundle, share=0.5)
        controller.step()  # it runs when a step begins; then it pauses, or it would decide before all evidence is there
        clients.until(lambda items: any(map(_is_of_canary, items)))
        n_asked = clients.n_asked
        while clients.n_asked < n_asked + N_EVIDENCE:
            clients.ask()
        began_s = time.monotonic()
        time.sleep(float(random.uniform(0, LOOK_S)))  # evidence comes at any moment between two looks
        while not any(f"version {version} taken out" in line for line in controller.step()):
            if time.monotonic() > began_s + PATIENCE_S:
                raise FlightdeckError(f"the judge has not taken version {version} out")
            time.sleep(LOOK_S)
        clients.until(lambda items: not any(map(_is_of_canary, items)))
        took_s.append(time.monotonic() - began_s)
        if not by_version(former)(clients.ask()):
            raise FlightdeckError(f"version {former} does not answer")
    return took_s


def _is_of_canary(item: dict[str, Any]) -> bool:
    return item["arm"] == "canary" or "canary" in (item["reason"] or "")


def _former(clients: Clients) -> int:
    (version,) = {int(item["model_version"]) for item in clients.ask()}
    return version


def _order(world: World, clients: Clients, former: int, *, is_recorded: bool) -> float:
    by, place = PEOPLE.identify("Benchmark"), world.layout
    began_s = time.monotonic()
    *_, order = roll_back(world.ledger, place.orders, by=by, reason="measured", bundles=place.bundles)
    clients.until(by_version(former))
    if (order is None) is not is_recorded:
        raise FlightdeckError(f"rolling back: {'an order' if order else 'a record'} was left")
    return time.monotonic() - began_s


def _controller(world: World) -> Controller:
    place, by = world.layout, PEOPLE.identify("controller", proof="controller")
    desk = Desk(world.ledger, place.bundles, read_policies(PROJECT / "conf"), PEOPLE, by, place.orders)
    return Controller(desk, LogObserver(Logs(place.prediction_log, place.shadow_log), place.rollout))


def not_finite(n_numeric: int) -> bytes:
    """Return a graph with the inputs of an export that answers NaN where a number is positive: a sick canary."""
    strings = [helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]) for name in CATEGORICAL]
    numeric = helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, n_numeric])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    nodes = [
        helper.make_node("Slice", ["numeric", "first", "second", "axis"], ["column"]),
        helper.make_node("Greater", ["column", "zero"], ["is_known"]),
        helper.make_node("Where", ["is_known", "nan", "half"], ["late"]),
        helper.make_node("Concat", ["late", "late"], ["probabilities"], axis=1),
    ]
    tensors = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("second", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]),
        helper.make_tensor("nan", TensorProto.FLOAT, [1], [float("nan")]),
    ]
    graph = helper.make_graph(nodes, "sick", [*strings, numeric], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def prepare(world: World, n: int, files: dict[str, bytes]) -> list[Bundle]:
    """Seal `n` bundles that differ in a file which no answer hangs on."""
    return [world.seal({**files, "runbook.md": f"# Serving, {time.time_ns()}-{n}\n".encode()}) for n in range(n)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Rollbacks, from the order to the last worker.")
    parser.add_argument("--repeats", type=int, default=20)
    n_repeats = parser.parse_args().repeats
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name, redis_server() as port:
        world = World(Path(name))
        world.feed_store()
        url = f"redis://127.0.0.1:{port}/0"
        with closing(open_store(url, read_only=False)) as store:
            Materializer(store, FOUR).backfill(EventLog(world.layout.event_log), NOON_US)
        well = train().files
        ill = draft_files(not_finite(len(NUMERIC)), not_finite(len(FALLBACK_NUMERIC)))
        sick = {**well, "model.onnx": ill["model.onnx"]}
        champion, *others = prepare(world, 2 * n_repeats + 1, well)
        world.release(champion)
        variables = {"FLIGHTDECK_ONLINE_STORE": url, "MLFLOW_TRACKING_URI": DEAD}
        with (
            our_server(world.layout.root, n_workers=N_WORKERS, **variables) as server,
            connected(server, world) as asked,
        ):
            found["by_hand_s"] = by_hand(world, asked, others[:n_repeats])
            found["by_judge_s"] = by_judge(world, asked, prepare(world, n_repeats, sick), np.random.default_rng(0))
            _shut_down(port)
            asked.until(lambda items: all(item["mode"] == "fallback" for item in items))
            found["all_down_s"] = all_down(world, asked, others[n_repeats:])
    for what, took_s in found.items():
        print(f"{what:<11} {len(took_s)} times, {min(took_s):.3f} to {max(took_s):.3f} s", file=sys.stderr)
    print(json.dumps({key: percentiles(took_s) for key, took_s in found.items()}))


def percentiles(took_s: list[float]) -> dict[str, float]:
    """Return p50 and p99 of some seconds."""
    return {f"p{q}": round(float(np.percentile(took_s, q)), 3) for q in (50, 99)}


def _shut_down(port: int) -> None:
    import redis

    redis.Redis(port=port).shutdown(nosave=True)


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
