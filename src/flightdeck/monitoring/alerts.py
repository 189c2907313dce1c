"""Alerts: breaches that somebody has to look at, each with its runbook, in the ledger once.

An alert is about something (a day, a stream) on a day. Judging the same day again finds the same breach, perhaps with
another value: it is not recorded twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from flightdeck.monitoring.drift import PREDICTION, Drift
from flightdeck.monitoring.skew import SkewAudit
from flightdeck.monitoring.thresholds import Bounds
from flightdeck.release.ledger import Ledger, LedgerMoved

ACTION, ACTOR, SUBJECT = "alert", "monitoring", "-"
CALIBRATION, LOG_LOSS, INPUT_DRIFT, PREDICTION_DRIFT, SKEW, FRESHNESS, DEGRADED, SCHEMA_CHANGE = NAMES = (
    "calibration",
    "log-loss",
    "input-drift",
    "prediction-drift",
    "training-serving-skew",
    "freshness",
    "degraded-answers",
    "schema-change",
)
ATTEMPTS = 10


@dataclass(frozen=True)
class Alert:
    """One breach.

    Parameters
    ----------
    name
        One of `NAMES`; the runbook is called after it.
    about
        What broke the bound: a day, a stream, a model version.
    day
        Day (ISO) that was judged.
    value, threshold
        What was measured and the bound that it broke; None where infinite.
    """

    name: str
    about: str
    day: str
    value: float | None
    threshold: float | None

    @property
    def key(self) -> str:
        """What makes two alerts the same."""
        return f"{self.name}/{self.about}/{self.day}"

    def as_json(self) -> dict[str, object]:
        """Return the alert as a JSON object, with its runbook and its key."""
        return {**asdict(self), "runbook": f"docs/runbooks/alert-{self.name}.md", "key": self.key}


def quality_alerts(days: pd.DataFrame, bounds: Mapping[str, Bounds | None], *, about: str) -> list[Alert]:
    """Return an alert for each judged day whose calibration gap or log loss breaks its bound.

    Parameters
    ----------
    days
        Rows of `quality.quality_by_day`, only those that are to be judged.
    bounds
        By alert name; None where unknown.
    about
        Model version.
    """
    found = []
    for name, column in ((CALIBRATION, "gap"), (LOG_LOSS, "log_loss")):
        bound = bounds.get(name)
        for day, value in zip(days["day"], days[column], strict=True):
            broken = bound.broken_by(float(value)) if bound else None
            if broken is not None:
                found.append(Alert(name, about, str(day), float(value), broken))
    return found


def drift_alerts(drift: Drift, *, about: str, day: str) -> list[Alert]:
    """Return an alert if more inputs drift than on a healthy day, and one if the prediction does."""
    found = []
    if drift.n_breached > drift.n_breached_limit:
        found.append(Alert(INPUT_DRIFT, about, day, float(drift.n_breached), drift.n_breached_limit))
    prediction = drift.table[(drift.table["column"] == PREDICTION) & drift.table["breached"]]
    rows = zip(prediction["psi"], prediction["threshold"], strict=True)
    return [*found, *(Alert(PREDICTION_DRIFT, about, day, float(psi), float(limit)) for psi, limit in rows)]


def skew_alerts(audit: SkewAudit, *, day: str) -> list[Alert]:
    """Return an alert for the feature with the most mismatches if any value differs."""
    if not audit.n_mismatched:
        return []
    worst = audit.table.sort_values("n_mismatched", ascending=False, kind="stable").iloc[0]
    return [Alert(SKEW, str(worst["feature"]), day, float(audit.n_mismatched), 0.0)]


def freshness_alerts(freshness: pd.DataFrame, *, day: str) -> list[Alert]:
    """Return an alert for each stream or view that is older than it promises."""
    late = freshness[freshness["breached"]]
    return [
        Alert(FRESHNESS, str(name), day, float(age_s) if age_s != float("inf") else None, float(slo_s))
        for name, age_s, slo_s in zip(late["name"], late["age_s"], late["slo_s"], strict=True)
    ]


def degraded_alerts(share: float, limit: float, *, day: str) -> list[Alert]:
    """Return an alert if more answers than `limit` came from below the model."""
    return [Alert(DEGRADED, "answers", day, share, limit)] if share > limit else []


def record_alerts(ledger: Ledger, alerts: Sequence[dict[str, object]]) -> int:
    """Append the alerts that the ledger does not hold yet and return how many.

    Parameters
    ----------
    ledger
        Release ledger.
    alerts
        What `Alert.as_json` returns.

    Raises
    ------
    ReleaseRefused
        If the ledger cannot be written, or others keep writing to it.
    """
    n_appended = 0
    for alert in alerts:
        n_appended += _record_once(ledger, alert)
    return n_appended


def _record_once(ledger: Ledger, alert: dict[str, object]) -> bool:
    for attempt in range(ATTEMPTS):
        records = ledger.records()
        known = {record.detail.get("key") for record in records if record.action == ACTION}
        if alert["key"] in known:
            return False
        try:
            ledger.append(
                ACTION, actor=ACTOR, subject=SUBJECT, detail=alert, expected_seq=records[-1].seq if records else 0
            )
        except LedgerMoved:
            if attempt == ATTEMPTS - 1:
                raise
        else:
            return True
    return False
