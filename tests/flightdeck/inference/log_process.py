"""A process that writes a prediction log, or one that makes it columnar, until it is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.prediction_log_compact import compact, compacting
from tests.predictions import log_batch

BATCH = 3


@contextmanager
def started(role: str, folder: Path, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Start a process of this module and kill it by -9 at the end; it prints a line a step."""
    code = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
    command = [sys.executable, "-m", __name__, role, str(folder), *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env={**os.environ, "PYTHONPATH": code}
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def write(folder: Path, name: str, segment_bytes: int) -> None:
    """Append batches of three, and print the number of each once it is acknowledged."""
    log = PredictionLogWriter(folder, SystemClock(), segment_bytes=segment_bytes)
    number = 0
    while True:
        records = [
            {"request_id": f"{name}-{number}", "item": item, "features": [number, item]} for item in range(BATCH)
        ]
        assert log.append(log_batch(records, {"origin": "EWR", "amount": number})) == (BATCH, 0, 0)
        print(number, flush=True)
        number += 1
        time.sleep(0.0005)
        if number % 50 == 0:
            log.sync()


def make_columnar(folder: Path) -> None:
    """Make parts and delete segments with hardly a pause, and print a line a round that made some."""
    with compacting(folder):
        while True:
            if compact(folder, delete_segments=True).n_parts:
                print("round", flush=True)
            time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        make_columnar(Path(sys.argv[2]))
