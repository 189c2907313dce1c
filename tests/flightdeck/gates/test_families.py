"""What a tier may ask for, and which names its advisory list may hold."""

import msgspec
import pytest

from flightdeck.core.errors import ConfigError
from flightdeck.gates.families import (
    CHECKS,
    SAFETY,
    could_not_run,
    has_looked,
    refuse_unknown_advisory,
    refuse_unusable,
)
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check


def advisory(bounds: Thresholds, *names: str) -> Thresholds:
    return msgspec.structs.replace(bounds, advisory=names)


def made(*names: str) -> list[Check]:
    return [Check(name, 0.0, 1.0, passed=True, blocking=True, detail="") for name in names]


def test_all_families_and_the_safety_ones_alone_are_fine() -> None:
    refuse_unusable(SAFETY)
    refuse_unusable(tuple(CHECKS))


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ((*SAFETY, "slice"), "'slice' is no family .did you mean 'slices'"),
        ((*SAFETY, "export"), "'export' is there twice"),
        (("coverage", "ranking"), "'leakage' is missing, .*'export' is missing"),
        ((), "'coverage' is missing"),
    ],
)
def test_what_nobody_could_ask_for_is_refused(gates: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refuse_unusable(gates)


def test_a_misspelt_advisory_check_is_refused(bounds: Thresholds) -> None:
    found = {"export": made("onnx_difference", "latency_p95_ms")}
    with pytest.raises(ConfigError, match=r"'latency_p95' \(did you mean 'latency_p95_ms'\?\)"):
        refuse_unknown_advisory(found, advisory(bounds, "latency_p95"))


def test_a_check_that_a_family_did_not_make_is_unknown_once_it_has_looked(bounds: Thresholds) -> None:
    policy = advisory(bounds, "worst_orign_auc")
    with pytest.raises(ConfigError, match="did you mean 'worst_origin_auc'"):
        refuse_unknown_advisory({"segments": made("worst_origin_auc")}, policy)


@pytest.mark.parametrize(
    "found", [{}, {"segments": [could_not_run("segments", "no such column")]}], ids=["not asked", "could not look"]
)
def test_a_check_of_a_family_that_did_not_look_may_be_advisory(
    bounds: Thresholds, found: dict[str, list[Check]]
) -> None:
    refuse_unknown_advisory(found, advisory(bounds, "worst_origin_auc"))


def test_a_family_has_looked_if_it_was_asked_and_could() -> None:
    found = {"export": made("onnx_difference"), "slices": [could_not_run("slices", "no such column")]}
    assert [has_looked(found, name) for name in ("export", "slices", "package")] == [True, False, False]
