"""Runbooks: what to do about an alert, and how each stage is run and rolled back. The files of docs/runbooks."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import streamlit as st

from dashboards.panels import explained, show_header
from dashboards.sources import Unreadable
from flightdeck.core.errors import NotFoundError
from flightdeck.core.layout import PROJECT

RUNBOOKS = PROJECT / "docs" / "runbooks"
PARAMETER = "name"
_LINK = re.compile(r"\[(?P<words>[^\]]+)\]\((?!https?:|#)(?P<target>[^)#\s]+)[^)]*\)")


def show_runbooks(folder: Path) -> None:
    """Show the runbook that the address names, or a choice of all."""
    show_header("Runbooks", "What to do about an alert, and how each stage is run and rolled back.")
    with explained():
        found = {path.stem: path for path in sorted(folder.glob("*.md"))}
        if not found:
            raise NotFoundError("there is no runbook in docs/runbooks", next_step="git checkout docs/runbooks")
        asked = st.query_params.get(PARAMETER, "")
        if asked and asked not in found:
            st.warning(f"There is no runbook called `{asked[:80]}`; these are there:", icon=":material/search_off:")
        names = list(found)
        name = st.selectbox("Runbook", names, index=names.index(asked) if asked in found else 0, width=420)
        st.query_params[PARAMETER] = name
        try:
            text = found[name].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(f"{found[name].name} cannot be read: {error}", next_step="restore it from git") from error
        with st.container(border=True):
            st.markdown(_with_links(text, found))


def _with_links(text: str, found: Mapping[str, Path]) -> str:
    """Let links to other runbooks open here; name the file of any other one of the repository."""

    def rewritten(link: re.Match[str]) -> str:
        words, target = link["words"], PurePosixPath(link["target"])
        if target.parent == PurePosixPath() and target.stem in found:
            return f"[{words}](runbooks?{PARAMETER}={target.stem})"
        return f"{words} (`{target}`)"

    return _LINK.sub(rewritten, text)


show_runbooks(RUNBOOKS)
