"""Sending a replay's requests to the service, a bounded number at a time.

A request is sent once and its answer, whatever it is, counts; only where the connection cannot be made or is lost,
or the service says that it is not ready, the same request goes out again with the same request id for a while: a
restart of the service in the middle of a replay costs time and no request.
"""

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from flightdeck.cli.replay_statistics import ReplayStatistics
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.identifiers import new_request_id

N_CONCURRENT = 16
ANSWER_WITHIN_S = 30.0
PERSIST_FOR_S = 30.0
PAUSE_S = 0.25
KEEP_ALIVE_S = 2.0  # far below the 75 s after which the service closes an idle connection
OK, UNPROCESSABLE, UNAVAILABLE = 200, 422, 503
LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError)


class ServiceUnreachable(FlightdeckError):
    """The prediction service does not answer, or not as a replay needs it."""


class Sender:
    """Sends requests and counts what happens to them. An asynchronous context manager.

    Parameters
    ----------
    url
        Address of the service, such as `http://127.0.0.1:8000`.
    statistics
        Where to count.
    persist_for_s
        How long a request is sent again while nobody answers, in seconds.
    """

    def __init__(self, url: str, statistics: ReplayStatistics, *, persist_for_s: float = PERSIST_FOR_S) -> None:
        self._url = url.rstrip("/")
        self._statistics = statistics
        self._persist_for_s = persist_for_s
        self._slots = asyncio.Semaphore(N_CONCURRENT)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connections."""
        connector = aiohttp.TCPConnector(limit=N_CONCURRENT, keepalive_timeout=KEEP_ALIVE_S)
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def require_ready(self) -> None:
        """Return if the service is ready.

        Raises
        ------
        ServiceUnreachable
            If nobody answers at the address or the service says that it is not ready.
        """
        try:
            async with self._open_session.get(f"{self._url}/readyz") as response:
                status, text = response.status, await response.text()
        except (*LOST, TimeoutError, aiohttp.InvalidURL) as error:
            raise ServiceUnreachable(
                f"replaying: no service answers at {self._url} ({type(error).__name__})",
                next_step="start it: FLIGHTDECK_CLOCK=event kedro serve, or give its --url",
            ) from error
        if status != OK:
            raise ServiceUnreachable(
                f"replaying: the service at {self._url} is not ready: {text[:300]}",
                next_step="release a version first: kedro release list",
            )

    async def send(self, surface: str, body: Mapping[str, object], n_items: int) -> None:
        """Send one request about `n_items` flights and count its answer.

        Raises
        ------
        ServiceUnreachable
            If the service refuses the request itself: every other one would meet the same.
        """
        headers = {"X-Request-ID": new_request_id()}
        async with self._slots:
            give_up_s = time.monotonic() + self._persist_for_s
            while True:
                begun_s = time.monotonic()
                status, answer = await self._post(body, headers)
                if status not in (0, UNAVAILABLE) or time.monotonic() > give_up_s:
                    break
                self._statistics.n_retries += 1
                await asyncio.sleep(PAUSE_S)
        if status == UNPROCESSABLE:
            raise ServiceUnreachable(
                f"replaying: the service refused a request: {str(answer)[:600]}",
                next_step="a replay needs a service in event time: FLIGHTDECK_CLOCK=event kedro serve",
            )
        if status != OK:
            self._statistics.failed(f"status {status}: {str(answer)[:300]}")
            return
        modes = [prediction["mode"] for prediction in answer["predictions"]]
        if len(modes) != n_items:
            self._statistics.failed(f"asked about {n_items} flights, answered about {len(modes)}")
            return
        self._statistics.answered(surface, modes, (time.monotonic() - begun_s) * 1e3)

    @property
    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the sender is used outside of `async with`")
        return self._session

    async def _post(self, body: Mapping[str, object], headers: Mapping[str, str]) -> tuple[int, Any]:
        """Return status and content of the answer; status 0 where the connection was refused or lost, -1 late."""
        try:
            async with self._open_session.post(f"{self._url}/v1/predictions", json=body, headers=headers) as response:
                if response.status == OK:
                    return OK, await response.json()
                return response.status, await response.text()
        except TimeoutError:
            return -1, f"no answer within {ANSWER_WITHIN_S:g} s"
        except LOST as error:
            return 0, f"no connection: {type(error).__name__}"
