"""A look at a bundle by hand: the gate on a copy, so that neither a draft nor a sealed bundle is touched.

`kedro gate run` calls this, and so may a notebook; the pipeline calls `notebook.run_gate` on the draft itself.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from flightdeck.core.errors import FlightdeckError, GateFailed, GateImpossible, NotFoundError
from flightdeck.gates.notebook import FOLDER, GateFiles, run_gate
from flightdeck.gates.policy import Policies
from flightdeck.gates.verdict import Verdict, read_verdict
from flightdeck.inference.bundle import MANIFEST

NOT_COPIED = (MANIFEST, FOLDER)


def look_at(
    bundle: Path,
    out: Path,
    *,
    tier: str,
    policies: Policies,
    notebook: Path,
    timeout_s: float,
    champion: Path | None = None,
    data_versions: Mapping[str, object] | None = None,
) -> Verdict:
    """Run the gate on a copy of a draft or of a sealed bundle, and return the verdict, whatever it says.

    Parameters
    ----------
    bundle
        Folder of the draft or bundle.
    out
        Where the executed notebook, its page and the verdict are left; emptied first.
    tier
        Risk tier whose thresholds are used, which may be another than the bundle was made for.
    policies
        The risk tiers.
    notebook
        The gate notebook.
    timeout_s
        Longest time in seconds that one cell may run.
    champion
        Folder of the bundle to compare with; None for none.
    data_versions
        Version of each stream that the model should have read; those that it says it read where left out.

    Raises
    ------
    GateImpossible
        If the gate could not run: nothing is known, and that is no pass.
    """
    try:
        thresholds = msgspec.to_builtins(policies.tier(tier).thresholds)
        copy = _copied(bundle, out)
        parameters = {
            "champion_bundle": str(champion.resolve()) if champion is not None else "",
            "data_versions": dict(data_versions or {}),
            "thresholds": thresholds,
        }
        try:
            return run_gate(notebook, copy, tier=tier, parameters=parameters, timeout_s=timeout_s)
        except GateFailed:
            return read_verdict(GateFiles(copy / FOLDER).verdict)
        finally:
            _keep_evidence(copy, out)
    except (FlightdeckError, OSError) as error:
        said = error.message if isinstance(error, FlightdeckError) else str(error)
        raise GateImpossible(
            f"the gate could not look at {bundle}: {said}",
            next_step=getattr(error, "next_step", "") or f"look at what is in {out}",
        ) from error


def _copied(bundle: Path, out: Path) -> Path:
    """Return a copy of the files of a draft, as the gate works in it."""
    if not bundle.is_dir():
        raise NotFoundError(
            f"there is no folder {bundle}", next_step="name a draft, a bundle or a version: kedro release list"
        )
    if out.exists():
        shutil.rmtree(out)
    copy = out / "draft"
    shutil.copytree(bundle, copy, ignore=lambda folder, names: NOT_COPIED if Path(folder) == bundle else ())
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # a sealed bundle is read-only
    return copy


def _keep_evidence(copy: Path, out: Path) -> None:
    """Leave the evidence in `out` and take the copy away."""
    if (copy / FOLDER).is_dir():
        for path in (copy / FOLDER).iterdir():
            shutil.move(str(path), out / path.name)
    shutil.rmtree(copy)
