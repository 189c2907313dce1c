"""The golden path on the real flights, run once for all test files of a session and copied for each."""

import fcntl
import os
import shutil

import pytest

from tests.e2e.house import House


def golden_house(factory: pytest.TempPathFactory) -> House:
    """Return a house of the caller's own in which the golden path has ended; the first who asks runs it."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # one folder for all workers
    with (shared / "golden.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = shared / "golden.done"
        if not done.exists():
            shutil.rmtree(shared / "golden", ignore_errors=True)
            House(shared / "golden").kedro("run", "--config", "kedro.yml")
            done.touch()
    copy = factory.mktemp("house") / "data"
    shutil.copytree(shared / "golden", copy)
    return House(copy)
