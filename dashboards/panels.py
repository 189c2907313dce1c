"""What all pages share: header, tiles, tables, and the words for what is not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.objectives import Status, Tile
from dashboards.wording import plain
from flightdeck.core.errors import FlightdeckError, NotFoundError

LOOKS: dict[Status, tuple[str, str]] = {
    Status.MET: (":material/check_circle:", "green"),
    Status.BREACHED: (":material/error:", "red"),
    Status.UNKNOWN: (":material/hourglass_empty:", "gray"),
}
PAGE_HEIGHT_PX = 900
ROW_HEIGHT_PX = 35


@contextmanager
def explained() -> Iterator[None]:
    """Show what the block raises for people in its place: what is missing as a hint, what is broken as an error."""
    try:
        yield
    except NotFoundError as error:
        show_hint(error.message, error.next_step)
    except FlightdeckError as error:
        show_error(error)


def show_hint(message: str, next_step: str = "") -> None:
    """Say that there is nothing yet, and what makes it."""
    with st.container(border=True):
        st.markdown(f":gray-badge[:material/hourglass_empty: Nothing yet]  {_with_step(message, next_step)}")


def show_error(error: FlightdeckError) -> None:
    """Show an error of ours as words."""
    st.error(_with_step(error.message, error.next_step, between="\n\n"), icon=":material/error:")


def show_header(title: str, sentence: str) -> None:
    """Show the title of a page and the sentence that says what it is for."""
    st.title(title, anchor=False)
    st.markdown(f":gray[{sentence}]")


def show_section(title: str, sentence: str = "") -> None:
    """Begin a section; `sentence` is Markdown."""
    st.subheader(title, anchor=False)
    if sentence:
        st.markdown(f":gray[{sentence}]")


def show_status(status: Status, text: str = "") -> None:
    """Show a status as a badge: icon, word and colour."""
    icon, colour = LOOKS[status]
    st.markdown(f":{colour}-badge[{icon} {plain(text) or status.value}]")


def show_tiles(tiles: list[Tile]) -> None:
    """Show objectives side by side, all of one height."""
    for column, tile in zip(st.columns(len(tiles)), tiles, strict=True):
        with column.container(border=True, height="stretch"):
            st.metric(tile.title, tile.value)
            icon, colour = LOOKS[tile.status]
            st.markdown(f":{colour}-badge[{icon} {tile.status.value}]  :small[{plain(tile.objective)}]")
            st.caption(plain(tile.detail))


def show_table(frame: pd.DataFrame) -> None:
    """Show a short table in full; its cells are Markdown."""
    if frame.empty:
        st.markdown(":gray[None recorded.]")
    else:
        st.table(frame, border="horizontal", hide_index=True)


def show_rows(rows: pd.DataFrame, *, height: int = 420, **columns: Any) -> None:
    """Show a long table that can be sorted and searched; `columns` are Streamlit's column configurations."""
    fits = len(rows) <= height // ROW_HEIGHT_PX - 1
    st.dataframe(rows, hide_index=True, height="content" if fits else height, column_config=columns)


def show_page(path: Path, name: str) -> None:
    """Show an HTML page inside this one."""
    st.iframe(path, height=PAGE_HEIGHT_PX, alt=name)


def _with_step(message: str, next_step: str, *, between: str = "  \n") -> str:
    sentence = plain(message[:1].upper() + message[1:])
    return f"{sentence}{between}**Next step:** {_command(next_step)}" if next_step else sentence


def _command(step: str) -> str:
    """Return a step that is one command as code, anything else as text."""
    return f"`{step}`" if step.startswith(("kedro ", "make ")) and "," not in step else plain(step)
