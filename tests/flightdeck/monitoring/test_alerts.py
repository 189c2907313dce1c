"""Each breach is one alert, and one record however often it is judged."""

import threading
from pathlib import Path

import numpy as np
import pandas as pd

from flightdeck.monitoring import alerts
from flightdeck.monitoring.alerts import Alert, record_alerts
from flightdeck.monitoring.drift import TABLE_TYPES as DRIFT_TYPES
from flightdeck.monitoring.drift import Drift, no_drift
from flightdeck.monitoring.freshness import TABLE_TYPES as FRESHNESS_TYPES
from flightdeck.monitoring.skew import TABLE_TYPES as SKEW_TYPES
from flightdeck.monitoring.skew import SkewAudit
from flightdeck.monitoring.thresholds import Bounds
from flightdeck.release.ledger import open_ledger
from flightdeck.release.state import fold
from tests.flightdeck.monitoring.samples import CLOCK

DAY = "2013-09-12"


def test_quality_alerts_name_the_day_and_the_broken_bound() -> None:
    days = pd.DataFrame({"day": ["d1", "d2", "d3"], "gap": [0.0, -0.3, np.nan], "log_loss": [0.4, 0.9, np.nan]})
    bounds = {alerts.CALIBRATION: Bounds(-0.2, 0.2), alerts.LOG_LOSS: Bounds(-np.inf, 0.8)}
    found = alerts.quality_alerts(days, bounds, about="1")
    assert [(a.name, a.day, a.value, a.threshold) for a in found] == [
        ("calibration", "d2", -0.3, -0.2),
        ("log-loss", "d2", 0.9, 0.8),
    ]
    assert alerts.quality_alerts(days, {}, about="1") == []


def test_drift_alerts_need_more_columns_than_a_healthy_day_has() -> None:
    rows = [("a", "input", 2.0, 1.0, True, 9, ""), ("probability", "prediction", 3.0, 1.0, True, 9, "")]
    table = pd.DataFrame(rows, columns=list(DRIFT_TYPES))
    names = [[a.name for a in alerts.drift_alerts(Drift(table, 1, limit), about="1", day=DAY)] for limit in (0, 1)]
    assert names == [["input-drift", "prediction-drift"], ["prediction-drift"]]
    assert alerts.drift_alerts(no_drift(), about="1", day=DAY) == []


def test_skew_freshness_and_degraded_alerts() -> None:
    table = pd.DataFrame([("a", 5, 0, 0.0), ("b", 5, 2, 1.0)], columns=list(SKEW_TYPES))
    assert alerts.skew_alerts(SkewAudit(table, 5, 0), day=DAY) == [Alert("training-serving-skew", "b", DAY, 2.0, 0.0)]
    assert alerts.skew_alerts(SkewAudit(table.iloc[:1], 5, 0), day=DAY) == []
    rows = [("departed", None, np.inf, 60, True), ("arrived", None, 5.0, 60, False)]
    freshness = pd.DataFrame(rows, columns=list(FRESHNESS_TYPES))
    assert alerts.freshness_alerts(freshness, day=DAY) == [Alert("freshness", "departed", DAY, None, 60.0)]
    assert alerts.degraded_alerts(0.5, 0.1, day=DAY)[0].value == 0.5
    assert alerts.degraded_alerts(float("nan"), 0.1, day=DAY) == [] == alerts.degraded_alerts(0.1, 0.1, day=DAY)


def test_an_alert_is_recorded_once(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "ledger.sqlite", CLOCK)
    first = Alert("freshness", "departed", DAY, 90.0, 60.0)
    again = Alert("freshness", "departed", DAY, 95.0, 60.0)
    tomorrow = Alert("freshness", "departed", "2013-09-13", 90.0, 60.0)
    assert record_alerts(ledger, [first.as_json()]) == 1
    assert record_alerts(ledger, [again.as_json(), tomorrow.as_json(), tomorrow.as_json()]) == 1
    records = ledger.records()
    assert [record.detail["day"] for record in records] == [DAY, "2013-09-13"]
    assert {(record.action, record.subject, record.actor) for record in records} == {("alert", "-", "monitoring")}
    assert records[0].detail["runbook"] == "docs/runbooks/alert-freshness.md" and fold(records).seq == 2


def test_two_judges_at_once_record_it_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    found = [Alert("freshness", str(place), DAY, 1.0, 0.0).as_json() for place in range(5)]
    judges = [threading.Thread(target=record_alerts, args=(open_ledger(path, CLOCK), found)) for _ in range(3)]
    for judge in judges:
        judge.start()
    for judge in judges:
        judge.join()
    assert sorted(record.detail["about"] for record in open_ledger(path, CLOCK).records()) == list("01234")


def test_no_alert_makes_no_ledger(tmp_path: Path) -> None:
    assert record_alerts(open_ledger(tmp_path / "ledger.sqlite", CLOCK), []) == 0 and not list(tmp_path.iterdir())
