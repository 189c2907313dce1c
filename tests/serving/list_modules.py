"""The service, started the usual way, that writes down at its end which modules it has imported."""

import atexit
import json
import os
import sys
from pathlib import Path

from serving.__main__ import serve


def _write() -> None:
    Path(os.environ["FLIGHTDECK_DATA"], "modules.json").write_text(json.dumps(sorted(sys.modules)), encoding="utf-8")


if __name__ == "__main__":
    atexit.register(_write)
    serve()
