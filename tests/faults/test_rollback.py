"""The way back while everything that a release stands on is down: registry, online store, the ledger's disk, bundles.

Expected of each is the name of its test; docs/faults.md has the table. The full disk is a real one, `small_disk`.
"""

import shutil
from pathlib import Path

from flightdeck.events.log import EventLog
from flightdeck.features.materializer import Materializer
from flightdeck.features.stores import open_store
from flightdeck.inference.prediction_log_folder import list_sources
from flightdeck.inference.prediction_log_read import read_rest
from flightdeck.inference.prediction_log_table import to_tables
from flightdeck.release.orders import read_orders
from pipelines.features.views import VIEWS
from tests.e2e.house import House
from tests.e2e.steady_load import Load
from tests.event_streams import NOON_US
from tests.faults.small_disk import small_disk
from tests.redis_server import redis_server
from tests.serving.process import Service, serving
from tests.serving.world import World, ask

DEAD = "http://127.0.0.1:9"
N_WORKERS = 2


def newest_versions(world: World) -> list[str]:
    """Return the version of the last answer that each worker has logged."""
    found = []
    for source in list_sources(world.layout.prediction_log):
        assert source.path is not None
        tables = list(to_tables(source.name, read_rest(source.path, 0).frames))
        found += [str(tables[-1]["model_version"][-1])] if tables else []
    return found


def every_worker_answers_by(service: Service, world: World, version: int) -> None:
    """Ask until the last answer of each worker comes from a version."""

    def does() -> bool:
        reply = service.predict(ask())
        assert reply.status == 200, reply.content
        return newest_versions(world) == [str(version)] * N_WORKERS

    service.wait_until(does, f"version {version} on every worker")


def house_without_registry(world: World) -> House:
    house = House(world.layout.root)
    house.environment |= {"MLFLOW_TRACKING_URI": DEAD, "MLFLOW_REGISTRY_URI": DEAD}
    return house


def test_a_rollback_by_hand_with_registry_store_and_the_disk_of_the_ledger_down(tmp_path: Path) -> None:
    """Faults 13, 14 and 16 together; the record is queued, and proven later."""
    world = World(tmp_path)
    house = house_without_registry(world)
    with redis_server() as redis, small_disk(world.layout.ledger.parent) as disk:
        world.feed_store()
        former, live = world.release(world.seal(seed=1)), world.release(world.seal(seed=2))
        house.kedro("audit", "checkpoint")
        store = open_store(redis.url, read_only=False)
        Materializer(store, VIEWS).backfill(EventLog(world.layout.event_log), NOON_US)
        store.close()
        variables = {"FLIGHTDECK_ONLINE_STORE": redis.url, "MLFLOW_TRACKING_URI": DEAD}
        with (
            serving(tmp_path, workers=N_WORKERS, variables=variables) as service,
            Load(service.port, n_clients=3, pause_s=0.02) as load,
        ):
            every_worker_answers_by(service, world, live)
            redis.kill()
            disk.fill()
            said = house.kedro("release", "rollback", "--by", "Ada", "--reason", "all is down")
            assert "the ledger did not take it" in said
            every_worker_answers_by(service, world, former)
            since = len(load.answers)
            service.wait_until(lambda: len(load.answers) > since + 50, "more answers")
            assert load.failures == []
            for answer in list(load.answers.values())[since + load.n_clients :]:
                assert {item[1:3] for item in answer} == {("fallback", former)}, "model and fallback go back together"
            (order,) = read_orders(world.layout.orders)
            disk.free()
            assert "is recorded" in house.kedro("release", "reconcile")
            assert "are what was written" in house.kedro("audit", "verify")
            every_worker_answers_by(service, world, former)
            assert load.failures == []
        record = next(one for one in world.ledger.records() if one.action == "rolled_back")
        assert (record.actor, record.subject, record.detail["to"]) == ("Ada", str(live), former)
        assert (record.detail["order"], record.detail["ordered_at"]) == (order.name, order.at.isoformat())
        assert read_orders(world.layout.orders) == []


def test_on_a_full_disk_promotions_are_refused_and_a_rollback_is_obeyed(tmp_path: Path) -> None:
    """Fault 16, on a disk that is really full."""
    world = World(tmp_path)
    house = house_without_registry(world)
    with small_disk(world.layout.ledger.parent) as disk:
        world.feed_store()
        former, live = world.release(world.seal(seed=1)), world.release(world.seal(seed=2))
        bundle = world.seal(seed=3)
        entered = {"digest": bundle.digest, "tier": "low", "model_name": "flight-delay"}
        world.ledger.append("registered", actor="test", subject="3", detail=entered)
        world.ledger.append("verdict", actor="test", subject="3", detail={"digest": bundle.digest, "passed": True})
        house.kedro("audit", "checkpoint")
        n_records = len(world.ledger.records())
        by = ("--by", "Ada", "--reason", "test")
        with serving(tmp_path) as service:
            service.wait_for_version(live)
            disk.fill()
            for decide in ("promote", "approve", "reject"):
                refused = house.kedro("release", decide, "3", *by, exit_code=1)
                assert "nothing was recorded" in refused and "next step: free the disk" in refused
            assert "the ledger did not take it" in house.kedro("release", "rollback", *by)
            service.wait_for_version(former)
            disk.free()
        assert len(world.ledger.records()) == n_records
        assert "1 rollbacks wait for their record" in house.kedro("release", "promote", "3", *by, exit_code=1)
        assert "1 rollbacks that the service obeys are not in the ledger yet, the oldest by Ada" in house.kedro(
            "audit", "verify"
        )
        house.kedro("release", "reconcile")
        assert "candidate -> staging" in house.kedro("release", "promote", "3", *by)
        assert "not in the ledger yet" not in house.kedro("audit", "verify")


def test_a_bundle_to_return_to_that_is_gone_is_in_the_memory_of_every_worker(tmp_path: Path) -> None:
    """Fault 30: what the worlds of these tests release has no MLflow run, and so no second copy."""
    world = World(tmp_path)
    house = house_without_registry(world)
    world.feed_store()
    bundle = world.seal(seed=1)
    former, live = world.release(bundle), world.release(world.seal(seed=2))
    with serving(tmp_path, workers=N_WORKERS) as service, Load(service.port, n_clients=3, pause_s=0.02) as load:
        every_worker_answers_by(service, world, live)
        shutil.rmtree(bundle.path)
        by = ("--by", "Ada", "--reason", "test")
        refused = house.kedro("release", "rollback", *by, exit_code=1)
        assert "its second copy" in refused and "kedro release rollback --as-loaded" in refused
        assert "version 1 serves" in house.kedro("release", "rollback", "--as-loaded", *by)
        every_worker_answers_by(service, world, former)
        assert load.failures == []
