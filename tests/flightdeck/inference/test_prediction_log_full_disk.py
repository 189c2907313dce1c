"""A real disk that is full: a file system of a few pages in memory, in a name space of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flightdeck.core.layout import PROJECT

CODE = """
import json, os, sys
from pathlib import Path
from flightdeck.core.clock import SystemClock
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.prediction_log_read import read_log
from tests.predictions import log_batch, read_records

folder = Path(sys.argv[1])
log = PredictionLogWriter(folder / "log", SystemClock(), segment_bytes=20_000)

def ask(first, n):
    return [log.append(log_batch([{"request_id": f"r{number}"}] * 4)).n_written for number in range(first, first + n)]

ballast = folder / "ballast"
ballast.write_bytes(bytes(64 << 10))
written = ask(0, 400)
ballast.unlink()
written += ask(400, 20)
log.sync()
log.close()
lost = read_log(folder / "log").lost
said = [int(record["request_id"][1:]) for record in read_records(folder / "log")]
print(json.dumps({"written": written, "said": said, "lost": lost, "counts": [log.n_written, log.n_dropped]}))
"""


def mounted(folder: Path) -> list[str]:
    """Return the command that runs Python where `folder` is a file system of 256 kB."""
    mount = f'mount -t tmpfs -o size=256k tmpfs "{folder}" && exec "$@"'
    return ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", sys.executable]


def test_a_full_file_system_drops_counts_and_recovers(tmp_path: Path) -> None:
    if subprocess.run([*mounted(tmp_path), "-c", ""], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not allow a file system of one's own")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])}
    command = [*mounted(tmp_path), "-c", CODE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=PROJECT)
    found = json.loads(done.stdout)
    n_written, n_dropped = found["counts"]
    assert n_written + n_dropped == 4 * 420 and n_dropped > 0
    assert found["written"][-20:] == [4] * 20, "it writes again once there is room"
    assert found["said"] == [number for number, n in enumerate(found["written"]) for _ in range(n)]
    assert found["lost"] == [0, 0, n_dropped, 0], "no torn frame, and the log itself says what it lost"
    assert done.stderr.count("answering goes on") >= 1 and done.stderr.count("writing again after") >= 1
