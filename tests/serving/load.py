"""POSTs from several clients that never try again by themselves: what fails is seen to fail."""

import contextlib
import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.serving.process import JSON_HEADERS, Service
from tests.serving.world import ask

GIVE_UP_S = 30.0


class Load:
    """Clients that each keep one connection and one request in flight.

    Attributes
    ----------
    statuses
        How many answers came with which status.
    n_failed
        How many requests had no whole answer, those left aside that nobody took.
    request_ids
        Ids of the requests that were answered.
    """

    def __init__(self, service: Service, n_clients: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.n_failed = 0
        self.request_ids: list[str] = []
        self._service = service
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(place,)) for place in range(n_clients)]

    def no_more(self) -> None:
        """Let every client end with its answer."""
        self._is_over.set()

    @property
    def n_answered(self) -> int:
        """How many answers have come."""
        return sum(self.statuses.values())

    def wait_for(self, n_more: int) -> None:
        """Wait for so many more answers."""
        goal = self.n_answered + n_more
        self._service.wait_until(lambda: self.n_answered >= goal, f"{n_more} more answers")

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop asking, once every client has its answer."""
        self.no_more()
        for thread in self._threads:
            thread.join()

    def _ask(self, place: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=GIVE_UP_S)
        for number in range(1_000_000):
            if self._is_over.is_set():
                break
            body = json.dumps(ask(2, unit_id=f"unit-{place}-{number}")).encode()
            try:
                connection.request("POST", "/v1/predictions", body, JSON_HEADERS)
                answer = connection.getresponse()
                content: Any = json.loads(answer.read())
            except ConnectionRefusedError:
                connection.close()
                self._is_over.wait(0.01)
                continue
            except (OSError, http.client.HTTPException):
                connection.close()
                with self._lock:
                    self.n_failed += 1
                continue
            with self._lock:
                self.statuses[answer.status] += 1
                if answer.status == 200:
                    self.request_ids.append(content["request_id"])
        connection.close()


@contextlib.contextmanager
def load(service: Service, n_clients: int = 6) -> Iterator[Load]:
    """Ask until the block ends."""
    asking = Load(service, n_clients)
    asking.start()
    try:
        asking.wait_for(20)
        yield asking
    finally:
        asking.stop()
