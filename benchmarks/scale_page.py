"""A page with measured figures as a JSON block and a table that follows from them.

After new measurements: correct the block and run the page's module, which writes the table anew. A test compares them.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DAY_S = 86_400
FIGURES = re.compile(r"```json\n(.*?)```", re.DOTALL)
TABLE = re.compile(r"(<!-- begin table -->\n).*?(<!-- end table -->)", re.DOTALL)
Given = dict[str, Any]
Rows = Callable[[Given], Sequence[Sequence[str]]]


def figures(page: str) -> Given:
    """Return the figures of a page.

    Raises
    ------
    ValueError
        If it has none.
    """
    found = FIGURES.search(page)
    if found is None:
        raise ValueError("the page has no figures")
    given: Given = json.loads(found[1])
    return given


def rewritten(page: str, heads: Sequence[str], rows: Rows) -> str:
    """Return a page with its table made from its figures: columns named `heads`, a line for each of `rows`."""
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(figures(page))]
    table = "\n".join(lines) + "\n"
    return TABLE.sub(lambda part: part[1] + table + part[2], page)


def rewrite(path: Path, heads: Sequence[str], rows: Rows) -> list[list[str]]:
    """Write the table of a page anew and return its lines."""
    page = rewritten(path.read_text(encoding="utf-8"), heads, rows)
    path.write_text(page, encoding="utf-8")
    return [list(row) for row in rows(figures(page))]
