import http.client
import resource
import signal
import threading

from flightdeck.inference.prediction_log_read import read_log
from tests.serving.process import Service, serving
from tests.serving.world import World, ask


def test_kill_9_under_load_loses_no_acknowledged_record(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    acknowledged: list[str] = []

    def ask_until_it_dies(service: Service, worker: int) -> None:
        for n in range(10_000):
            try:
                reply = service.predict(ask(3, unit_id=f"unit-{worker}-{n}"))
            except (OSError, http.client.HTTPException):  # cut off within the answer
                return
            assert reply.status == 200
            acknowledged.append(reply.json()["request_id"])

    for _ in range(2):
        with serving(world.layout.root) as service:
            workers = [threading.Thread(target=ask_until_it_dies, args=(service, worker)) for worker in range(4)]
            reached = len(acknowledged) + 60
            for worker in workers:
                worker.start()
            service.wait_until(lambda goal=reached: len(acknowledged) >= goal, "some answers")  # type: ignore[misc]
            service.stop(signal.SIGKILL)
            for worker in workers:
                worker.join()
    with serving(world.layout.root) as service:
        acknowledged.append(service.predict(ask(3)).json()["request_id"])
    logged = [record["request_id"] for record in world.records()]
    assert {request_id: logged.count(request_id) for request_id in acknowledged} == dict.fromkeys(acknowledged, 3)
    assert len(list(world.layout.prediction_log.glob("*.frames"))) == 3


def test_a_full_disk_costs_records_and_no_answers(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    limit = 200_000

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with serving(world.layout.root, preexec=limit_files) as service:
        statuses = [service.predict(ask(20)).status for _ in range(40)]
        assert set(statuses) == {200}
        state = service.get("/readyz").json()["prediction_log"]
        assert state["n_written"] + state["n_dropped"] == 800
        assert state["n_dropped"] > 0
        assert (
            f"flightdeck_prediction_log_dropped_total {state['n_dropped']}.0"
            in service.get("/metrics").content.decode()
        )
    assert len(world.records()) == state["n_written"]
    assert read_log(world.layout.prediction_log).lost[:2] == (0, 0), "a frame that was written by half is taken back"


def test_a_log_folder_that_cannot_be_written_costs_no_answer(world: World) -> None:
    world.release(world.seal())
    world.layout.prediction_log.parent.mkdir(parents=True)
    world.layout.prediction_log.write_text("in the way", encoding="utf-8")
    with serving(world.layout.root) as service:
        assert service.predict(ask(2)).status == 200
        assert service.get("/readyz").json()["prediction_log"] == {
            "n_written": 0,
            "n_sampled_out": 0,
            "n_dropped": 2,
        }
