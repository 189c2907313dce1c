"""A slice fails when it is shown to be worse than the champion's, and a healthy draft does not fail by chance."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from flightdeck.core.errors import ConfigError
from flightdeck.gates.evidence import Evidence
from flightdeck.gates.slices import slice_checks, slice_table
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check

SEED_NOISE = 0.19  # of the log odds: two trainings on the real data that differ in the seed are 0.27 apart


def noisy(evidence: Evidence, seed: int) -> np.ndarray:
    """Return the probabilities that another seed would have given."""
    noise = np.random.default_rng(seed).normal(0, SEED_NOISE, len(evidence.predictions))
    odds = evidence.probability / (1 - evidence.probability) * np.exp(noise)
    return odds / (1 + odds)


def against_champion(evidence: Evidence, ours: np.ndarray | None = None, seed: int = 0) -> Evidence:
    champion = evidence.predictions.assign(probability=noisy(evidence, seed))
    mine = noisy(evidence, seed + 1000) if ours is None else ours
    return replace(evidence, predictions=evidence.predictions.assign(probability=mine), champion=champion)


def look(evidence: Evidence, bounds: Thresholds) -> dict[str, Check]:
    return {check.name: check for check in slice_checks(evidence, bounds)}


@pytest.mark.parametrize("seed", range(5))
def test_another_seed_fails_at_no_slice(good: Evidence, bounds: Thresholds, seed: int) -> None:
    found = look(against_champion(good, seed=seed), bounds)
    assert list(found) == ["slice_origin", "slice_carrier", "slice_month"]
    assert all(check.passed and check.blocking and check.value is not None for check in found.values())


@pytest.mark.parametrize(("column", "value"), [("origin", "JFK"), ("carrier", "B6"), ("month", "2013-11")])
def test_a_slice_that_got_worse_is_found_and_named(good: Evidence, bounds: Thresholds, column: str, value: str) -> None:
    values = good.month if column == "month" else good.predictions[column]
    odds = good.probability / (1 - good.probability) * np.where(values == value, np.exp(0.5), 1.0)
    found = look(against_champion(good, odds / (1 + odds)), bounds)
    assert not found[f"slice_{column}"].passed
    assert value in found[f"slice_{column}"].detail
    assert all(check.passed for name, check in found.items() if name != f"slice_{column}")


def test_the_table_has_every_slice_with_enough_rows_and_its_interval(good: Evidence, bounds: Thresholds) -> None:
    table = slice_table(against_champion(good), bounds)
    assert table.groupby("column")["rows"].sum().tolist() == [len(good.predictions)] * 3
    assert ((table["low"] < table["excess"]) & (table["excess"] < table["high"])).all()
    few = msgspec.structs.replace(bounds, n_rows_a_month_at_least=12_000)
    assert set(slice_table(against_champion(good), few)["column"]) == {"origin"}


def test_more_slices_make_each_interval_wider(good: Evidence, bounds: Thresholds) -> None:
    both = against_champion(good)
    alone = msgspec.structs.replace(bounds, slice_log_loss_excess_at_most={"origin": 0.005})
    few = slice_table(both, alone).set_index("slice")
    many = slice_table(both, bounds).query("column == 'origin'").set_index("slice")
    assert (many["low"] < few["low"]).all()


def test_no_champion_passes_and_a_lost_or_foreign_one_is_unknown(good: Evidence, bounds: Thresholds) -> None:
    first = look(good, bounds)
    assert all(check.passed and "no champion yet" in check.detail for check in first.values())
    lost = look(replace(good, champion_problem="missing: model.onnx"), bounds)
    elsewhere = good.predictions.assign(flight_id="other " + good.predictions["flight_id"])
    foreign = look(replace(good, champion=elsewhere), bounds)
    for check in (*lost.values(), *foreign.values()):
        assert (check.value, check.passed, check.blocking) == (None, False, True)
    assert "missing: model.onnx" in lost["slice_month"].detail


def test_a_column_that_is_not_there_is_refused(good: Evidence, bounds: Thresholds) -> None:
    misspelt = msgspec.structs.replace(bounds, slice_log_loss_excess_at_most={"orign": 0.005})
    with pytest.raises(ConfigError, match="did you mean 'origin'"):
        slice_checks(against_champion(good), misspelt)
