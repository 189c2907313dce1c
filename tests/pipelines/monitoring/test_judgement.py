"""Which days are judged, and by which bounds."""

import numpy as np
import pandas as pd

from flightdeck.monitoring.alerts import CALIBRATION, LOG_LOSS
from flightdeck.monitoring.champion import ChampionReference
from flightdeck.monitoring.quality import DAY_COLUMNS
from pipelines.monitoring.judgement import judged_days, quality_bounds
from tests.flightdeck.monitoring.samples import monitoring_settings


def test_small_and_immature_days_are_not_judged() -> None:
    rows = [("d1", 49, 0, 0.0, 0.4), ("d2", 50, 51, 0.0, 0.4), ("d3", 50, 50, 0.0, 0.4), ("d4", 0, 0, 0.0, 0.4)]
    days = pd.DataFrame(rows, columns=list(DAY_COLUMNS))
    assert judged_days(days, monitoring_settings())["day"].tolist() == ["d3"]


def test_bounds_come_from_the_champions_days() -> None:
    gaps = np.linspace(-0.2, 0.2, 101)
    days = pd.DataFrame({"positive_rate": 0.3 + gaps, "mean_probability": 0.3, "log_loss": 0.5 + gaps})
    bounds = quality_bounds(ChampionReference(1, "a", {}, days, days), monitoring_settings())
    gap, loss = bounds[CALIBRATION], bounds[LOG_LOSS]
    assert gap is not None and loss is not None
    np.testing.assert_allclose([gap.low, gap.high, loss.high], [-0.19, 0.19, 0.68], atol=0.02)
    assert quality_bounds(ChampionReference(), monitoring_settings()) == {}
