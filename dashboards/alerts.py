"""The list of alerts: what breaks its bound now, what the ledger remembers, each with its runbook."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import msgspec
import streamlit as st

from dashboards import reports
from dashboards.panels import show_hint, show_section
from dashboards.reports import Alert
from dashboards.wording import count, duration, figure, moment, plain, share
from flightdeck.monitoring.alerts import DEGRADED, FRESHNESS
from flightdeck.release.record import Record

N_SHOWN = 20


def show_alerts(now: Sequence[Alert], records: Sequence[Record], *, is_judged: bool) -> None:
    """Show the alerts of the newest judgement, then those that only the ledger has, newest first.

    Parameters
    ----------
    now
        Alerts of the newest summary.
    records
        All records of the ledger.
    is_judged
        Whether monitoring has looked at all.
    """
    show_section("Alerts")
    recorded = {alert.key: (record, alert) for record, alert in map(_recorded, records) if alert is not None}
    past = [pair for key, pair in recorded.items() if key not in {alert.key for alert in now}]
    if not now and not is_judged:
        show_hint("monitoring has not looked yet", reports.MONITOR)
    elif not now:
        st.markdown(":green-badge[:material/check_circle: No alert] :gray[in the newest judgement]")
    for alert in now[:N_SHOWN]:
        _show_alert(alert, recorded[alert.key][0] if alert.key in recorded else None, is_now=True)
    if past:
        with st.expander(f"Earlier: {count(len(past), 'alert')} in the ledger"):
            for record, alert in reversed(past[-N_SHOWN:]):
                _show_alert(alert, record, is_now=False)


def _recorded(record: Record) -> tuple[Record, Alert | None]:
    """Return a record with the alert in it, None where it is something else."""
    if record.action != "alert":
        return record, None
    try:
        alert = msgspec.convert(record.detail, Alert)
    except msgspec.ValidationError:
        alert = Alert(name=str(record.detail.get("name", "alert")))
    return record, alert if alert.key else msgspec.structs.replace(alert, key=f"record {record.seq}")


def _show_alert(alert: Alert, record: Record | None, *, is_now: bool) -> None:
    with st.container(border=is_now, horizontal=True, vertical_alignment="center", gap="medium"):
        look = ":red-badge[:material/error: Alert]" if is_now else ":gray-badge[:material/history: Earlier]"
        said = [f"{look}  **{plain(alert.name)}**"]
        said += [f":gray[about] {_about(alert)}"] if alert.about else []
        said += [f":gray[on] {plain(alert.day)}"] if alert.day else []
        said += (
            [f":gray[·] {_value(alert, alert.value)} :gray[against] {_value(alert, alert.threshold)}"]
            if alert.day
            else []
        )
        said += [plain(alert.what)] if alert.what else []
        said += [f":gray[· record {record.seq}, {moment(record.recorded_at)}]"] if record else []
        st.markdown(" ".join(said), width="stretch")
        if alert.runbook:
            name = PurePosixPath(alert.runbook).stem
            st.page_link(
                "screens/runbooks.py", label="Runbook", icon=":material/menu_book:", query_params={"name": name}
            )


def _about(alert: Alert) -> str:
    return f"version {alert.about}" if alert.about.isdigit() else plain(alert.about)


def _value(alert: Alert, value: float | None) -> str:
    """Return a value in the unit of its alert."""
    if alert.name == FRESHNESS:
        return duration(value)
    return share(value) if alert.name == DEGRADED else figure(value)
