"""A long run at a part of the capacity: what fails, what the memory does, what the log takes.

One server as it is shipped (one worker, everything on) answers three surfaces in an open loop, each a third, in slices
of a minute; units and flights differ from slice to slice. Capacity is what the closed loop does at 16 connections
before. Resident memory is that of the server's process tree, looked at every few seconds: its growth is the median of
the last tenth of the looks against that of the first tenth after a warm-up of a tenth. Between two slices lies about a
second without load, in which the generator starts.

Keys: `minutes`, `capacity_per_s`, `offered_per_s`, `requests`, `errors` (not answered with 200: `lost` without any
answer, `refused` with 503), `lower_rung` (answered by less than the model), `p50_ms`, `p95_ms`, `p99_ms` (medians of
the slices), `p99_ms_worst` (slice), `others_share` (of the machine; above 3 % the figures are not the server's alone),
`rss_mb_start`, `rss_mb_end`, `rss_growth_pct`, `log_mb`, `log_files`, `log_bytes_per_answer`, `unlogged` (answers that
are neither in the prediction log nor counted as dropped), `dropped`, and `service_log_kb`, what the process wrote.

Run: `python -m benchmarks.soak [--minutes 60] [--share 0.5] [--folder DIR]`. The prediction log of an hour takes
gigabytes in the folder (default: a temporary one): too little room is refused before it begins.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_overload import CRITICAL, LOWEST, N_BODIES, NORMAL, PATH, capacity_of
from benchmarks.http_load import Load, stream
from benchmarks.machine import Watch, tree_rss_bytes
from benchmarks.seen import LOST, MODES, Seen, together
from benchmarks.server_process import Server, our_server
from benchmarks.serving_world import World, questions, train
from flightdeck.core.errors import FlightdeckError

SURFACES = (CRITICAL, NORMAL, LOWEST)
SLICE_S, LOOK_S, CAPACITY_S = 60.0, 2.0, 8.0
CONNECTIONS = 32  # a surface
MB = 1e6
ROOM = 1.5  # times what the log is expected to take


@dataclass(frozen=True)
class Slice:
    """What was seen in one slice; latencies in milliseconds, and the share of the machine that others used."""

    n: int
    n_lost: int
    n_refused: int
    n_errors: int
    n_lower: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    others_share: float

    @classmethod
    def of(cls, seen: Seen, others_share: float) -> "Slice":
        """Return the figures of what a generator saw."""
        answered = seen.take(seen.status == 200)
        return cls(
            n=len(seen),
            n_lost=int((seen.status == LOST).sum()),
            n_refused=int((seen.status == 503).sum()),
            n_errors=int((seen.status != 200).sum()),
            n_lower=int((seen.mode > MODES.index("model")).sum()),
            p50_ms=answered.percentile_ms(50),
            p95_ms=answered.percentile_ms(95),
            p99_ms=answered.percentile_ms(99),
            others_share=others_share,
        )


class MemoryWatch:
    """Looks at the resident memory of a process tree every few seconds. A context manager.

    Parameters
    ----------
    root
        Process id at its root.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.rss_bytes: list[int] = []

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.is_set():
            self.rss_bytes.append(tree_rss_bytes(self._root))
            self._is_over.wait(LOOK_S)


