"""Finding what to compare with, and running the gate.

These nodes are edges of the pipeline: what they do (read a ledger, execute a notebook) is I/O by nature. It lives
behind `flightdeck.release.intake` and `flightdeck.gates.notebook`; the nodes keep no state and change no input.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.notebook import run_gate
from flightdeck.gates.policy import read_policies
from flightdeck.gates.tracking import log_evidence
from flightdeck.release.intake import find_champion
from flightdeck.release.ledger_config import released_ledger


def current_champion(draft_bundle: Mapping[str, str]) -> dict[str, Any]:
    """Return version, folder and, where it cannot be read, the problem of the champion that the draft would replace."""
    del draft_bundle  # an input only so that the champion is looked up after training, not before
    place = layout()
    champion = find_champion(released_ledger(place, SystemClock()), place.bundles)
    return {"version": champion.version, "path": str(champion.path or ""), "problem": champion.problem}


def evaluate(
    draft_bundle: Mapping[str, str],
    data_versions: Mapping[str, Any],
    champion: Mapping[str, Any],
    settings: Mapping[str, Any],
    release: Mapping[str, Any],
) -> dict[str, Any]:
    """Execute the gate notebook on the draft and return its verdict as plain values.

    Raises
    ------
    GateFailed, GateImpossible
        If a blocking check failed (the command exits with 3), or one could not look (4): nothing is sealed.
    FlightdeckError
        If the notebook raised, its kernel died or it wrote no verdict.
    """
    tier = str(release["tier"])
    verdict = run_gate(
        PROJECT / str(settings["notebook"]),
        Path(draft_bundle["path"]),
        tier=tier,
        parameters={
            "champion_bundle": str(champion["path"]),
            "champion_problem": str(champion["problem"]),
            "data_versions": dict(data_versions),
            **read_policies(PROJECT / "conf").tier(tier).gate_parameters,
        },
        timeout_s=float(settings["cell_timeout_s"]),
        keep=log_evidence,
    )
    plain: dict[str, Any] = msgspec.to_builtins(verdict)
    return plain
