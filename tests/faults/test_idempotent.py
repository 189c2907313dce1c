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

N_REQUESTS = 1500


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
        asyncio.run(asyncio.wait_for(_send_and_kill(service, statistics), 120))
    assert (statistics.n_failed, statistics.n_retries > 0) == (0, True)
    counted = read_predictions(world.layout.prediction_log)
    assert len(counted) == 2 * N_REQUESTS
    assert counted["unit_id"].nunique() == N_REQUESTS


async def _send_and_kill(service: Service, statistics: ReplayStatistics) -> None:
    async with Sender(f"http://127.0.0.1:{service.port}", statistics) as sender:

        async def send_some(numbers: range) -> None:
            for number in numbers:
                await sender.send("search", ask(2, unit_id=f"unit-{number}"), 2)

        sending = [asyncio.create_task(send_some(range(place, N_REQUESTS, 12))) for place in range(12)]
        killed: list[int] = []
        while not all(task.done() for task in sending):
            pids = service.workers()
            if len(killed) < 4 and len(pids) == 2 and pids[0] not in killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)
            await asyncio.sleep(0.1)
        await asyncio.gather(*sending)
    assert killed
