"""The batcher of a service that sends traces: some requests are noted down while they are answered as usual."""

import asyncio
from collections.abc import Mapping
from time import monotonic_ns
from typing import Any

from serving.batcher import Batcher, Waiter
from serving.errors import GONE, RequestRefused
from serving.service import TimesBroken
from serving.trace import Trace
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

    def ask(self, question: Question, headers: Mapping[bytes, bytes], waiter: Waiter) -> None:
        """Do what `Batcher.ask` does; the spans are made once the answer is on its way."""
        trace = self._traces.begin(question, headers)
        if trace is None:
            super().ask(question, headers, waiter)
            return
        noting = _Noting(waiter, trace, self._traces)
        try:
            super().ask(question._replace(trace=trace), headers, noting)
        except Exception as error:
            noting.end(error)
            raise


class _Noting:
    """Passes a reply on, and ends the trace by it."""

    __slots__ = ("_trace", "_traces", "_waiter")

    def __init__(self, waiter: Waiter, trace: Trace, traces: Traces) -> None:
        self._waiter, self._trace, self._traces = waiter, trace, traces

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits any more; asked once, before the batch."""
        is_gone = self._waiter.is_gone
        if is_gone:
            self._end(GONE)
        return is_gone

    def give(self, outcome: Reply | Exception) -> None:
        """Pass the reply on."""
        try:
            self._waiter.give(outcome)
        finally:
            self.end(outcome)

    def end(self, outcome: Reply | Exception) -> None:
        """End the trace."""
        if isinstance(outcome, RequestRefused):
            self._trace.facts["flightdeck.refused"] = outcome.code
            self._end(outcome.status)
        elif isinstance(outcome, Exception):
            self._end(INVALID if isinstance(outcome, TimesBroken) else FAILED)
        else:
            self._end(200)

    def _end(self, status: int) -> None:
        asyncio.get_running_loop().call_soon(self._traces.end, self._trace, monotonic_ns(), status)
