"""Faults 23 and 24 in small: a burst on the lowest surface, by clients that ask again at once when they are refused.

Expected: everybody gets an answer or a refusal with Retry-After, the critical surface is refused less than the lowest
one, and once the burst is over every question is answered by the model again.
"""

import asyncio
from collections import Counter
from typing import Any

import aiohttp

from tests.serving.process import PATIENCE_S, Service, serving
from tests.serving.world import World, ask

N_CLIENTS, N_QUESTIONS, N_RETRIES = 120, 2, 3
HEADERS = {"X-Request-Timeout-Ms": "200"}


class Burst:
    """What the clients of a burst saw, by surface."""

    def __init__(self, service: Service) -> None:
        self.url = f"http://127.0.0.1:{service.port}/v1/predictions"
        self.seen: dict[str, Counter[str]] = {"search": Counter(), "alerts": Counter()}

    async def run(self) -> None:
        """Ask about 500 flights from every client of the lowest surface, and about one from those of the critical."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
            lowest = [self._insist(session, "search", ask(500, unit_id=f"unit-{n}")) for n in range(N_CLIENTS)]
            critical = [
                self._insist(session, "alerts", ask(1, surface="alerts", unit_id=f"unit-{n}"), 0.2) for n in range(8)
            ]
            await asyncio.gather(*lowest, *critical)

    async def _insist(self, session: aiohttp.ClientSession, surface: str, body: Any, pause_s: float = 0.0) -> None:
        for _ in range(N_QUESTIONS):
            for _ in range(1 + N_RETRIES):
                async with session.post(self.url, json=body, headers=HEADERS) as reply:
                    content = await reply.json()
                    if reply.status == 200:
                        self.seen[surface][reply.headers["X-Flightdeck-Mode"]] += 1
                        break
                    assert (reply.status, reply.headers["Retry-After"].isdigit()) == (503, True), content
                    self.seen[surface]["refused"] += 1
            await asyncio.sleep(pause_s)


def test_a_burst_of_impatient_clients_is_refused_first_and_leaves_nothing_behind(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    with serving(world.layout.root, variables={"KEDRO_ENV": "local"}) as service:  # the real limits
        burst = Burst(service)
        asyncio.run(burst.run())
        search, alerts = burst.seen["search"], burst.seen["alerts"]
        assert search["refused"] > 0, "it was no burst"
        assert alerts["refused"] / alerts.total() <= search["refused"] / search.total()
        assert alerts.total() - alerts["refused"] > 0

        def is_well() -> bool:
            replies = [service.predict(ask(surface=surface)) for surface in ("search", "itinerary", "alerts") * 5]
            return {(reply.status, reply.headers.get("x-flightdeck-mode")) for reply in replies} == {(200, "model")}

        service.wait_until(is_well, "every question to be answered by the model")
        n = search.total() + alerts.total()
        assert service.metric("flightdeck_requests_total") >= n


class Flood:
    """Clients of the lowest surface that ask and ask, until one is refused unread; one of the critical beside them.

    A refusal without a date was made before the request was parsed: the server dates whatever it answers after.
    """

    def __init__(self, service: Service) -> None:
        self.n_unread: Counter[str] = Counter()
        self.n_asked = 0
        self._url = f"http://127.0.0.1:{service.port}/v1/predictions"
        self._is_over = asyncio.Event()

    async def run(self) -> None:
        """Ask about many flights from some clients, and about one from others, for a minute at most."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:
            large = [self._ask(session, ask(300, unit_id=f"unit-{n}")) for n in range(60)]
            small = [self._ask(session, ask(1, unit_id=f"unit-{n}")) for n in range(60)]
            critical = self._ask(session, ask(1, surface="alerts"), pause_s=0.05)
            await asyncio.wait_for(asyncio.gather(*large, *small, critical), PATIENCE_S)

    async def _ask(self, session: aiohttp.ClientSession, body: Any, pause_s: float = 0.0) -> None:
        while not self._is_over.is_set():
            async with session.post(self._url, json=body) as reply:
                await reply.read()
                self.n_asked += 1
                if reply.status == 503 and "Date" not in reply.headers:
                    assert reply.headers["Retry-After"].isdigit()
                    self.n_unread[body["surface"]] += 1
                    self._is_over.set()
            await asyncio.sleep(pause_s)


def test_a_flood_of_the_lowest_surface_is_refused_unread_and_critical_is_not(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    with serving(world.layout.root, variables={"KEDRO_ENV": "local"}) as service:
        flood = Flood(service)
        asyncio.run(flood.run())
        assert flood.n_unread["search"] > 0, "it was no flood"
        assert flood.n_unread["alerts"] == 0
        assert service.metric("flightdeck_requests_total") >= flood.n_asked
