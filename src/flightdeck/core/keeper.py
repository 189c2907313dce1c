"""Keeps one command and everything that it starts: `python keeper.py GRACE_S PARENT_PID COMMAND...`.

The keeper dies with its parent, even a parent that was killed with -9, and takes all of its descendants with it, also
those that moved to a process group of their own (a notebook kernel, a server's workers). It runs as a script on the
standard library alone, so that it is there at once and weighs little. Linux only.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POLL_S = 0.05
STOPPED = 128 + signal.SIGTERM
NOT_STARTED = 127
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_libc = ctypes.CDLL(None, use_errno=True)


class _Stop(Exception):
    """The keeper was told to stop, or its parent is gone."""


def main(grace_s: float, parent: int, command: list[str]) -> int:
    """Run `command` until it ends or the keeper is told to; return its exit code (128 + signal where killed)."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    code = STOPPED
    try:
        for number in SIGNALS:
            signal.signal(number, _stop)
        die_with_parent()
        if os.getppid() != parent:
            return STOPPED
        code = wait_for(start(command))
    except _Stop:
        pass
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_descendants(grace_s)
    return code


def start(command: list[str]) -> int:
    """Start `command`, which gets SIGTERM when the keeper dies; return its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            die_with_parent()
            os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
        except OSError as error:
            print(f"starting {command[0]}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(NOT_STARTED)
    return pid


def wait_for(child: int) -> int:
    """Wait for `child`, collecting whatever else was left to the keeper; return its exit code."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def end_descendants(grace_s: float) -> None:
    """Ask all descendants to end; after `grace_s` seconds, end them."""
    deadline_s = time.monotonic() + grace_s
    asked: set[int] = set()
    while found := descendants(os.getpid()):
        if time.monotonic() < deadline_s:
            _signal(found - asked, signal.SIGTERM)
            asked |= found
        else:
            _signal(found, signal.SIGKILL)
        time.sleep(POLL_S)


def descendants(of: int) -> set[int]:
    """Return the ids of the processes below process `of`, collecting ended children of this process first."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return set()
    children: dict[int, set[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):  # it ended meanwhile
            continue
        children.setdefault(parent, set()).add(int(stat.parent.name))
    found: set[int] = set()
    waiting = [of]
    while waiting:
        below = children.get(waiting.pop(), set()) - found
        found |= below
        waiting += below
    return found


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent of this process is gone."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _stop(number: int, frame: object) -> None:
    raise _Stop


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
