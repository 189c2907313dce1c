"""Runs of a model that end: one that takes too long is ended from outside, and its model is left alone for a while.

onnxruntime computes without the interpreter's lock and looks at `RunOptions.terminate` between two operations and two
rounds of a loop, so a thread can end a run. One operation that never returns cannot be ended so; that ends the process
(`serving.workers.watch_loop`).
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Any

from flightdeck.inference.breaker import Breaker

LIMIT_S = 0.5
FIRST_PAUSE_S, MAX_PAUSE_S = 5.0, 60.0
_LOOK_S = 0.05
_running: dict[int, tuple[float, Any]] = {}
_lock = threading.Lock()
_thread: threading.Thread | None = None


class LimitedRuns:
    """The runs of one session.

    Parameters
    ----------
    session
        Open onnxruntime session.
    new_options
        Makes the `RunOptions` of one run.
    limit_s
        Longest time of a run. One that takes longer is ended, and the model is not asked for `FIRST_PAUSE_S`, then for
        twice as long each time that it still takes too long.
    """

    def __init__(self, session: Any, new_options: Callable[[], Any], limit_s: float = LIMIT_S) -> None:
        self._session = session
        self._new_options = new_options
        self._limit_s = limit_s
        self._breaker = Breaker(limit_s, first_pause_s=FIRST_PAUSE_S, max_pause_s=MAX_PAUSE_S)
        _begin_to_watch()

    def run(self, outputs: Sequence[str], feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs of one run.

        Raises
        ------
        TimeoutError
            If the run took too long and was ended, or another one did a moment ago.
        """
        began_s = monotonic()
        if not self._breaker.allows(began_s):
            raise TimeoutError("running a model: it took too long a moment ago and is left alone for a while")
        options = self._new_options()
        _running[id(options)] = began_s + self._limit_s, options
        is_ok = False
        try:
            found: list[Any] = self._session.run(outputs, feed, options)
            is_ok = True
        except Exception as error:
            if options.terminate:
                raise TimeoutError(f"running a model: ended after {monotonic() - began_s:.2f} s") from error
            raise
        finally:
            del _running[id(options)]
            if is_ok or options.terminate:
                now_s = monotonic()
                self._breaker.record(took_s=now_s - began_s, is_ok=is_ok, now_s=now_s)
        return found


def _begin_to_watch() -> None:
    global _thread  # one thread a process watches the runs of all models
    with _lock:
        if _thread is None:
            _thread = threading.Thread(target=_watch, name="run-limit", daemon=True)
            _thread.start()


def _watch() -> None:
    while True:
        sleep(_LOOK_S)
        now_s = monotonic()
        for ends_s, options in list(_running.values()):
            if now_s > ends_s:
                options.terminate = True
