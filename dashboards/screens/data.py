"""Data and freshness: what came in, what was kept out and why, the streams, and how old everything is."""

import pandas as pd
import streamlit as st

from dashboards import reports
from dashboards.panels import explained, show_header, show_rows, show_section, show_table
from dashboards.reports import PIPELINE, Ingestion, SourceCounts
from dashboards.sources import N_QUARANTINED_SHOWN, read_quarantine
from dashboards.wording import NOTHING, count, duration, moment, plain, short
from flightdeck.core.errors import NotFoundError
from flightdeck.core.layout import Layout, layout

ANY_REASON = "any reason"
N_REASONS_SHOWN = 3


def show_data() -> None:
    """Show the page."""
    where = layout()
    show_header("Data & freshness", "What came in, what was kept out and why, and how old everything is.")
    show_section("Ingestion", "Every row of a source is accepted or in quarantine with its reason: the two add up.")
    with explained():
        ingestion = reports.read_ingestion(where)
        show_table(_sources(ingestion))
        _show_quarantine(where, ingestion)
    show_section("Event streams", "Append-only and versioned; a training set names the versions that it read.")
    with explained():
        streams = reports.read_ingestion(where).streams
        if not streams:
            raise NotFoundError("the last ingestion wrote no stream", next_step=PIPELINE)
        show_table(_streams(streams))
    show_section("Freshness", "Age at the time that monitoring judged, against what each source promises.")
    with explained():
        freshness = reports.read_freshness(where)
        if freshness.empty:
            raise NotFoundError("nothing was measured: no request and no fed store yet", next_step=reports.REPLAY)
        show_table(_freshness(freshness))


def _sources(ingestion: Ingestion) -> pd.DataFrame:
    if not ingestion.sources:
        raise NotFoundError("the last ingestion read no source", next_step=PIPELINE)
    return pd.DataFrame(
        [
            {
                "Source": f"**{plain(name)}**",
                "Rows in": f"{counts.n_rows:,}",
                "Accepted": f"{counts.n_accepted:,}",
                "Quarantined": f"{counts.n_quarantined:,}",
                "Balance": _balance(counts),
                "Reasons": _reasons(counts),
            }
            for name, counts in ingestion.sources.items()
        ]
    )


def _balance(counts: SourceCounts) -> str:
    if counts.n_rows == counts.n_accepted + counts.n_quarantined:
        return ":green-badge[:material/check: adds up]"
    return ":red-badge[:material/error: does not add up]"


def _reasons(counts: SourceCounts) -> str:
    first = sorted(counts.reasons.items(), key=lambda item: -item[1])
    said = [f"{n:,} × {plain(reason)}" for reason, n in first[:N_REASONS_SHOWN]]
    more = [f"and {count(len(first) - N_REASONS_SHOWN, 'more reason')}"] if len(first) > N_REASONS_SHOWN else []
    return "; ".join(said + more) or NOTHING


def _show_quarantine(where: Layout, ingestion: Ingestion) -> None:
    """Let people look into the rows that were kept out."""
    held = {name: counts for name, counts in ingestion.sources.items() if counts.n_quarantined}
    if not held:
        st.markdown(":green-badge[:material/check: The quarantine is empty]")
        return
    n_held = sum(counts.n_quarantined for counts in held.values())
    with st.expander(f"Look into the quarantine: {count(n_held, 'row')}"):
        left, right = st.columns([1, 3])
        source = left.selectbox("Source", list(held))
        reason = right.selectbox("Reason", [ANY_REASON, *held[source].reasons])
        with explained():
            found = read_quarantine(
                where.quarantine / f"{source}.parquet",
                reason=None if reason == ANY_REASON else reason,
                made_by=PIPELINE,
            )
            if found.rows.empty:
                raise NotFoundError("the quarantine of this source holds no such row", next_step=PIPELINE)
            show_rows(
                found.rows.astype("string"),
                line=st.column_config.TextColumn("Line in file", width="small"),
                reason=st.column_config.TextColumn("Reason", width="large"),
            )
            if found.n_rows > N_QUARANTINED_SHOWN:
                st.caption(f"The first {N_QUARANTINED_SHOWN} of {count(found.n_rows, 'row')}.")


def _streams(streams: dict[str, reports.StreamNow]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "Stream": f"**{plain(name)}**",
                "Version": str(now.version),
                "Events": NOTHING if now.n_rows is None else f"{now.n_rows:,}",
                "Digest": f"`{short(now.digest)}`",
            }
            for name, now in streams.items()
        ]
    )


def _freshness(freshness: pd.DataFrame) -> pd.DataFrame:
    rows = freshness.sort_values(["breached", "name"], ascending=[False, True])
    return pd.DataFrame(
        [
            {
                "Source": f"**{plain(name)}**",
                "Status": ":red-badge[:material/error: late]" if late else ":green-badge[:material/check: fresh]",
                "Age": duration(age_s),
                "Allowed": duration(slo_s),
                "Last heard": NOTHING if pd.isna(at) else moment(at),
            }
            for name, late, age_s, slo_s, at in zip(
                rows["name"], rows["breached"], rows["age_s"], rows["slo_s"], rows["last_event_at"], strict=True
            )
        ]
    )


show_data()
