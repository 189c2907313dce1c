"""A TCP proxy that does to a connection what networks do: late, cut, in slices, never, or not at all.

It runs an event loop in a thread of its own. What it does is changed while connections are open: `set(Toxic(...))`.
Bytes from the server to the client suffer; those of the client go through at once.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

CHUNK = 65_536


@dataclass(frozen=True)
class Toxic:
    """What happens to the server's bytes.

    Parameters
    ----------
    latency_s
        Each piece comes so much later.
    slice_bytes
        Pieces have at most so many bytes, each after `latency_s`; 0: as they come.
    limit_bytes
        The connection is closed after so many bytes of the server; -1: never.
    is_reset
        The connection is reset instead of giving the first piece.
    is_silent
        Nothing is given, and nothing is closed.
    is_down
        New connections are refused and open ones are reset.
    """

    latency_s: float = 0.0
    slice_bytes: int = 0
    limit_bytes: int = -1
    is_reset: bool = False
    is_silent: bool = False
    is_down: bool = False


HEALTHY = Toxic()


class Proxy:
    """A proxy in front of one port of this machine. Use `proxied`."""

    def __init__(self, target: int) -> None:
        self.n_connections = 0
        self._target = target
        self._toxic = HEALTHY
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._do(self._listen())

    def set(self, toxic: Toxic = HEALTHY) -> None:
        """Do this to every byte from now on."""
        self._do(self._change(toxic))

    def stop(self) -> None:
        """Close everything."""
        self._do(self._change(Toxic(is_down=True)))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _change(self, toxic: Toxic) -> None:
        was_down, self._toxic = self._toxic.is_down, toxic
        if toxic.is_down and self._server is not None:
            self._server.close()
            for writer in list(self._open):
                _reset(writer)
        elif was_down:
            await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        self._open.add(writer)
        with contextlib.suppress(OSError):
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
            ways = [
                asyncio.ensure_future(_copy(reader, to_server)),
                asyncio.ensure_future(self._spoil(from_server, writer)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            to_server.close()
        self._open.discard(writer)
        writer.close()

    async def _spoil(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        n_given = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                toxic = self._toxic
                if toxic.is_silent:
                    continue
                if toxic.is_reset:
                    _reset(writer)
                    return
                size = toxic.slice_bytes or len(data)
                for start in range(0, len(data), size):
                    await asyncio.sleep(toxic.latency_s)
                    piece = data[start : start + size]
                    if 0 <= toxic.limit_bytes < n_given + len(piece):
                        writer.write(piece[: toxic.limit_bytes - n_given])
                        return
                    writer.write(piece)
                    await writer.drain()
                    n_given += len(piece)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection by RST: what is on its way is lost."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    """Yield a healthy proxy in front of a port."""
    proxy = Proxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
