"""Entry of the dashboard: `streamlit run dashboards/app.py` in the project folder.

Streamlit puts the folder of this file on the import path, not the project's, so the project is added before anything
of ours is imported. The pages lie in `screens`: in a folder called `pages` Streamlit would serve them by itself to the
first visitor after a start, without this file (1.67, `PagesManager.uses_pages_directory`).
"""

import sys
from pathlib import Path

import streamlit as st

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:
    sys.path.insert(0, str(HERE.parent))

STYLE = """<style>
.stMainBlockContainer { padding-top: 2.6rem; padding-bottom: 3rem; max-width: 1320px; }
[data-testid="stMetricLabel"] { color: #5d6b7a; }
[data-testid="stTable"] td, [data-testid="stTable"] th { vertical-align: top; }
[data-testid="stTable"] th { color: #5d6b7a; font-weight: 600; white-space: nowrap; }
[data-testid="stTable"] td:not(:last-child) * { white-space: nowrap !important; }
[data-testid="stTable"] [data-testid="stMarkdownContainer"] { max-width: none !important; }
</style>"""


def main() -> None:
    """Show the page that is open."""
    st.set_page_config(
        page_title="Flightdeck", page_icon=str(HERE / "assets" / "icon.svg"), layout="wide", initial_sidebar_state=230
    )
    st.logo((HERE / "assets" / "wordmark.svg").read_text(encoding="utf-8"), size="large")
    st.html(STYLE)
    page = st.navigation(
        [
            st.Page("screens/overview.py", title="Overview", icon=":material/monitoring:", default=True),
            st.Page("screens/releases.py", title="Releases", icon=":material/verified:"),
            st.Page("screens/rollout.py", title="Rollout", icon=":material/flight_takeoff:"),
            st.Page("screens/experiments.py", title="Experiments", icon=":material/science:"),
            st.Page("screens/drift.py", title="Drift & skew", icon=":material/ssid_chart:"),
            st.Page("screens/data.py", title="Data & freshness", icon=":material/database:"),
            st.Page("screens/runbooks.py", title="Runbooks", icon=":material/menu_book:"),
        ]
    )
    page.run()


main()
