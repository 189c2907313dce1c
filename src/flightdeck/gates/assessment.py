"""The whole look at one draft: each family of checks that its tier asks for, measured once, to show and to judge.

A family is a function from evidence and bounds to checks. Those that need nothing but bundles are in this room; those
that need data, training or a server are brought by the use case. Whatever keeps one from looking is its answer: a gate
that could not run has failed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flightdeck.core.clock import Clock
from flightdeck.core.config import cast_config
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates import checks
from flightdeck.gates.evidence import Evidence, read_evidence
from flightdeck.gates.families import could_not_run, has_looked, refuse_unknown_advisory
from flightdeck.gates.package import package_checks
from flightdeck.gates.policy import read_policies
from flightdeck.gates.probe import feature_sample, max_onnx_difference, single_row_ms
from flightdeck.gates.slices import slice_checks
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check, Verdict, judge, write_verdict

Family = Callable[[Evidence, Thresholds], Sequence[Check]]


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
        Checks by family, in the order in which the tier names them.
    latency_ms
        Milliseconds of each single-row call of the exported model; empty where it could not be called.
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

    def has_looked(self, family: str) -> bool:
        """Tell whether a family was asked for and could look."""
        return has_looked(self.families, family)

    def verdict(self, clock: Clock) -> Verdict:
        """Return the verdict, dated by `clock`."""
        made_at = clock.now().astimezone(UTC).isoformat(timespec="seconds")
        return judge(self.evidence.subject, self.tier, self.checks, made_at)


def assess(
    bundle: str,
    *,
    tier: str,
    thresholds: Mapping[str, object],
    gates: Sequence[str],
    further: Mapping[str, Family],
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
    gates
        Names of the families to look at; those of the tier in `conf/base/policies.yml` where empty.
    further
        The families that the use case brings, by name.
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
    timing = _Export()
    own: dict[str, Family] = {
        "coverage": lambda evidence, bounds: checks.coverage_checks(evidence, bounds, versions),
        "ranking": checks.ranking_checks,
        "leakage": checks.leakage_checks,
        "calibration": checks.calibration_checks,
        "baselines": checks.baseline_checks,
        "champion": checks.champion_checks,
        "slices": slice_checks,
        "segments": lambda evidence, bounds: checks.segment_checks(evidence, bounds, segments),
        "export": timing,
        "package": package_checks,
    }
    asked = gates or read_policies(PROJECT / "conf").tier(tier).gates
    families = run_families(asked, {**further, **own}, evidence, bounds)
    refuse_unknown_advisory(families, bounds)
    return Assessment(evidence, tier, bounds, families, timing.latency_ms, tuple(segments))


def sign_off(assessment: Assessment, verdict_path: str, clock: Clock) -> Verdict:
    """Write the verdict where the gate expects it (nowhere, for a look by hand) and return it."""
    verdict = assessment.verdict(clock)
    if verdict_path:
        write_verdict(Path(verdict_path), verdict)
    return verdict


def run_families(
    gates: Iterable[str], families: Mapping[str, Family], evidence: Evidence, thresholds: Thresholds
) -> dict[str, Sequence[Check]]:
    """Return the checks of each family of `gates`, in their order; one that cannot look gives one check that failed."""
    return {name: _checks(name, families.get(name), evidence, thresholds) for name in gates}


def _checks(name: str, family: Family | None, evidence: Evidence, thresholds: Thresholds) -> Sequence[Check]:
    if family is None:
        return [could_not_run(name, "the use case brings no family of this name")]
    try:
        found = family(evidence, thresholds)
    except FlightdeckError as error:
        return [could_not_run(name, str(error).replace("\n  ", "; "))]
    except Exception as error:  # noqa: BLE001 - whatever keeps a family from looking, the verdict says so
        return [could_not_run(name, f"{type(error).__name__}: {error}")]
    return found or [could_not_run(name, "it made no check")]


@dataclass
class _Export:
    """The family of the exported model, which keeps the times that it measured for the notebook to show."""

    latency_ms: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __call__(self, evidence: Evidence, thresholds: Thresholds) -> Sequence[Check]:
        sample = feature_sample(evidence.draft)
        self.latency_ms = single_row_ms(evidence.draft, sample)
        return checks.export_checks(max_onnx_difference(evidence, sample), self.latency_ms, thresholds)
