"""The peer's half of `benchmarks/peer.py`: answer commands, one JSON line each. Standard library only.

A script of a peer ends with `serve(load, run)`: its functions are the commands, their arguments come by name, and the
JSON object that they return is the answer, to which the CPU and wall seconds of the call are added.
"""

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


def serve(*commands: Callable[..., dict[str, Any] | None]) -> None:
    """Answer until the input ends; whatever the libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    by_name = {command.__name__: command for command in commands}
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = timed(by_name[asked["command"]], **asked["arguments"])
        except Exception as error:  # noqa: BLE001 - the asking side decides
            traceback.print_exc()
            answer = {"error": repr(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def timed(command: Callable[..., dict[str, Any] | None], **arguments: Any) -> dict[str, Any]:
    """Return a command's answer with the seconds that it took: CPU of the process and its ended children, and wall."""
    cpu, wall = cpu_s(), time.perf_counter()
    answer = command(**arguments) or {}
    return {"cpu_s": cpu_s() - cpu, "wall_s": time.perf_counter() - wall, "peak_rss_mb": peak_rss_mb(), **answer}


def cpu_s() -> float:
    """Return CPU seconds of this process, all its threads, and its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_rss_mb() -> float:
    """Return the most memory that this process ever held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
