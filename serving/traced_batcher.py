"""The batcher of a service that sends traces: some requests are noted down while they are answered as usual."""

import asyncio
from collections.abc import Mapping
from time import monotonic_ns
from typing import Any

from serving.batcher import Batcher, Client
from serving.errors import GONE, RequestRefused
from serving.service import TimesBroken
from serving.traces import Traces
from serving.work import Question, Reply

INVALID, FAILED = 422, 500


class TracedBatcher(Batcher):
    """A batcher whose requests are traced.

    Parameters
    ----------
    parts
        As of `Batcher`.
    traces
        Chooses requests and sends their spans.
    """

    def __init__(self, *parts: Any, traces: Traces) -> None:
        super().__init__(*parts)
        self._traces = traces

    async def answer(self, question: Question, headers: Mapping[bytes, bytes], client: Client | None) -> Reply | None:
        """Return what `Batcher.answer` does; the spans are made once the answer is on its way."""
        trace = self._traces.begin(question, headers)
        if trace is None:
            return await super().answer(question, headers, client)
        status = FAILED
        try:
            reply = await super().answer(question._replace(trace=trace), headers, client)
            status = GONE if reply is None else 200
        except RequestRefused as refusal:
            status, trace.facts["flightdeck.refused"] = refusal.status, refusal.code
            raise
        except TimesBroken:
            status = INVALID
            raise
        finally:
            asyncio.get_running_loop().call_soon(self._traces.end, trace, monotonic_ns(), status)
        return reply
