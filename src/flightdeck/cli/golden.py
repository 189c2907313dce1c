"""The golden path as a step of `kedro up`: run when its inputs changed, reused when they did not.

The inputs are the code, the configuration, the gate notebooks, the lock file and the raw files, by content. Their
digest is kept with the version that they led to; where both are still true there is nothing to run.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from flightdeck.cli.processes import Process, Processes, ProcessFailed
from flightdeck.core.errors import FlightdeckError, GateFailed, GateImpossible, NotFoundError
from flightdeck.core.files import write_json
from flightdeck.core.identifiers import digest_file, digest_json
from flightdeck.core.layout import Layout
from flightdeck.release.stages import REJECTED, SUPERSEDED, ReleaseState

CODE = ("src/pipelines", "src/flightdeck", "conf/base", "conf/local", "notebooks/reports")
FILES = ("requirements.lock", "pyproject.toml", "kedro.yml", "docs/runbooks/serving.md")
IGNORED = ("__pycache__", ".ipynb_checkpoints")
COMMAND = (str(Path(sys.executable).with_name("kedro")), "run", "--config", "kedro.yml")
_NODE = re.compile(r"Running node: ([\w.-]+)")
_TASKS = re.compile(r"Completed (\d+) out of (\d+) tasks")
_ERROR = re.compile(r"^error: ", re.MULTILINE)


class GoldenRun(msgspec.Struct, frozen=True):
    """What the last successful run of the golden path read and made."""

    inputs_digest: str
    version: int


def inputs_digest(project: Path, raw: Path) -> str:
    """Return the digest of everything that the golden path's result depends on.

    Parameters
    ----------
    project
        Folder of the project.
    raw
        Folder of the raw files; empty before the first run, which lands them.
    """
    return _joint_digest(project_digest(project), raw)


def project_digest(project: Path) -> str:
    """Return the digest of the project's files that the golden path depends on; taken before a run that may last."""
    files = {path.relative_to(project).as_posix(): digest_file(path) for path in _project_files(project)}
    return digest_json(files)


def _joint_digest(project: str, raw: Path) -> str:
    landed = {path.name: digest_file(path) for path in raw.glob("*") if path.is_file() and path.name[0] != "."}
    return digest_json({"project": project, "raw": landed})


def reusable_version(project: Path, where: Layout, state: ReleaseState) -> int | None:
    """Return the version that a run of the present inputs led to, None if the golden path must run."""
    try:
        last = msgspec.json.decode(golden_record(where).read_bytes(), type=GoldenRun)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    known = state.versions.get(last.version)
    if (
        known is None
        or known.stage in (REJECTED, SUPERSEDED)
        or last.inputs_digest != inputs_digest(project, where.raw)
    ):
        return None
    is_there = (where.bundles / known.digest[:16]).is_dir() and (where.event_log / "scheduled").is_dir()
    return last.version if is_there else None


def record_run(project: str, where: Layout, state: ReleaseState) -> int:
    """Remember which version the run that just ended led to, and return it.

    Parameters
    ----------
    project
        `project_digest` as it was when the run began.
    where
        Layout of the data root.
    state
        State of the ledger.

    Raises
    ------
    NotFoundError
        If the ledger holds no version.
    """
    if not state.versions:
        raise NotFoundError(
            "the golden path ended well and left no version in the ledger",
            next_step="see its pipelines: kedro registry describe golden",
        )
    version = max(state.versions)
    write_json(golden_record(where), msgspec.to_builtins(GoldenRun(_joint_digest(project, where.raw), version)))
    return version


def golden_record(where: Layout) -> Path:
    """Return the file that remembers the last successful run."""
    return where.draft_bundle.with_name("golden.json")


def start_golden_path(processes: Processes, project: Path, log_path: Path, environment: Mapping[str, str]) -> Process:
    """Start the golden path as a process of its own."""
    return processes.start("the golden path", COMMAND, log_path=log_path, environment=environment, folder=project)


def describe_progress(log: str) -> str:
    r"""Return what a kedro run is doing, from its log so far.

    Examples
    --------
    >>> describe_progress("INFO Completed 1 out of 9 tasks\nINFO Running node: train: fit() -> [model]")
    '1 of 9 nodes done, now train'
    """
    nodes, tasks = _NODE.findall(log), _TASKS.findall(log)
    done = f"{tasks[-1][0]} of {tasks[-1][1]} nodes done, " if tasks else ""
    return f"{done}now {nodes[-1]}" if nodes else "starting"


def require_success(process: Process) -> None:
    """Return if the golden path, which has ended, ended well.

    Raises
    ------
    GateFailed, GateImpossible
        If the gate said no, or could not look.
    ProcessFailed
        If anything else went wrong.
    """
    if process.exit_code == 0:
        return
    log = process.log_path.read_text(encoding="utf-8", errors="replace")
    said = [log[found.end() :].strip() for found in _ERROR.finditer(log)]
    gate: dict[int, type[FlightdeckError]] = {kind.exit_code: kind for kind in (GateFailed, GateImpossible)}
    raise gate.get(process.exit_code or 0, ProcessFailed)(
        f"the golden path failed with exit code {process.exit_code}: {said[-1] if said else process.last_lines()}",
        next_step=f"its whole output: {process.log_path}",
    )


def _project_files(project: Path) -> Iterator[Path]:
    for folder in CODE:
        for path in sorted((project / folder).rglob("*")):
            relative = path.relative_to(project).parts
            if path.is_file() and not any(part in IGNORED or part[0] == "." for part in relative):
                yield path
    yield from (project / name for name in FILES if (project / name).is_file())
