"""A process that folds metric files and is killed between two steps: `python -m tests.serving.metric_process FOLDER N`.

The Nth call among those that change a file ends the process as SIGKILL would, before it is made.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

from flightdeck.core import files
from serving import metric_files


def main(folder: Path, fatal: int) -> None:
    """Fold everything in `folder`, and be killed before the `fatal`-th change of a file."""
    calls = iter(range(1, 1 << 30))

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            if next(calls) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*given, **named)

        return wrapped

    for owner, name in (
        (Path, "unlink"),
        (Path, "rename"),
        (Path, "replace"),
        (os, "replace"),
        (os, "fsync"),
        (MmapedDict, "write_value"),
        (files, "write_atomically"),
    ):
        setattr(owner, name, deadly(getattr(owner, name)))
    vars(metric_files)["write_atomically"] = files.write_atomically
    metric_files.fold(folder, set())
    print(next(calls) - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
