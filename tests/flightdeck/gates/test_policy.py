"""Policies are read once and refused where a key or a number makes no sense."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import PROJECT
from flightdeck.gates.families import CHECKS
from flightdeck.gates.policy import read_policies

SHIPPED = PROJECT / "conf"


def rewritten(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = yaml.safe_load((SHIPPED / "base" / "policies.yml").read_text())
    change(content)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "policies.yml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_shipped_policies_grow_stricter_with_the_risk() -> None:
    policies = read_policies(SHIPPED)
    assert policies.low.approvals.n <= policies.medium.approvals.n < policies.high.approvals.n
    assert policies.low.canary[0].share > policies.medium.canary[0].share > policies.high.canary[0].share
    assert all(
        len(tier.emergency.canary) <= len(tier.canary) for tier in (policies.low, policies.medium, policies.high)
    )
    gates = [set(policies.tier(name).gates) for name in ("low", "medium", "high")]
    assert gates[0] < gates[1] < gates[2] == set(CHECKS)
    advisory = [set(policies.tier(name).thresholds.advisory) for name in ("low", "medium", "high")]
    assert advisory[0] > advisory[1] > advisory[2]


@pytest.mark.parametrize("tier", ["low", "medium", "high"])
def test_no_tier_lowers_the_honest_figures(tier: str) -> None:
    bounds = read_policies(SHIPPED).tier(tier).thresholds
    assert bounds.auc_at_least == {"15": 0.77, "120": 0.74}
    assert (bounds.auc_at_most, bounds.ece_at_most, bounds.onnx_difference_at_most) == (0.85, 0.02, 1e-5)
    assert not {"auc_15", "auc_120", "leakage_auc", "ece", "onnx_difference"} & set(bounds.advisory)


def test_an_unknown_tier_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'medium'"):
        read_policies(SHIPPED).tier("medum")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(lowest=c["low"]), "lowest"),
        (lambda c: c["low"].update(approval=1), "approval"),
        (lambda c: c["low"]["thresholds"].update(auc_atleast=1), "auc_atleast"),
        (lambda c: c["low"]["thresholds"].pop("ece_at_most"), "ece_at_most"),
        (lambda c: c["low"]["approvals"].update(n=0), "at least one person"),
        (lambda c: c["low"]["approvals"].update(roles=["a", "b"]), "2 roles need a person each"),
        (lambda c: c["low"]["approvals"].update(valid_for_h=float("inf")), "valid_for_h"),
        (lambda c: c["low"].update(canary=[]), "ascending"),
        (lambda c: c["high"].update(canary=c["high"]["canary"][::-1]), "ascending"),
        (lambda c: c["low"]["canary"][0].update(share=-1.0), "between 0 and 1"),
        (lambda c: c["low"]["canary"][0].update(share=float("nan")), "between 0 and 1"),
        (lambda c: c["low"]["canary"][0].update(share=1.0), "between 0 and 1"),
        (lambda c: c["low"]["canary"][0].update(min_requests=0), "without evidence"),
        (lambda c: c["low"]["canary"][0].update(min_minutes=0), "min_minutes"),
        (lambda c: c["high"]["shadow"].update(failed_pct_at_most=-1), "failed_pct_at_most"),
        (lambda c: c["high"].update(rehearsal_within_h=0), "rehearsal_within_h"),
        (lambda c: c["low"].update(overlap="fight"), "overlap"),
        (lambda c: c["low"]["gates"].append("stabilty"), "'stabilty' is no family .did you mean 'stability'"),
        (lambda c: c["low"]["gates"].remove("leakage"), "'leakage' is missing"),
        (lambda c: c["low"].pop("gates"), "gates"),
        (lambda c: c.pop("high"), "high"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_policies(rewritten(tmp_path, change))
