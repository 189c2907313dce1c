"""What an audit of a long ledger costs, and an append with its signed checkpoint. One JSON line last.

`python -m benchmarks.bench_audit [--records 1000000] [--quick]`. The ledger is a SQLite file made here: one record in
fifty is a decision about a version, each signed; the others are alerts and leases. `verify_s` is the whole command
`kedro audit verify`, its start included; the appends are decisions, one after the other, each on the disk with its
checkpoint when it returns. `fsync_p99_ms` is what the disk itself takes for one flushed write of 512 bytes.
"""

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from flightdeck.core.clock import SystemClock
from flightdeck.core.identifiers import digest_bytes
from flightdeck.core.layout import Layout
from flightdeck.release.checkpoints import FILE, CheckpointLog, sign_checkpoint
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.record import GENESIS, INERT, Row, make_record, to_row
from flightdeck.release.signing import open_signer

N_RECORDS, N_QUICK, N_APPENDS, PERIOD = 1_000_000, 50_000, 500, 50
START = datetime(2013, 1, 1, tzinfo=UTC)


def steps() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yield what happens: versions that reach prod one after the other, with alerts and leases in between."""
    version = 0
    while True:
        version += 1
        digest = f"{version:064x}"
        about = {"digest": digest}
        life: list[tuple[str, dict[str, object]]] = [
            ("registered", {**about, "model_name": "flight-delay", "tier": "medium"}),
            ("verdict", {**about, "passed": True, "failed": [], "n_checks": 12}),
            ("approved", {**about, "reason": "the notebook shows no slice that got worse"}),
            *(("promoted", {**about, "from": "the stage before", "to": to, "share": 0.05}) for to in STAGES),
        ]
        for action, detail in life:
            yield action, str(version), detail
            for number in range(PERIOD - 1):
                if number == 0:
                    yield "lease", "-", {"holder": "controller", "expires_at": START.isoformat()}
                else:
                    yield "alert", "-", {"name": "freshness", "about": f"stream {number}", "value": number / 7}


STAGES = ("staging", "canary", "prod")


def make_rows(n_records: int) -> Iterator[Row]:
    previous = GENESIS
    for seq, (action, subject, detail) in zip(range(1, n_records + 1), steps(), strict=False):
        record = make_record(seq, START + timedelta(seconds=seq), action, "pipeline", subject, detail, previous)
        previous = record.digest
        yield to_row(record)


def make_ledger(where: Layout, checkpoints: CheckpointLog, n_records: int) -> int:
    """Write the ledger and a checkpoint of each decision; return how many there are."""
    ledger = open_ledger(where.ledger, SystemClock())
    ledger._create()
    checkpoints.path.parent.mkdir(parents=True)
    signer = open_signer(checkpoints.path.with_name("signing.key"), checkpoints.public_key)
    lines: list[bytes] = []
    first = ""

    def watched() -> Iterator[Row]:
        nonlocal first
        for row in make_rows(n_records):
            first = first or row[7]
            if row[2] not in INERT or row[0] == n_records:
                before = digest_bytes(lines[-1]) if lines else GENESIS
                lines.append(sign_checkpoint(signer, row[0], row[7], first, START, before))
            yield row

    with closing(sqlite3.connect(where.ledger)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", watched())
        connection.commit()
    (checkpoints.path.parent / FILE).write_bytes(b"".join(line + b"\n" for line in lines))
    return len(lines)


def time_verify(root: Path) -> tuple[float, float]:
    """Return the seconds of the command, as a process of its own, and those of the processor in it."""
    command = "from flightdeck.cli.audit import audit; audit(['verify'])"
    started = perf_counter()
    places = {**os.environ, "FLIGHTDECK_DATA": str(root)}
    done = subprocess.run([sys.executable, "-c", command], env=places, capture_output=True, text=True)
    took_s = perf_counter() - started
    assert done.returncode == 0, done.stderr
    print(done.stdout.strip())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took_s, used.ru_utime + used.ru_stime


def time_appends(ledger: Ledger) -> tuple[list[float], list[float]]:
    """Return the milliseconds of each append, and those of the processor in it."""
    took_ms, cpu_ms = list[float](), list[float]()
    for number in range(N_APPENDS):
        started, started_cpu = perf_counter(), process_time()
        ledger.append("noted", actor="benchmark", subject="-", detail={"number": number})
        took_ms.append((perf_counter() - started) * 1e3)
        cpu_ms.append((process_time() - started_cpu) * 1e3)
    return took_ms, cpu_ms


def time_flushes(path: Path) -> list[float]:
    """Return the milliseconds of flushed writes: what no durable append can be faster than."""
    took_ms = []
    with path.open("ab", buffering=0) as stream:
        for _ in range(N_APPENDS):
            started = perf_counter()
            stream.write(b"x" * 512)
            os.fsync(stream.fileno())
            took_ms.append((perf_counter() - started) * 1e3)
    return took_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=N_RECORDS)
    parser.add_argument("--quick", action="store_true", help=f"{N_QUICK:,} records")
    asked = parser.parse_args()
    n_records = N_QUICK if asked.quick else asked.records
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        where = Layout(Path(folder))
        checkpoints = CheckpointLog(where.audit, where.audit / "signing.key")
        n_checkpoints = make_ledger(where, checkpoints, n_records)
        size_mb = where.ledger.stat().st_size / 1e6
        print(f"a ledger of {n_records:,} records ({size_mb:,.0f} MB) with {n_checkpoints:,} checkpoints")
        verify_s, verify_cpu_s = time_verify(where.root)
        append_ms, cpu_ms = time_appends(open_ledger(where.ledger, SystemClock(), checkpoints=checkpoints))
        flush_ms = time_flushes(where.root / "flushed")
    found = {
        "records": n_records,
        "checkpoints": n_checkpoints,
        "verify_s": round(verify_s, 2),
        "verify_cpu_s": round(verify_cpu_s, 2),
        "append_p50_ms": round(float(np.percentile(append_ms, 50)), 2),
        "append_p99_ms": round(float(np.percentile(append_ms, 99)), 2),
        "append_cpu_p99_ms": round(float(np.percentile(cpu_ms, 99)), 2),
        "fsync_p50_ms": round(float(np.percentile(flush_ms, 50)), 2),
        "fsync_p99_ms": round(float(np.percentile(flush_ms, 99)), 2),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
