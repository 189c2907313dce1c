"""The whole look at one draft: every family of checks, measured once, for the notebook to show and to judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flightdeck.core.clock import Clock
from flightdeck.core.config import cast_config
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates import checks
from flightdeck.gates.evidence import Evidence, read_evidence
from flightdeck.gates.policy import Thresholds, read_policies
from flightdeck.gates.probe import feature_sample, max_onnx_difference, single_row_ms
from flightdeck.gates.verdict import Check, Verdict, judge, write_verdict


@dataclass(frozen=True)
class Assessment:
    """Evidence, bounds and all checks of one draft.

    Parameters
    ----------
    evidence
        What was looked at.
    tier
        Risk tier.
    thresholds
        Its bounds.
    families
        Checks by family: coverage, ranking, leakage, calibration, baselines, champion, segments, export.
    latency_ms
        Milliseconds of each single-row call of the exported model.
    segments
        Columns that quality is shown by.
    """

    evidence: Evidence
    tier: str
    thresholds: Thresholds
    families: Mapping[str, Sequence[Check]]
    latency_ms: NDArray[np.float64]
    segments: tuple[str, ...]

    @property
    def checks(self) -> list[Check]:
        """All checks in order."""
        return [check for family in self.families.values() for check in family]

    def verdict(self, clock: Clock) -> Verdict:
        """Return the verdict, dated by `clock`."""
        made_at = clock.now().astimezone(UTC).isoformat(timespec="seconds")
        return judge(self.evidence.subject, self.tier, self.checks, made_at)


def assess(
    bundle: str,
    *,
    tier: str,
    thresholds: Mapping[str, object],
    data_versions: Mapping[str, object],
    key: str,
    segments: Sequence[str],
    champion_bundle: str = "",
    champion_problem: str = "",
) -> Assessment:
    """Measure everything about the draft in the folder `bundle`.

    Parameters
    ----------
    bundle
        Folder of the draft; the layout's draft where empty, for a look by hand.
    tier
        Risk tier.
    thresholds
        Its bounds as plain values; those of `conf/base/policies.yml` where empty.
    data_versions
        Version of each stream that the model should have read; those it says it read where empty.
    key
        Column of the predictions that names a row together with `horizon_min`.
    segments
        Columns of the predictions to show quality by.
    champion_bundle
        Folder of the champion's bundle, or empty.
    champion_problem
        Why the champion cannot be compared with, or empty.

    Raises
    ------
    FlightdeckError
        If the draft is incomplete or a bound is unknown.
    """
    bounds = cast_config(dict(thresholds), Thresholds, where=f"the thresholds of tier {tier}") if thresholds else None
    bounds = bounds or read_policies(PROJECT / "conf").tier(tier).thresholds
    draft = bundle or str(layout().draft_bundle)
    evidence = read_evidence(draft, champion_bundle, key=key, champion_problem=champion_problem)
    versions = data_versions or evidence.training.get("data_versions", {})
    sample = feature_sample(evidence)
    latency_ms = single_row_ms(Path(draft), sample)
    families: dict[str, Sequence[Check]] = {
        "coverage": checks.coverage_checks(evidence, bounds, versions),
        "ranking": checks.ranking_checks(evidence, bounds),
        "leakage": checks.leakage_checks(evidence, bounds),
        "calibration": checks.calibration_checks(evidence, bounds),
        "baselines": checks.baseline_checks(evidence, bounds),
        "champion": checks.champion_checks(evidence, bounds),
        "segments": checks.segment_checks(evidence, bounds, segments),
        "export": checks.export_checks(max_onnx_difference(evidence, sample), latency_ms, bounds),
    }
    assessment = Assessment(evidence, tier, bounds, families, latency_ms, tuple(segments))
    checks.refuse_unknown_advisory(assessment.checks, bounds)
    return assessment


def sign_off(assessment: Assessment, verdict_path: str, clock: Clock) -> Verdict:
    """Write the verdict where the gate expects it (nowhere, for a look by hand) and return it."""
    verdict = assessment.verdict(clock)
    if verdict_path:
        write_verdict(Path(verdict_path), verdict)
    return verdict
