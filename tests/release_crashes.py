"""Processes of the release desk that end in the middle: forked from this one, killed where they pass a failpoint."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from flightdeck.core.failpoints import arm, failpoint

KILLED, FAILED = -9, 3
Act = Callable[[Callable[[], None]], None]


def run_and_kill(act: Act, name: str, n_th: int, notes: Path) -> int:
    """Run `act` in a child process that is killed when it passes `name` for the `n_th` time; return its exit code.

    `act` is given a function to call whenever something was acknowledged; it leaves a line in the file `notes`.
    """
    return _fork(lambda: arm(name, n_th), act, notes)


def places_passed(act: Act, notes: Path) -> list[str]:
    """Run `act` in a child process and return the failpoints that it passes, in their order."""
    seen = notes.with_suffix(".seen")

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is failpoint.__code__:
            with seen.open("a") as stream:
                stream.write(frame.f_locals["name"] + "\n")

    code = _fork(lambda: sys.setprofile(note), act, notes)
    if code != 0:
        raise AssertionError(f"without a crash the act itself ended with {code}")
    return seen.read_text().split()


def _fork(prepare: Callable[[], None], act: Act, notes: Path) -> int:
    def acknowledge() -> None:
        with notes.open("a") as stream:
            stream.write(json.dumps("acknowledged") + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    pid = os.fork()
    if pid == 0:
        code = FAILED
        try:
            prepare()
            act(acknowledge)
            code = 0
        except BaseException:  # noqa: BLE001 - a child must not go on as a second test run
            import traceback

            traceback.print_exc()
        finally:
            sys.setprofile(None)
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