def growth(rss_bytes: Sequence[int]) -> tuple[float, float]:
    """Return resident bytes at the start, after a warm-up of a tenth of the looks, and at the end: medians of a tenth.

    Examples
    --------
    >>> growth([50, *[100] * 5, *[110] * 5])
    (100.0, 110.0)
    """
    tenth = max(len(rss_bytes) // 10, 1)
    start = rss_bytes[tenth : 2 * tenth] or rss_bytes
    return float(np.median(start)), float(np.median(rss_bytes[-tenth:]))


def soak(server: Server, folder: Path, per_s: float, seconds: float) -> tuple[list[Slice], list[int]]:
    """Ask for so many seconds; return what each slice saw and the looks at the memory."""
    slices: list[Slice] = []
    with MemoryWatch(server.pid) as memory:
        while len(slices) * SLICE_S < seconds:
            slice_s = min(SLICE_S, seconds - len(slices) * SLICE_S)
            with Load(server.port, streams(per_s, slice_s, seed=len(slices)), slice_s) as load:
                watch = Watch(server.pid, load.pid)
                seen = together(load.run().values())
                slices.append(Slice.of(seen, watch.stop().others_share))
            told = slices[-1]
            size = f"{memory.rss_bytes[-1] / MB:8.1f} {log_size(folder)[1] / MB:8.1f}"
            print(
                f"{len(slices):5} {told.n:9,} {told.n_errors:7,} {told.n_lower:7,} {told.p50_ms:8.2f} "
                f"{told.p99_ms:8.2f} {size} {told.others_share:7.1%}",
                file=sys.stderr,
                flush=True,
            )
    return slices, memory.rss_bytes


def streams(per_s: float, seconds: float, seed: int) -> list[dict[str, Any]]:
    """Return a third of the requests for each surface."""
    rates = [(seconds, per_s / len(SURFACES))]
    return [
        stream(surface, PATH, questions(N_BODIES, 1, surface=surface, seed=seed), CONNECTIONS, rates=rates)
        for surface in SURFACES
    ]


def log_size(folder: Path) -> tuple[int, int]:
    """Return number and bytes of the files of the prediction log."""
    sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
    return len(sizes), sum(sizes)


def require_room(folder: Path, n_bytes: float) -> None:
    """Refuse a run whose log would fill the disk.

    Raises
    ------
    FlightdeckError
        With both figures.
    """
    free = shutil.disk_usage(folder).free
    if free < ROOM * n_bytes:
        raise FlightdeckError(
            f"soaking: the prediction log will take about {n_bytes / MB:,.0f} MB, {free / MB:,.0f} MB are free "
            f"in {folder}",
            next_step=f"name a folder with {ROOM:g} times as much: --folder DIR, or soak for fewer minutes",
        )


def report(slices: Sequence[Slice], rss_bytes: Sequence[int]) -> dict[str, float]:
    """Return the keys of the JSON line that are about requests and memory."""
    start, end = growth(rss_bytes)
    medians = {
        name: float(np.median([getattr(each, name) for each in slices])) for name in ("p50_ms", "p95_ms", "p99_ms")
    }
    return {
        "requests": sum(each.n for each in slices),
        "errors": sum(each.n_errors for each in slices),
        "lost": sum(each.n_lost for each in slices),
        "refused": sum(each.n_refused for each in slices),
        "lower_rung": sum(each.n_lower for each in slices),
        **{name: round(value, 2) for name, value in medians.items()},
        "p99_ms_worst": round(max(each.p99_ms for each in slices), 2),
        "others_share": round(float(np.mean([each.others_share for each in slices])), 3),
        "rss_mb_start": round(start / MB, 1),
        "rss_mb_end": round(end / MB, 1),
        "rss_growth_pct": round((end / start - 1) * 100, 2),
    }


def logged(server: Server, folder: Path, n_answered: int) -> dict[str, float]:
    """Return the keys that are about the prediction log, of all that the server has answered."""
    n_files, n_bytes = log_size(folder)
    written, dropped = (server.metric(f"flightdeck_prediction_log_{fate}_total") for fate in ("written", "dropped"))
    return {
        "log_mb": round(n_bytes / MB, 1),
        "log_files": n_files,
        "log_bytes_per_answer": round(n_bytes / n_answered, 1),
        "unlogged": int(n_answered - written - dropped),
        "dropped": int(dropped),
    }


def run(
    minutes: float, share: float, root: Path, files: dict[str, bytes], capacity_s: float = CAPACITY_S
) -> dict[str, float]:
    """Soak a server of a bundle of `files`, with a data root below `root`; return the keys of the JSON line."""
    world = World(root / "soak")
    world.feed_store()
    world.release(world.seal(files))
    folder, seconds = world.layout.prediction_log, minutes * 60
    with our_server(world.layout.root) as server:
        capacity = capacity_of(server, capacity_s)
        per_s = share * capacity
        n_before = server.metric("flightdeck_predictions_total")
        require_room(folder, log_size(folder)[1] / n_before * per_s * seconds)
        print(f"offering {per_s:,.0f} of {capacity:,.0f} requests a second for {minutes:g} minutes", file=sys.stderr)
        print("slice  requests  errors   lower   p50 ms   p99 ms   rss MB   log MB  others", file=sys.stderr)
        slices, rss_bytes = soak(server, folder, per_s, seconds)
        told = logged(server, folder, int(server.metric("flightdeck_predictions_total")))
        said = sum(path.stat().st_size for path in world.layout.root.glob("server-*.log"))
    return {
        "minutes": minutes,
        "capacity_per_s": round(capacity),
        "offered_per_s": round(per_s),
        **report(slices, rss_bytes),
        **told,
        "service_log_kb": round(said / 1e3, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="A long run at a part of the capacity.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--share", type=float, default=0.5, help="of the capacity, above 0")
    parser.add_argument("--folder", type=Path, help="where the data root is made and removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        print(json.dumps(run(arguments.minutes, arguments.share, Path(name), train().files)))


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
