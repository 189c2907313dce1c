"""Sealing, registering and recording a candidate.

The node is an edge of the pipeline: the I/O lives behind `flightdeck.release.intake`. What happens to the candidate
afterwards is decided by people: `kedro release --help`.
"""

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.tracking import active_run_id
from flightdeck.gates.verdict import Verdict
from flightdeck.release.intake import enter_candidate
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.people import read_people
from flightdeck.release.registry import Registry


def enter(
    draft_bundle: Mapping[str, str], gate_verdict: Mapping[str, Any], release: Mapping[str, Any]
) -> dict[str, Any]:
    """Seal the draft, register it in MLflow and enter it with its verdict into the ledger.

    Returns
    -------
    dict
        `version`, `digest` of the sealed bundle, `content_digest`, `model_digest`, `model_name`, `tier`, `path`.
    """
    place = layout()
    run_id = active_run_id()
    model_name = str(release["model_name"])
    version, bundle = enter_candidate(
        Path(draft_bundle["path"]),
        msgspec.convert(gate_verdict, Verdict),
        bundles=place.bundles,
        ledger=released_ledger(place, SystemClock()),
        registry=Registry(place.mlflow_uri, model_name),
        by=read_people(PROJECT / "conf").identify(str(release["actor"]), proof="pipeline"),
        author=str(release["author"] or os.environ.get("FLIGHTDECK_PERSON") or getpass.getuser()),
        facts={"model_digest": draft_bundle["model_digest"], "mlflow_run_id": run_id or ""},
        run_id=run_id,
    )
    return {
        "version": version,
        "digest": bundle.digest,
        "content_digest": draft_bundle["content_digest"],
        "model_digest": draft_bundle["model_digest"],
        "model_name": model_name,
        "tier": str(release["tier"]),
        "path": str(bundle.path),
    }
