"""Answers of Redis in time as a whole: a socket's timeout starts anew with each byte, so a slow drip never ends it."""

from time import monotonic
from typing import Any

import redis
from redis.connection import DefaultParser


class WholeInTime(DefaultParser):  # type: ignore[valid-type, misc]
    """Reads an answer within the connection's timeout, and one wait for bytes more."""

    _ends_s = 0.0

    def read_response(self, *given: Any, **named: Any) -> Any:
        """Return the next answer."""
        self._ends_s = monotonic() + (self._socket_timeout or 0.0)
        return super().read_response(*given, **named)

    def read_from_socket(self, *given: Any, **named: Any) -> bool:
        """Take in what there is."""
        if self._socket_timeout and monotonic() > self._ends_s:
            raise redis.TimeoutError("an answer came too slowly")
        return bool(super().read_from_socket(*given, **named))


def bound_answers(client: "redis.Redis") -> None:
    """Have a client read every answer so, on connections that are open and on those to come."""
    pool = client.connection_pool
    pool.connection_kwargs["parser_class"] = WholeInTime
    pool.disconnect()
    if client.connection is not None:
        client.connection.disconnect()
        client.connection.set_parser(WholeInTime)
