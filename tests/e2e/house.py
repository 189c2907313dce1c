"""A data root of its own and the command line, as a person uses them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.inference.prediction_log_read import read_log
from flightdeck.release.ledger import open_ledger
from flightdeck.release.record import Record
from tests.predictions import read_records

KEDRO = str(Path(sys.executable).with_name("kedro"))


class House:
    """One data root and what is in it."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            "FLIGHTDECK_DATA": str(root),
            "FLIGHTDECK_CLOCK": "event",
            "DO_NOT_TRACK": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "COLUMNS": "200",
        }

    def kedro(self, *arguments: str, exit_code: int = 0) -> str:
        """Run a command, compare its exit code and return what it printed."""
        done = subprocess.run(
            [KEDRO, *arguments],
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=540,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout[-4000:]
        return done.stdout

    def records(self) -> list[Record]:
        return open_ledger(self.layout.ledger, SystemClock()).records()

    def read(self, path: Path) -> Any:
        return json.loads(path.read_text("utf-8"))

    def predictions(self) -> list[dict[str, Any]]:
        """Return all whole records of the prediction log."""
        assert read_log(self.layout.prediction_log).lost.n_damaged == 0
        return read_records(self.layout.prediction_log)
