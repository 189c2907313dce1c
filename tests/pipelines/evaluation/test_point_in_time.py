"""The law of point-in-time: what leaks is found, what cannot be looked at is no pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flightdeck.core.errors import ConfigError, ContractViolation
from flightdeck.core.layout import Layout, layout
from flightdeck.features.entity_frame import EntityFrame
from flightdeck.gates.assessment import run_families
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from pipelines.evaluation.families import FAMILIES
from pipelines.evaluation.point_in_time import point_in_time
from pipelines.features import training_frame
from tests.event_streams import MINUTE_US
from tests.pipelines.evaluation.trained import change_json, change_rows, evidence_of, write_trained

Leak = Callable[[Any, Any, Any], EntityFrame]
LEAKS: dict[str, Leak] = {
    "a microsecond": lambda columns, at_us, until_us: EntityFrame(columns, at_us, until_us + 1),
    "the publication lag": lambda columns, at_us, until_us: EntityFrame(columns, at_us, at_us),
    "ten minutes": lambda columns, at_us, until_us: EntityFrame(columns, at_us + 10 * MINUTE_US, None),
    "five hours": lambda columns, at_us, until_us: EntityFrame(columns, at_us + 300 * MINUTE_US, None),
}


def look(place: Layout, bounds: Thresholds) -> dict[str, Check]:
    return {check.name: check for check in point_in_time(evidence_of(place), bounds)}


def test_rows_that_know_nothing_of_the_future_pass(trained: Layout, bounds: Thresholds) -> None:
    found = look(trained, bounds)
    assert list(found) == ["point_in_time_columns", "point_in_time_future"]
    assert all(check.passed and check.blocking and check.value == 0 for check in found.values())
    assert "600 training rows" in found["point_in_time_columns"].detail
    n_seen_later = int(found["point_in_time_future"].detail.partition("an hour later ")[2].split()[0])
    assert n_seen_later > 50


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_a_join_that_knows_more_than_it_may_fails_though_the_draft_agrees_with_it(
    leak: Leak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: Thresholds
) -> None:
    monkeypatch.setattr(training_frame, "EntityFrame", leak)
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    write_trained(tmp_path)
    found = look(layout(), bounds)
    assert found["point_in_time_columns"].passed
    assert not found["point_in_time_future"].passed and found["point_in_time_future"].value


@pytest.mark.parametrize(
    ("name", "column"),
    [("inputs", "origin_overdue__open"), ("features", "block_min"), ("features", "all_departures__count_60m")],
)
def test_one_value_of_the_sample_that_the_log_does_not_give_fails(
    name: str, column: str, trained: Layout, bounds: Thresholds
) -> None:
    def spoil(rows: pd.DataFrame) -> pd.DataFrame:
        values = rows[column].to_numpy().copy()
        values[7] = np.nextafter(values[7], values.dtype.type(np.inf))
        return rows.assign(**{column: values})

    change_rows(trained.draft_bundle / "reference" / f"{name}.parquet", spoil)
    found = look(trained, bounds)
    assert found["point_in_time_columns"].value == 1 and not found["point_in_time_columns"].passed
    assert f"{column} (1 rows)" in found["point_in_time_columns"].detail
    assert found["point_in_time_future"].passed


def test_another_column_than_was_declared_fails(trained: Layout, bounds: Thresholds) -> None:
    column = "carrier_departures__count_60m"
    change_rows(
        trained.draft_bundle / "reference" / "inputs.parquet",
        lambda rows: rows.assign(**{column: rows["origin_departures__count_60m"]}),
    )
    assert column in look(trained, bounds)["point_in_time_columns"].detail


def test_tampering_that_nobody_could_see_is_no_pass(trained: Layout, bounds: Thresholds) -> None:
    change_rows(
        trained.draft_bundle / "reference" / "inputs.parquet",
        lambda rows: rows.assign(request_us=rows["request_us"] + 10**12),
    )
    with pytest.raises(ContractViolation, match="do not see what was removed, shuffled"):
        look(trained, bounds)


def test_another_log_or_a_record_that_says_too_little_could_not_run(trained: Layout, bounds: Thresholds) -> None:
    training = trained.draft_bundle / "training.json"
    versions = evidence_of(trained).training["data_versions"]
    change_json(training, data_versions={**versions, "departed": {**versions["departed"], "digest": "0" * 64}})
    (check,) = run_families(["point_in_time"], FAMILIES, evidence_of(trained), bounds)["point_in_time"]
    assert (check.name, check.passed, check.blocking) == ("point_in_time", False, True)
    assert check.detail.startswith("could not run: ") and "this is another log" in check.detail
    change_json(training, training_set=None)
    with pytest.raises(ConfigError, match="says nothing of training_set"):
        look(trained, bounds)


def test_a_sample_without_a_column_could_not_run(trained: Layout, bounds: Thresholds) -> None:
    change_rows(trained.draft_bundle / "reference" / "inputs.parquet", lambda rows: rows.drop(columns="tailnum"))
    with pytest.raises(ContractViolation, match="columns missing: tailnum"):
        look(trained, bounds)
