"""Refuses predictions before they are parsed, where admission would refuse them: a refusal costs a tenth of an answer.

Parsed and decoded, a refusal costs half of an answer, and far above capacity nothing is left for answers. So while more
waits than fits, the bytes of a request are looked at as they come: one that is whole, plainly for `/v1/predictions`
and of a surface that has no room gets bytes that were made beforehand. Whatever is out of the ordinary passes, and is
judged after parsing as ever. No key is looked at: a refusal tells nothing, and costs less than a key's check.
"""

import asyncio
import re
from collections import Counter
from time import monotonic

from flightdeck.inference.retry_after import LEAST_S, MOST_S
from flightdeck.inference.scheduler import Scheduler
from flightdeck.inference.waiting import OVERLOAD
from serving.batcher import refusal_of
from serving.metrics import Metrics

GATE = "flightdeck.gate"
_START = b"POST /v1/predictions HTTP/1.1\r\n"
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)
_UNUSUAL = re.compile(
    rb"\r\n(?:transfer-encoding|expect|upgrade|connection:(?![ \t]*keep-alive\r\n))|\n[ \t]", re.IGNORECASE
)
_SURFACE = re.compile(rb'"surface"\s*:\s*"([^"\\]*)"')


class Gate:
    """Decides for one worker about requests that were received and not yet parsed.

    Parameters
    ----------
    scheduler
        Knows what waits.
    metrics
        Where refusals are counted.
    """

    def __init__(self, scheduler: Scheduler, metrics: Metrics) -> None:
        self._scheduler = scheduler
        self._metrics = metrics
        self._levels = {name.encode(): (name, room.level) for name, room in scheduler.rooms.by_surface.items()}
        self._refusals = {second: _refusal(second) for second in range(round(LEAST_S), round(MOST_S) + 1)}
        self._is_counting = False
        self._has_room = True
        self._forget()

    def refuse(self, data: bytes, loop: asyncio.AbstractEventLoop) -> bytes | None:
        """Return the answer to a request that is not let in, None for one that is.

        Parameters
        ----------
        data
            What a connection received at a moment when it was between two requests.
        loop
            Its event loop. When it next comes round to reading, all that was let in is at the scheduler.
        """
        if not self._is_counting:
            self._is_counting = True
            loop.call_soon(self._come_round)
        if self._has_room and self._scheduler.has_room_for_all(self._ahead[-1]):
            self._ahead[-1] += 1
            return None
        self._has_room = False
        surface = surface_of(data)
        if surface not in self._levels:
            return None
        now_s = monotonic()
        if surface not in self._shut:
            name, level = self._levels[surface]
            if self._scheduler.has_room_for(name, self._ahead, now_s):
                self._ahead[level] += 1
                return None
            self._shut.add(surface)
        self._n_refused[surface] += 1
        return self._refusals[round(self._scheduler.retry_after_s(now_s))]

    def _come_round(self) -> None:
        """Count what was refused, and forget what was let in: it is at the scheduler."""
        for surface, n_refused in self._n_refused.items():
            self._metrics.count_request(surface.decode(), 503, n=n_refused)
        self._is_counting = False
        self._forget()

    def _forget(self) -> None:
        self._ahead = [0] * len(self._scheduler.rooms.classes)  # by level; unknown ones as the least critical
        self._has_room = True
        self._shut: set[bytes] = set()
        self._n_refused: Counter[bytes] = Counter()


def surface_of(data: bytes) -> bytes:
    r"""Return the surface that a request names, empty if this is not one whole and ordinary request.

    Examples
    --------
    >>> body = b'{"surface": "search", "flights": []}'
    >>> head = b"POST /v1/predictions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    >>> surface_of(head % len(body) + body), surface_of(head % 50 + body), surface_of(b"GET / HTTP/1.1\r\n\r\n")
    (b'search', b'', b'')
    """
    if not data.startswith(_START):
        return b""
    end = data.find(_END)
    lengths = _LENGTH.findall(data, 0, end + 2)
    if len(lengths) != 1 or len(data) != end + len(_END) + int(lengths[0]) or _UNUSUAL.search(data, 0, end):
        return b""
    found = _SURFACE.search(data, end)
    return b"" if found is None else found[1]


def _refusal(retry_after_s: int) -> bytes:
    """Return the bytes of a whole answer; a server may leave out the date of a 503."""
    response = refusal_of(OVERLOAD, retry_after_s).response()
    lines = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
    return b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (lines, bytes(response.body))
