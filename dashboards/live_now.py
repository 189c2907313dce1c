"""The three cards of the overview: champion, canary, and what waits for a person."""

import streamlit as st

from dashboards.releases import Decisions, last_promotion, stage_badge, went_live
from dashboards.wording import count, moment, plain, share, short
from flightdeck.release.record import Record
from flightdeck.release.stages import VersionState


def show_live_now(decisions: Decisions) -> None:
    """Show what decides for whom, and since when."""
    champion, canary, waiting = st.columns([4, 4, 3])
    with champion.container(border=True, height="stretch"):
        _show_champion(decisions)
    with canary.container(border=True, height="stretch"):
        _show_canary(decisions)
    with waiting.container(border=True, height="stretch"):
        _show_waiting(decisions)


def _show_champion(decisions: Decisions) -> None:
    state = decisions.state
    if state.champion is None:
        st.markdown("**Champion**")
        st.markdown(
            ":gray-badge[:material/remove: none]  No version is in prod: the service has no model to answer with."
        )
        return
    _show_version("Champion", state.versions[state.champion], went_live(decisions.records, state.champion))


def _show_canary(decisions: Decisions) -> None:
    state = decisions.state
    if state.canary is None:
        st.markdown("**Canary**")
        st.markdown(":gray-badge[:material/remove: none]  Every unit gets the champion.")
        return
    version = state.versions[state.canary]
    _show_version("Canary", version, last_promotion(decisions.records, state.canary))
    st.progress(version.canary_share, text=f"decides for {share(version.canary_share)} of the units")


def _show_version(role: str, version: VersionState, since: Record | None) -> None:
    st.markdown(f"**{role}** :gray[· {plain(version.model_name)}]")
    st.markdown(f"### Version {version.version}  {stage_badge(version)}")
    lines = [f":gray[bundle] `{short(version.digest)}`"]
    if since is not None:
        lines.append(f":gray[since] {moment(since.recorded_at)} :gray[by] {plain(since.actor)}")
    lines.append(f":gray[approved by] {plain(', '.join(version.approved_by)) or 'nobody'}")
    st.markdown("  \n".join(lines))


def _show_waiting(decisions: Decisions) -> None:
    waiting = [v for v in decisions.state.versions.values() if v.stage in ("candidate", "staging", "shadow")]
    st.markdown("**Waiting for a decision**")
    if not waiting:
        st.markdown(":green-badge[:material/check: nothing waits]")
    else:
        newest = max(waiting, key=lambda v: v.version)
        st.markdown(f"### {count(len(waiting), 'version')}")
        st.markdown(f"newest: version {newest.version}  {stage_badge(newest)}")
    st.page_link("screens/releases.py", label="Go to releases", icon=":material/arrow_forward:", icon_position="right")
