"""Requests that do not stop while something is released: each of a new unit, none sent twice."""

import contextlib
import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.serving.process import JSON_HEADERS, PATIENCE_S
from tests.serving.world import ask


@dataclass
class Load:
    """Clients of a service on `port`, `n_clients` of them, each waiting `pause_s` between two requests."""

    port: int
    n_clients: int = 4
    pause_s: float = 0.005
    n_sent: int = 0
    failures: list[str] = field(default_factory=list)
    answers: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    def __enter__(self) -> "Load":
        """Begin."""
        self._over, self._lock = threading.Event(), threading.Lock()
        self._clients = [threading.Thread(target=self._ask) for _ in range(self.n_clients)]
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let each client end with the answer that it waits for."""
        self._over.set()
        for client in self._clients:
            client.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            while not self._over.is_set():
                with self._lock:
                    number = self.n_sent
                    self.n_sent += 1
                body = json.dumps(ask(3, unit_id=f"unit-{number}", distance_miles=100 + number * 37 % 2500))
                try:
                    connection.request("POST", "/v1/predictions", body.encode(), JSON_HEADERS)
                    reply = connection.getresponse()
                    status, content = reply.status, reply.read()
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(f"unit-{number}: {error!r}")
                    connection.close()
                    continue
                if status == 200:
                    self._keep(json.loads(content))
                else:
                    self.failures.append(f"unit-{number}: {status} {content[:300]!r}")
                time.sleep(self.pause_s)

    def _keep(self, answer: Any) -> None:
        said = [(one["arm"], one["mode"], one["model_version"], one["probability"]) for one in answer["predictions"]]
        self.answers[answer["request_id"]] = said
