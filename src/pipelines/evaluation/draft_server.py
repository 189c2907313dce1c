"""A draft as the champion of a real server: `kedro serve` on a data root of its own, which nothing else reads.

The server is a process by its command, in a session of its own on loopback. It ends with the block that runs it, and by
itself where this process is interrupted or killed (`flightdeck.core.keeper`).
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.core.processes import Process, free_port
from flightdeck.features import store_config
from flightdeck.inference.bundle import EVIDENCE, Bundle, seal
from flightdeck.release import ledger_config
from flightdeck.release.ledger import open_ledger

READY_WITHIN_S = 60.0
EVALUATION = "evaluation"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SESSION, _RESIDENT = 3, 21  # places in /proc/<pid>/stat, counted after the name of the program


@dataclass(frozen=True)
class DraftServer:
    """A server that was started.

    Parameters
    ----------
    port
        Where it listens on loopback.
    process
        Its keeper, whose session it shares with nobody else.
    """

    port: int
    process: Process

    def wait_until_ready(self) -> None:
        """Return when the draft answers.

        Raises
        ------
        ProcessFailed
            If the server ends or is not ready within a minute, with the end of what it wrote.
        """
        self.process.wait_until_ready(f"http://127.0.0.1:{self.port}/readyz", READY_WITHIN_S)

    def resident_bytes(self) -> int:
        """Return the resident memory of all its processes; pages that they share count for each of them."""
        total = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                facts = path.read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if int(facts[_SESSION]) == self.process.pid != int(path.parent.name):
                total += int(facts[_RESIDENT]) * _PAGE_BYTES
        return total


def release_draft(draft: Path, where: Layout) -> Bundle:
    """Seal a copy of a draft below `where` and make it the champion of the ledger there.

    What the gate leaves in a draft is not there yet; a server does not read it, and an empty file stands for each.

    Raises
    ------
    BundleRefused
        If the draft is incomplete.
    """
    shutil.copytree(draft, where.draft_bundle, ignore=shutil.ignore_patterns(EVALUATION))
    for name in EVIDENCE:
        (where.draft_bundle / name).parent.mkdir(exist_ok=True)
        (where.draft_bundle / name).touch()
    bundle = seal(where.draft_bundle, where.bundles, name="draft", metadata={})
    ledger = open_ledger(where.ledger, SystemClock())
    registered = {"digest": bundle.digest, "tier": "low", "model_name": "draft"}
    ledger.append("registered", actor="gate", subject="1", detail=registered)
    for stage in ({"to": "staging"}, {"to": "canary", "share": 1.0}, {"to": "prod"}):
        ledger.append("promoted", actor="gate", subject="1", detail={"digest": bundle.digest, **stage})
    return bundle


def content_bytes(bundle: Bundle) -> int:
    """Return the size of a bundle's files without what the gate leaves in it."""
    files = bundle.manifest.files.items()
    return sum(entry.n_bytes for name, entry in files if not name.startswith(f"{EVALUATION}/"))


@contextmanager
def starting(where: Layout, log_path: Path) -> Iterator[DraftServer]:
    """Give a server over the data root of `where` as soon as it is started, and end it with the block."""
    port = free_port(0)
    kedro = str(Path(sys.executable).with_name("kedro"))
    process = Process(
        "the server of the draft",
        [kedro, "serve", "--port", str(port)],
        log_path=log_path,
        environment=_environment(where),
        folder=PROJECT,
    )
    try:
        yield DraftServer(port, process)
    finally:
        process.stop()


def _environment(where: Layout) -> dict[str, str]:
    """Return our environment without what names other places of ours: those of `where` count."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLIGHTDECK_")}
    elsewhere = (*store_config.OVERRIDES.values(), *ledger_config.OVERRIDES.values())
    own = {"FLIGHTDECK_DATA": str(where.root), "FLIGHTDECK_CLOCK": "event", "DO_NOT_TRACK": "true"}
    return {**kept, **dict.fromkeys(elsewhere, "embedded"), **own, "MLFLOW_DISABLE_TELEMETRY": "true"}
