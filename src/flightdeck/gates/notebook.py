"""The gate: a notebook that papermill executes on a draft bundle, and the verdict that it writes.

Only a verdict written by this very run counts: an old one is deleted first, and a kernel that dies, hangs or finishes
without writing one has failed. The executed notebook and its HTML page stay in the draft, whatever happened.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flightdeck.core.errors import FlightdeckError, GateFailed, GateImpossible, NotFoundError
from flightdeck.core.identifiers import canonical_json
from flightdeck.gates.html import write_html
from flightdeck.gates.verdict import Check, Verdict, read_verdict
from flightdeck.inference.bundle import content_digest

FOLDER = "evaluation"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GateFiles:
    """Where the gate leaves its evidence, inside the draft bundle."""

    folder: Path

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.folder / "evaluation.ipynb"

    @property
    def page(self) -> Path:
        """The executed notebook as a page for people."""
        return self.folder / "evaluation.html"

    @property
    def verdict(self) -> Path:
        """The verdict."""
        return self.folder / "verdict.json"


def run_gate(
    source: Path,
    draft: Path,
    *,
    tier: str,
    parameters: Mapping[str, object],
    timeout_s: float,
    keep: Callable[[Path], None] = lambda folder: None,
) -> Verdict:
    """Execute the gate notebook on a draft and return its verdict, if it is a pass.

    Parameters as of `judge_draft`.

    Raises
    ------
    GateFailed, GateImpossible
        As `enforce` says; the message names every blocking check that failed. Exit code 3 or 4.
    FlightdeckError
        If a cell raised, the kernel died or hung, or no verdict about this draft was written. Exit code 1.
    """
    verdict = judge_draft(source, draft, tier=tier, parameters=parameters, timeout_s=timeout_s, keep=keep)
    enforce(verdict, str(GateFiles(draft.resolve() / FOLDER).page))
    return verdict


def judge_draft(
    source: Path,
    draft: Path,
    *,
    tier: str,
    parameters: Mapping[str, object],
    timeout_s: float,
    keep: Callable[[Path], None] = lambda folder: None,
) -> Verdict:
    """Execute the gate notebook on a draft and return its verdict, whatever it says.

    Parameters
    ----------
    source
        The gate notebook, without outputs.
    draft
        Folder of the draft bundle; its `evaluation/` is made anew.
    tier
        Risk tier that the verdict must state.
    parameters
        Parameters of the notebook besides `bundle`, `tier` and `verdict_path`.
    timeout_s
        Longest time in seconds that one cell may run.
    keep
        Called with the folder of the evidence however the gate ends, for example to copy it to MLflow.

    Raises
    ------
    FlightdeckError
        If a cell raised, the kernel died or hung, or no verdict about this draft was written. Exit code 1.
    """
    draft = draft.resolve()
    files = GateFiles(draft / FOLDER)
    for stale in (files.verdict, files.notebook, files.page):
        stale.unlink(missing_ok=True)
    given = {**parameters, "bundle": str(draft), "tier": tier, "verdict_path": str(files.verdict)}
    try:
        execute(source, files.notebook, given, timeout_s=timeout_s)
        verdict = _about(files.verdict, draft, tier)
    finally:
        if files.notebook.is_file():
            write_html(files.notebook, files.page, title="Evaluation of a release candidate")
            keep(files.folder)
    return verdict


def execute(source: Path, out: Path, parameters: Mapping[str, object], *, timeout_s: float) -> None:
    """Execute the notebook `source` with papermill and write it with its outputs to `out`.

    The kernel is this interpreter's own; it is gone when this returns or raises.

    Raises
    ------
    NotFoundError
        If there is no such notebook.
    FlightdeckError
        If it has no parameter of a given name, a cell raised or took longer than `timeout_s`, or the kernel died.
    """
    import papermill  # 1.8 s that only a gate pays
    from nbclient.exceptions import CellControlSignal
    from papermill.exceptions import PapermillException

    if not source.is_file():
        raise NotFoundError(f"executing the notebook {source}: no such file", next_step="restore it from git")
    _refuse_unknown(source, parameters)
    out.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(
        "JUPYTER_PREFER_ENV_PATH", "1"
    )  # a kernel called python3 in the user's home is another python
    look = f"look at {out}"
    try:
        papermill.execute_notebook(
            str(source),
            str(out),
            parameters=json.loads(canonical_json(dict(parameters))),  # papermill writes a tuple as text
            kernel_name="python3",
            execution_timeout=timeout_s,
            start_timeout=120,
            progress_bar=False,
            log_output=False,
            extra_arguments=["--log-level=CRITICAL"],  # it warns of TCP, and of being interrupted at the end
        )
    except papermill.PapermillExecutionError as error:
        raise FlightdeckError(
            f"executing {source.name}: cell {error.exec_count} raised {error.ename}: {error.evalue}", next_step=look
        ) from error
    except (CellControlSignal, PapermillException, RuntimeError, TimeoutError) as error:
        raise FlightdeckError(f"executing {source.name}: {type(error).__name__}: {error}", next_step=look) from error


def enforce(verdict: Verdict, evidence: str) -> None:
    """Stop here unless the verdict is a pass; `evidence` says what a person is to read then.

    Raises
    ------
    GateFailed
        If a blocking check failed by what it measured. Exit code 3.
    GateImpossible
        If nothing measured failed, but a blocking check could not be measured, or none was made. Exit code 4.
    """
    if verdict.passed:
        logger.info("the gate passed: %d checks, tier %s", len(verdict.checks), verdict.tier)
        return
    failed = [check for check in verdict.checks if check.blocking and not check.passed]
    listed = "; ".join(map(_said, failed)) or "it made no check"
    if verdict.is_measured_no:
        raise GateFailed(
            f"the gate says no to this draft (tier {verdict.tier}): {listed}",
            next_step=f"read {evidence}, change the model or its data and run again",
        )
    raise GateImpossible(
        f"the gate could not look at all of this draft (tier {verdict.tier}): {listed}",
        next_step=f"read {evidence}, take away what kept it from looking and run again",
    )


def _about(path: Path, draft: Path, tier: str) -> Verdict:
    """Return the verdict at `path` if it is about this draft and tier."""
    verdict = read_verdict(path)
    subject = content_digest(draft)
    if verdict.subject != subject or verdict.tier != tier:
        raise FlightdeckError(
            f"reading the verdict {path}: it is about content {verdict.subject[:16]} in tier {verdict.tier}, "
            f"the draft is {subject[:16]} in tier {tier}",
            next_step="nothing may write to the draft while the gate runs; run again: kedro run --config kedro.yml",
        )
    return verdict


def _refuse_unknown(source: Path, parameters: Mapping[str, object]) -> None:
    """Refuse parameters that the notebook does not have: papermill would only log them."""
    import papermill

    known = set(papermill.inspect_notebook(str(source)))
    unknown = sorted(parameters.keys() - known)
    if unknown:
        raise FlightdeckError(
            f"executing {source.name}: it has no parameter {', '.join(unknown)}; its parameters are {sorted(known)}",
            next_step="correct the cell tagged `parameters`, or what is passed to it",
        )


def _said(check: Check) -> str:
    if check.value is None:
        return f"{check.name} is unknown: {check.detail}"
    return f"{check.name} is {check.value:.4g}" + ("" if check.threshold is None else f", bound {check.threshold:.4g}")
