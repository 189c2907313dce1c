import json
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import PROJECT
from flightdeck.inference.surfaces import read_surfaces, sealed_surfaces

CONTENT = sealed_surfaces(yaml.safe_load((PROJECT / "conf/base/surfaces.yml").read_text("utf-8")))
SURFACES = read_surfaces(CONTENT, where="conf")


@pytest.mark.parametrize(
    ("surface", "probability", "decision"),
    [
        ("search", 0.0, "low"),
        ("search", 0.2499, "low"),
        ("search", 0.25, "moderate"),
        ("search", 0.5, "high"),
        ("search", 1.0, "high"),
        ("itinerary", 0.75, "very_likely_late"),
        ("alerts", 0.5999, "no_alert"),
        ("alerts", 0.6, "alert"),
        ("alerts", float("nan"), None),
    ],
)
def test_decisions_of_the_shipped_surfaces(surface: str, probability: float, decision: str | None) -> None:
    assert SURFACES.decide(surface, np.array([probability])) == [decision]


def test_a_bundle_with_sorted_keys_means_the_same() -> None:
    sealed = read_surfaces(json.loads(json.dumps(CONTENT, sort_keys=True)), where="bundle")
    grid = np.linspace(0, 1, 101)
    assert all(sealed.decide(name, grid) == SURFACES.decide(name, grid) for name in CONTENT)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_decisions_ascend_with_the_probability(values: list[float]) -> None:
    order = list(CONTENT["itinerary"]["decisions"])
    found = [order.index(str(label)) for label in SURFACES.decide("itinerary", np.array(sorted(values)))]
    assert found == sorted(found)


@pytest.mark.parametrize(
    "decisions",
    [{}, {"low": 0.1}, {"low": 0.0, "high": 1.1}, {"low": 0.0, "high": 0.0}, {"low": 0.0, "high": float("nan")}],
)
def test_thresholds_that_leave_gaps_or_never_hold_are_refused(decisions: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="decisions"):
        read_surfaces({"search": {"decisions": decisions}}, where="test")


@pytest.mark.parametrize("content", [None, [], {}, {"search": 3}, {"search": {"decision": {"low": 0.0}}}])
def test_other_forms_are_refused(content: Any) -> None:
    with pytest.raises(ConfigError):
        read_surfaces(content, where="test")


def test_an_unknown_surface_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'alerts'"):
        SURFACES.decide("alert", np.array([0.5]))
