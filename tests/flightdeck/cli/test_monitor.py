"""The printed summary says what the file says, also where nothing is known."""

from typing import Any

from rich.console import Console

from flightdeck.cli.monitor import print_summary

EMPTY: dict[str, Any] = {
    "as_of": None,
    "message": "no prediction to judge yet",
    "champion": None,
    "n_predictions": 0,
    "n_labelled": 0,
    "n_pending": 0,
    **dict.fromkeys(("auc", "log_loss", "brier", "positive_rate", "mean_probability", "p95_ms", "drift_limit")),
    "drift_columns": [],
    "drift_judged": 0,
    "skew_mismatches": 0,
    "skew_compared": 0,
    "skew_not_auditable": 0,
    "freshness_breaches": [],
    "alerts": [],
    "by_mode": {},
}


def printed(summary: dict[str, Any]) -> str:
    console = Console(width=160, record=True, quiet=False, file=None)
    with console.capture() as capture:
        print_summary(summary, console)
    return capture.get()


def test_nothing_known() -> None:
    text = printed(EMPTY)
    assert "no prediction to judge yet" in text and "never" in text and "no alerts" in text


def test_alerts_with_their_runbooks() -> None:
    alert = {
        "name": "freshness",
        "about": "departed",
        "value": None,
        "threshold": 60.0,
        "runbook": "docs/runbooks/x.md",
    }
    text = printed({**EMPTY, "message": "", "as_of": "2013-09-13", "auc": 0.76543, "champion": 3, "alerts": [alert]})
    assert all(part in text for part in ("version 3", "0.7654", "departed", "unknown", "docs/runbooks/x.md"))
