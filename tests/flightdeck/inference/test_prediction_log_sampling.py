from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.inference.prediction_log_sampling import Sampling
from tests.predictions import log_batch

UNITS = [f"unit-{n}" for n in range(4000)]


def kept(rates: dict[str, float], surface: str = "search") -> set[str | None]:
    batch, _ = Sampling(rates).select(log_batch([{"unit_id": unit, "surface": surface} for unit in UNITS]))
    return set(batch.unit_id)


@given(
    rows=st.lists(st.tuples(st.sampled_from(UNITS[:20]), st.sampled_from(["search", "alerts"])), max_size=40),
    rate=st.floats(0.05, 1.0),
)
def test_a_unit_is_wholly_in_or_wholly_out(rows: list[tuple[str, str]], rate: float) -> None:
    records = [{"unit_id": unit, "surface": surface, "features": [1.0]} for unit, surface in rows]
    if not records:
        return
    sample, weights = Sampling({"search": rate}).select(log_batch(records))
    units_in = kept({"search": rate})
    expected = [(unit, surface) for unit, surface in rows if surface == "alerts" or unit in units_in]
    assert list(zip(sample.unit_id, sample.surface, strict=True)) == expected
    wanted = [1 / rate if surface == "search" else 1.0 for _, surface in expected]
    assert (weights if weights is not None else np.ones(len(sample))).tolist() == wanted


def test_the_share_of_units_is_the_rate_and_a_higher_rate_keeps_them_all() -> None:
    few, many = kept({"search": 0.1}), kept({"search": 0.5})
    assert len(few) == pytest.approx(400, abs=80) and len(many) == pytest.approx(2000, abs=130)
    assert few < many
    assert kept({"search": 0.1}, surface="alerts") == set(UNITS)


def test_sums_by_weight_are_unbiased_over_units_and_clustered_by_them() -> None:
    """A unit with all the traffic is counted many times over or not at all: the documented bias."""
    records = [{"unit_id": unit, "surface": "search"} for unit in UNITS for _ in range(3)]
    _, weights = Sampling({"search": 0.1}).select(log_batch(records))
    assert weights is not None and weights.sum() == pytest.approx(len(records), rel=0.2)
    busy = [{"unit_id": "only", "surface": "search"}] * 50
    sample, _ = Sampling({"search": 0.1}).select(log_batch(busy))
    assert Counter(sample.unit_id) in (Counter(), Counter({"only": 50}))
