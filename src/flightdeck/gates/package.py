"""The way back, looked at before the way forward: the draft and the champion as packages that a server can be put on.

A rollback opens a bundle that was sealed long ago, perhaps by older code. So both are opened as a server opens them,
and each rung of the ladder (model, fallback, rules) answers the whole sample of its bundle alone. That a rollback has
been performed against a running server is asked later, before prod, by `rehearsal_within_h` of the tier.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_float_dtype, is_integer_dtype

from flightdeck.core.errors import BundleRefused, FlightdeckError
from flightdeck.core.identifiers import digest_file
from flightdeck.gates.bounds import at_most, nothing_to_hold
from flightdeck.gates.evidence import Evidence
from flightdeck.gates.probe import feature_sample
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from flightdeck.inference.bundle import MANIFEST, Bundle, draft_as_bundle, open_bundle
from flightdeck.inference.ladder import Floats, Rows, Rung, descend
from flightdeck.inference.onnx_model import INT64, STRING
from flightdeck.inference.release_bundle import LoadedRelease, RunningCode, open_release

DRAFT, CHAMPION = "package_draft", "package_champion"


def package_checks(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check that the draft, and the champion that it would return to, are complete and answer by all three rungs."""
    draft = _faults(lambda: draft_as_bundle(evidence.draft))
    return [_held(DRAFT, draft, "the draft", thresholds), _champion(evidence, thresholds)]


def _champion(evidence: Evidence, thresholds: Thresholds) -> Check:
    folder, problem = evidence.champion_path, evidence.champion_problem
    if problem:
        return _held(CHAMPION, [problem], "the champion", thresholds)
    if folder is None:
        return nothing_to_hold(CHAMPION, 0, thresholds, "no champion yet: nothing to return to")
    return _held(CHAMPION, _faults(lambda: _sealed(folder)), "the champion", thresholds)


def _held(name: str, faults: list[str], what: str, thresholds: Thresholds) -> Check:
    said = "; ".join(faults) or "complete, and model, fallback and rules answer every row of its sample"
    return at_most(name, len(faults), 0, thresholds, f"faults of {what} as a package to return to: {said}")


def _faults(find: Callable[[], Bundle]) -> list[str]:
    """Return what keeps a bundle from answering, empty where nothing does."""
    try:
        bundle = find()
        sample = feature_sample(bundle.path)
        kinds = _kinds(sample)
        release = open_release(bundle, version=0, code=RunningCode(request_columns=kinds))
    except FlightdeckError as error:
        return [error.message]
    return [fault for rung in _rungs(release, sample, kinds) for fault in _unanswered(rung, len(sample))]


def _kinds(sample: pd.DataFrame) -> dict[str, str]:
    """Return the kind of each request column of a sample; what is neither whole number nor text is of a view."""
    kinds = {str(name): kind for name, kind in sample.dtypes.items() if not is_float_dtype(kind)}
    return {name: INT64 if is_integer_dtype(kind) else STRING for name, kind in kinds.items()}


def _rungs(release: LoadedRelease, sample: pd.DataFrame, kinds: dict[str, str]) -> list[Rung]:
    request: dict[str, NDArray[Any]] = {
        name: sample[name].to_numpy(object if kinds[name] == STRING else np.int64) for name in release.request_inputs
    }
    columns = [column for view in release.feature_views for column in view.columns]
    views = sample[columns].to_numpy(np.float64)

    def alone(score: Callable[[], Floats]) -> Callable[[Rows], Floats]:
        return lambda rows: score()[rows]

    return [
        Rung("model", alone(lambda: release.score_model(request, views).probability)),
        Rung("fallback", alone(lambda: release.score_fallback(request).probability)),
        Rung("rules", alone(lambda: release.score_rules(request))),
    ]


def _unanswered(rung: Rung, n_rows: int) -> list[str]:
    failures = [failure for failure in descend([rung], n_rows).failures if failure]
    return [f"{failures[0][0]} on {len(failures)} of {n_rows} rows"] if failures else []


def _sealed(folder: Path) -> Bundle:
    """Return the bundle in `folder`, every file compared with its manifest, and that with the name of the folder."""
    manifest = folder / MANIFEST
    digest = digest_file(manifest) if manifest.is_file() else ""
    bundle = open_bundle(folder, expected_digest=digest)
    if digest[:16] != folder.name:
        raise BundleRefused(f"opening bundle {folder}: its digest is {digest[:16]}, its folder is named otherwise")
    return bundle
