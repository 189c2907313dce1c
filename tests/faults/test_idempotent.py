"""Fault 3 with a client that asks again: a question is answered alike each time, and counted once.

Expected: the shipped sender loses no request to killed workers, an answer to the same request is the same, and
monitoring counts the question once, with every item.
"""

import asyncio
import os
import signal

import pytest

from flightdeck.cli.replay_sender import Sender
from flightdeck.cli.replay_statistics import ReplayStatistics
from flightdeck.monitoring.prediction_log import read_predictions
from tests.serving.process import JSON_HEADERS, Service, serving
from tests.serving.test_workers import wait_until_both_serve
from tests.serving.world import World, ask


def test_the_same_request_again_is_answered_alike_and_counted_once(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    headers = {**JSON_HEADERS, "X-Request-ID": "asked-again-0001"}
    with serving(world.layout.root) as service:
        first = service.predict(ask(3), headers)
        service.stop(signal.SIGKILL)
    with serving(world.layout.root) as service:
        again = service.predict(ask(3), headers)
        assert again.content == first.content
        service.predict(ask(2, unit_id="unit-2"), JSON_HEADERS)
    assert len(world.records()) == 8
    counted = read_predictions(world.layout.prediction_log)
    assert len(counted) == 5
    assert sorted(counted["unit_id"]) == ["unit-1"] * 3 + ["unit-2"] * 2


@pytest.mark.slow
def test_the_shipped_sender_loses_no_request_to_killed_workers(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    statistics = ReplayStatistics()
    with serving(world.layout.root, workers=2) as service:
        wait_until_both_serve(service, [])
        n_requests = asyncio.run(asyncio.wait_for(_send_and_kill(service, statistics), 120))
    assert (statistics.n_failed, statistics.n_retries > 0) == (0, True)
    counted = read_predictions(world.layout.prediction_log)
    assert len(counted) == 2 * n_requests
    assert counted["unit_id"].nunique() == n_requests


async def _send_and_kill(service: Service, statistics: ReplayStatistics) -> int:
    """Send until both workers were killed and are back; return the number of requests."""
    n_requests, killed = 0, list[int]()

    def is_over() -> bool:
        pids = service.workers()
        return len(killed) == 2 and len(pids) == 2 and all(f"worker {pid} serves" in said() for pid in pids)

    def said() -> str:
        return service.log.read_text("utf-8")

    async with Sender(f"http://127.0.0.1:{service.port}", statistics) as sender:

        async def send_some() -> None:
            nonlocal n_requests
            while not task.done():
                n_requests += 1
                await sender.send("search", ask(2, unit_id=f"unit-{n_requests}"), 2)

        async def kill_both() -> None:
            for pid in service.workers():
                await asyncio.sleep(0.3)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                while pid in service.workers() or len(service.workers()) < 2:
                    await asyncio.sleep(0.1)
            while not is_over():
                await asyncio.sleep(0.1)

        task = asyncio.create_task(kill_both())
        await asyncio.gather(*(send_some() for _ in range(12)))
    return n_requests
