"""Quality by window and day, over mature rows only."""

import numpy as np
import pandas as pd
import pytest

from flightdeck.monitoring.quality import (
    DAY_COLUMNS,
    WINDOW_COLUMNS,
    measure_quality,
    quality_by_day,
    quality_by_window,
)
from tests.flightdeck.monitoring.samples import prediction_rows

HOUR_US = 3_600_000_000


def labelled(**columns: list[float]) -> pd.DataFrame:
    rows = prediction_rows(6, request_us=[0, 1, HOUR_US - 1, HOUR_US, HOUR_US, 3 * HOUR_US])
    truth: dict[str, list[float]] = {
        "label": [1.0, 0.0, np.nan, 1.0, 1.0, np.nan],
        "is_mature": [True, True, False, True, True, False],
    }
    return rows.assign(**{**truth, "probability": [0.9, 0.2, 0.4, 0.6, 0.8, 0.5], **columns})


def test_windows_of_request_time() -> None:
    found = quality_by_window(labelled(), 3600)
    assert tuple(found.columns) == WINDOW_COLUMNS
    assert found["n_labelled"].tolist() == [2, 2, 0] and found["n_pending"].tolist() == [1, 0, 1]
    assert found["window_start"][1] == pd.Timestamp("1970-01-01 01:00", tz="UTC") == found["window_end"][0]
    np.testing.assert_allclose(found["auc"], [1.0, np.nan, np.nan])
    np.testing.assert_allclose(found["log_loss"][0], -(np.log(0.9) + np.log(0.8)) / 2)
    np.testing.assert_allclose(found["mean_probability"], [0.55, 0.7, np.nan])


def test_refused_answers_have_no_quality() -> None:
    found = quality_by_window(labelled(probability=[np.nan] * 3 + [0.5] * 3), 3600)
    assert found["n_labelled"].tolist() == [2, 0]


def test_gap_by_day() -> None:
    rows = labelled()
    found = quality_by_day(rows, pd.Series(["d1"] * 3 + ["d2"] * 3, index=rows.index))
    assert found["day"].tolist() == ["d1", "d2"] and found["n_pending"].tolist() == [1, 1]
    np.testing.assert_allclose(found["gap"], [0.5 - 0.55, 1.0 - 0.7])


def test_empty_in_empty_out_with_the_same_types() -> None:
    none = labelled().iloc[:0]
    assert quality_by_window(none, 3600).dtypes.equals(quality_by_window(labelled(), 3600).dtypes)
    assert tuple(quality_by_day(none, none["flight_id"]).columns) == DAY_COLUMNS


@pytest.mark.parametrize("label", [[], [1.0], [1.0, 1.0]])
def test_undefined_measures_are_nan(label: list[float]) -> None:
    assert np.isnan(measure_quality(np.array(label), np.full(len(label), 0.5))["auc"])
